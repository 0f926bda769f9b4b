"""Small students of every kind, and images for them."""

import keras
import numpy as np
from keras import layers


def images(count):
    return np.random.default_rng(4).uniform(size=(count, 8, 8, 2)).astype("float32")


def moved(student):
    """Moves BatchNorm off 0 and 1, where dropping it would go unseen."""
    rng = np.random.default_rng(5)
    for layer in student._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, size=weight.shape) for weight in layer.get_weights()])
    return student


def cnn():
    return moved(
        keras.Sequential(
            [
                keras.Input((8, 8, 2), name="image"),
                layers.Conv2D(8, 3, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.AveragePooling2D(2),
                layers.Conv2D(12, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(10, name="logits"),
            ],
            name="cnn",
        )
    )


def depthwise():
    return moved(
        keras.Sequential(
            [
                keras.Input((8, 8, 2), name="image"),
                layers.Rescaling(2.0, -0.5),
                layers.Conv2D(8, 3, strides=2, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(6.0),
                layers.DepthwiseConv2D(3, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.Activation("swish"),
                layers.SeparableConv2D(12, 3, padding="same"),
                layers.BatchNormalization(),
                layers.Activation("hard_swish"),
                layers.GlobalAveragePooling2D(),
                layers.Dropout(0.1),
                layers.Dense(10, activation="softmax", name="shares"),
            ],
            name="depthwise",
        )
    )


def attentive():
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.Reshape((4, 8))(layers.Conv2D(8, 4, strides=4)(inputs))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x)))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x + y))
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name="attentive")


def residual():
    inputs = keras.Input((8, 8, 2))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(inputs)))
    y = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x))
    x = layers.BatchNormalization()(layers.ReLU()(layers.Add()([x, y])))
    block = keras.Model(inputs, x, name="block")
    outer = keras.Input((8, 8, 2), name="image")
    return moved(keras.Model(outer, layers.Dense(10, name="logits")(layers.Flatten()(block(outer))), name="residual"))
