"""The loss: every picture of a batch is compared with a direction for each training identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def cosine_head(identities: int) -> keras.layers.Layer:
    """Return a layer from unit vectors (n, d) to cosines (n, identities) with one learned direction each."""
    import keras

    class CosineHead(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        def build(self, shape: tuple[int, ...]) -> None:
            self.directions = self.add_weight(
                shape=(shape[-1], identities), initializer="glorot_normal", name="directions"
            )

        def call(self, vectors: keras.KerasTensor) -> keras.KerasTensor:
            return keras.ops.matmul(vectors, keras.ops.normalize(self.directions, axis=0))

    return CosineHead()


def cosine_margin(scale: float, margin: float) -> keras.losses.Loss:
    """Return the large-margin cosine loss (CosFace; Wang et al., 2018).

    For labels y (n,) and cosines c (n, identities): the mean cross-entropy of
    softmax(scale * (c - margin * onehot(y))): an identity's pictures must be nearer to its own
    direction than to any other by `margin`.
    """
    import keras
    from keras import ops

    def loss(y: keras.KerasTensor, cosines: keras.KerasTensor) -> keras.KerasTensor:
        onehot = ops.one_hot(ops.cast(ops.reshape(y, (-1,)), "int32"), cosines.shape[-1])
        return keras.losses.categorical_crossentropy(onehot, scale * (cosines - margin * onehot), from_logits=True)

    return loss
