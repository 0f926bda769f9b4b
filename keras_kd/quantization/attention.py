"""`QuantizedAttention`: multi-head attention in the steps in which TFLite computes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from keras_kd.quantization.affine import QuantizedAffine, range_of
from keras_kd.quantization.double_rounding import rounded_twice
from keras_kd.quantization.in_steps import InSteps


@keras.saving.register_keras_serializable(package="keras_kd")
class QuantizedAttention(InSteps):
    """`softmax(Q Kᵀ / √d) V`, projected in and out, weights and each intermediate result rounded to int8.

    `1 / √d` is multiplied into the weights of the queries. The result is not rounded. There are no masks: the large
    number that stands for minus infinity would take the whole range of the scores.

    Args:
        layer: The built `keras.layers.MultiHeadAttention` that it computes, over one axis.
        decay: That of `FakeQuantize`. Defaults to 0.99.
        **kwargs: As `keras.layers.Layer` takes them.
    """

    steps = ("queries", "keys", "values", "scores", "shares", "context")
    fixed: ClassVar[Mapping[str, str]] = {"shares": "softmax"}

    def __init__(self, layer: keras.layers.MultiHeadAttention, decay: float = 0.99, **kwargs: Any):
        super().__init__(layer, decay, **kwargs)
        self.dropout = keras.layers.Dropout(layer.dropout)

    def __call__(self, query: Any, value: Any, key: Any = None, **kwargs: Any) -> Any:
        result = super().__call__(query, value, *(() if key is None else (key,)), **kwargs)
        if isinstance(query, keras.KerasTensor) and hasattr(query, "_keras_history"):
            entering = range_of(query), range_of(value if key is None else key), range_of(value)
            projections = self.project_query, self.project_key, self.project_value
            for project, quantize in zip(projections, entering, strict=True):
                project.entered_by(quantize)
        return result

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        self._build_parts(query_shape, value_shape, key_shape)
        layer = self.layer
        self.project_query = QuantizedAffine(layer.query_dense, multiplier=layer.key_dim**-0.5, name="query")
        self.project_key = QuantizedAffine(layer.key_dense, name="key")
        self.project_value = QuantizedAffine(layer.value_dense, name="value")
        self.project_output = QuantizedAffine(layer.output_dense, name="output")
        for affine in (self.project_query, self.project_key, self.project_value, self.project_output):
            affine.built = True
        self.project_output.entered_by(self.ranges["context"])

    def call(self, query: Any, value: Any, key: Any = None, training: bool | None = None) -> Any:
        key = value if key is None else key
        queries, keys, values = (
            ops.transpose(self.ranges[name](project(x), training=training), (0, 2, 1, 3))
            for name, project, x in (
                ("queries", self.project_query, query),
                ("keys", self.project_key, key),
                ("values", self.project_value, value),
            )
        )
        scores = self._product("scores", queries, ops.transpose(keys, (0, 1, 3, 2)), "queries", "keys", training)
        shares = self.dropout(self.ranges["shares"](ops.softmax(scores)), training=training)
        context = self._product("context", shares, values, "shares", "values", training)
        return self.project_output(ops.transpose(context, (0, 2, 1, 3)))

    def _product(self, name: str, x: Any, y: Any, name_of_x: str, name_of_y: str, training: bool | None) -> Any:
        product = ops.cast(ops.matmul(x, y), "float32")
        scales = (self.ranges[of].scale for of in (name_of_x, name_of_y, name))
        return ops.cast(self.ranges[name](rounded_twice(product, *scales), training=training), x.dtype)

    def compute_output_shape(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> Any:
        return self.layer.compute_output_shape(query_shape, value_shape, key_shape)
