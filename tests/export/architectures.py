"""Ten kinds of student, small and untrained, and what each is asked about."""

import keras
import numpy as np
from keras import layers, ops

RNG = np.random.default_rng(0)


def restart():
    """Make weights and data the same whatever was built before."""
    keras.utils.set_random_seed(7)
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state


def numbers(*shape):
    return RNG.normal(size=shape).astype("float32")


def words(count, length, vocabulary=20):
    return RNG.integers(0, vocabulary, size=(count, length)).astype("int32")


def moved(student):
    """Move BatchNorm statistics off 0 and 1, where dropping them would go unseen."""
    for layer in student._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([RNG.uniform(0.5, 1.5, size=weight.shape) for weight in layer.get_weights()])
    return student


def mlp():
    return keras.Sequential([keras.Input((6,)), layers.Dense(200, activation="relu"), layers.Dense(3)])


def cnn():
    return moved(
        keras.Sequential(
            [
                keras.Input((8, 8, 2)),
                layers.Conv2D(4, 3, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )


def depthwise_cnn():
    inputs = keras.Input((8, 8, 2))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(6, 1)(x))
    return moved(keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))


def residual():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = layers.Conv2D(4, 3, padding="same", activation="gelu")(layers.LayerNormalization()(x))
    x = layers.Add()([x, y])
    block = keras.Model(inputs, x, name="block")
    outer = keras.Input((8, 8, 2))
    return keras.Model(outer, layers.Dense(3)(layers.Flatten()(block(outer))))


def mobilenet():
    """MobileNetV3 whole, with its squeeze-and-excitation and hard swish, at its narrowest."""
    student = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3),
        alpha=0.25,
        weights=None,
        classes=3,
        classifier_activation=None,
        include_preprocessing=False,
    )
    # Statistics as after training: without them the signal of 50 untrained layers dies away.
    for layer in student._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    student(numbers(30, 32, 32, 3), training=True)
    return student


def text_student(batch_size=None, unroll=False):
    return keras.Sequential(
        [
            keras.Input((6,), batch_size=batch_size, dtype="int32", name="ids"),
            layers.Embedding(20, 4),
            layers.GRU(5, unroll=unroll, name="reader"),
            layers.Dense(3),
        ]
    )


def gru():
    return text_student(unroll=True)


def attended(x):
    normal = layers.LayerNormalization()(x)
    return x + layers.MultiHeadAttention(num_heads=2, key_dim=8)(normal, normal)


def conformer():
    """A block of Gulati 2020: half a feed-forward, attention, convolution, half a feed-forward, all residual."""
    inputs = keras.Input((16, 8), name="frames")
    x = layers.Dense(16)(inputs)
    x = x + 0.5 * layers.Dense(16)(layers.Dense(32, activation="swish")(layers.LayerNormalization()(x)))
    x = attended(x)
    value, gate = ops.split(layers.Conv1D(32, 1)(layers.LayerNormalization()(x)), 2, axis=-1)
    y = layers.DepthwiseConv1D(5, padding="same")(value * ops.sigmoid(gate))
    x = x + layers.Conv1D(16, 1)(layers.Activation("swish")(layers.BatchNormalization()(y)))
    x = x + 0.5 * layers.Dense(16)(layers.Dense(32, activation="swish")(layers.LayerNormalization()(x)))
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return moved(keras.Model(inputs, layers.Dense(3)(pooled)))


def transformer():
    inputs = keras.Input((8,), dtype="int32", name="ids")
    x = attended(layers.Embedding(20, 16)(inputs) + layers.Embedding(8, 16)(ops.arange(8)))
    x = x + layers.Dense(16)(layers.Dense(32, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))))


def fusion():
    image, text = keras.Input((8, 8, 2), name="image"), keras.Input((6,), dtype="int32", name="text")
    seen = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(image))
    read = layers.GlobalAveragePooling1D()(layers.Embedding(20, 4)(text))
    joined = layers.Concatenate()([seen, read])
    return keras.Model({"image": image, "text": text}, layers.Dense(3, name="kind")(joined))


def two_heads():
    inputs = keras.Input((6,), name="x")
    hidden = layers.Dense(200, activation="relu")(inputs)
    return keras.Model(
        inputs, {"kind": layers.Dense(3, name="kind")(hidden), "size": layers.Dense(1, name="size")(hidden)}
    )
