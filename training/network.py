"""The tower: a small residual network from pictures to unit vectors, of built-in Keras layers only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def build(height: int, width: int, channels: int, dimension: int, stages: tuple[int, ...]) -> keras.Model:
    """Return a tower: float32 (n, height, width, channels) of 0..255 to unit vectors (n, dimension).

    A stem, then per stage one residual block of two 3x3 convolutions (He et al., 2016) behind a
    pooling by two. What remains is flattened, not averaged: where a stroke lies matters.
    """
    import keras
    from keras import layers

    def normalised(x: keras.KerasTensor, filters: int, size: int) -> keras.KerasTensor:
        x = layers.Conv2D(filters, size, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = keras.Input((height, width, channels), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.ReLU()(normalised(x, stages[0], 3))
    for filters in stages:
        x = layers.MaxPooling2D(2)(x)
        shortcut = x if x.shape[-1] == filters else normalised(x, filters, 1)
        y = layers.ReLU()(normalised(x, filters, 3))
        y = normalised(y, filters, 3)
        x = layers.ReLU()(layers.Add()([shortcut, y]))
    x = layers.Flatten()(x)
    x = layers.Dropout(0.2)(x)
    x = layers.Dense(dimension, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9, scale=False, center=False)(x)
    return keras.Model(inputs, layers.UnitNormalization(name="template")(x), name="tower")
