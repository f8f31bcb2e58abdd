"""Losses on a batch of unit vectors, in `keras.ops`.

Labels are float32 (n, 2): the group that a picture belongs to and its identity; or (n, 3): of a listed pair with a
graded label that, too, from 0 (unlike) to 1 (the same). Comparisons are
made between all pictures of one group, so one rule serves every way of feeding: a batch of
identities is a single group of n (n - 1) / 2 comparisons, a listed pair is a group of two, a
triplet a group of three. Vectors are float32 (n, d). Every loss is a mean, a scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from siamese_index import BadInput

if TYPE_CHECKING:
    import keras

Tensor = Any  # of whichever backend Keras runs on
Loss = Callable[[Any, Any], Any]  # (labels, vectors or cosines) -> scalar
Distance = Literal["euclidean", "cosine"]


def objective(name: str, identities: int, options: dict[str, Any]) -> tuple[keras.layers.Layer | None, Loss]:
    """Return (head, loss) by name; a head turns vectors into what the loss wants, such as cosines (n, identities).

    Raises BadInput for an unknown name or option.
    """
    known = ON_VECTORS | ON_COSINES | GRADED
    if name not in known:
        raise BadInput(f"There is no loss {name!r}.", f"There are {', '.join(sorted(known))}.")
    try:
        loss = known[name](**options)
    except TypeError as error:
        raise BadInput(f"The loss {name!r} does not take these options.", str(error)) from None
    if name == "pair-logistic":
        return logistic_head(), loss
    return (cosine_head(identities) if name in ON_COSINES else None), loss


def contrastive(margin: float = 1.0, distance: Distance = "euclidean") -> Loss:
    """Return the contrastive loss (Hadsell, Chopra, LeCun, 2006).

    mean over genuine of d^2 and mean over impostors of max(0, margin - d)^2, halved: with as many
    genuine pairs as impostors this is the plain mean over pairs; with fewer they weigh as much.
    """
    from keras import ops

    def loss(labels: Tensor, vectors: Tensor) -> Tensor:
        same, different = comparisons(labels)
        d = distances(vectors, distance)
        return (_mean(ops.square(d), same) + _mean(ops.square(ops.relu(margin - d)), different)) / 2

    return loss


def triplet(margin: float = 0.2, mining: str = "hard", distance: Distance = "euclidean") -> Loss:
    """Return the triplet loss: mean over anchors of max(0, d(a, p) - d(a, n) + margin).

    mining "hard": the farthest genuine and the nearest impostor of each anchor (Hermans et al.,
    2017). "semi-hard": each genuine pair with the nearest impostor that is farther than the genuine
    one, else with the farthest (Schroff et al., FaceNet, 2015).
    """
    if mining not in ("hard", "semi-hard"):
        raise BadInput(f"There is no mining {mining!r}.", "There are hard and semi-hard.")
    from keras import ops

    def hard(labels: Tensor, vectors: Tensor) -> Tensor:
        same, different = comparisons(labels)
        d = distances(vectors, distance)
        farthest = ops.max(d * same, axis=1)
        nearest = ops.min(d + _FAR * (1 - different), axis=1)
        complete = ops.any(same > 0, axis=1) & ops.any(different > 0, axis=1)
        return _mean(ops.relu(farthest - nearest + margin), ops.cast(complete, d.dtype))

    def semi_hard(labels: Tensor, vectors: Tensor) -> Tensor:
        same, different = comparisons(labels)
        d = distances(vectors, distance)
        # (anchor, genuine, impostor)
        farther = ops.cast(d[:, None, :] > d[:, :, None], d.dtype) * different[:, None, :]
        nearest = ops.min(d[:, None, :] + _FAR * (1 - farther), axis=2)
        farthest = ops.max(d * different, axis=1, keepdims=True)
        impostor = ops.where(ops.any(farther > 0, axis=2), nearest, farthest)
        complete = same * ops.cast(ops.any(different > 0, axis=1, keepdims=True), d.dtype)
        return _mean(ops.relu(d - impostor + margin), complete)

    return hard if mining == "hard" else semi_hard


def multi_similarity(alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, epsilon: float = 0.1) -> Loss:
    """Return the multi-similarity loss (Wang et al., 2019) on cosines s, with its mining.

    mean over anchors of log(1 + sum_genuine exp(-alpha (s - base))) / alpha
    + log(1 + sum_impostors exp(beta (s - base))) / beta. An impostor counts when its s + epsilon
    exceeds the anchor's least genuine s, a genuine one when its s - epsilon is below the greatest
    impostor's.
    """
    from keras import ops

    def loss(labels: Tensor, vectors: Tensor) -> Tensor:
        same, different = comparisons(labels)
        s = ops.matmul(vectors, ops.transpose(vectors))
        least = ops.min(s + _FAR * (1 - same), axis=1, keepdims=True)
        greatest = ops.max(s - _FAR * (1 - different), axis=1, keepdims=True)
        genuine = same * ops.cast(s - epsilon < greatest, s.dtype)
        impostor = different * ops.cast(s + epsilon > least, s.dtype)
        pull = ops.log1p(ops.sum(genuine * ops.exp(-alpha * (s - base)), axis=1)) / alpha
        push = ops.log1p(ops.sum(impostor * ops.exp(beta * (s - base)), axis=1)) / beta
        return ops.mean(pull + push)

    return loss


def supervised_contrastive(temperature: float = 0.1) -> Loss:
    """Return the supervised contrastive loss (Khosla et al., 2020, L_out) on cosines s.

    mean over anchors with a genuine partner, and over these partners p, of
    -log(exp(s_p / t) / sum over all others of the group exp(s / t)).
    """
    from keras import ops

    def loss(labels: Tensor, vectors: Tensor) -> Tensor:
        same, different = comparisons(labels)
        s = ops.matmul(vectors, ops.transpose(vectors)) / temperature
        compared = same + different
        total = ops.logsumexp(s - _FAR * (1 - compared), axis=1, keepdims=True)
        partners = ops.sum(same, axis=1)
        each = ops.sum((total - s) * same, axis=1) / ops.maximum(partners, 1.0)
        return _mean(each, ops.cast(partners > 0, s.dtype))

    return loss


def circle(gamma: float = 80.0, margin: float = 0.4) -> Loss:
    """Return Keras' circle loss (Sun et al., 2020). It knows no groups: feed identities."""
    import keras
    from keras import ops

    inner = keras.losses.Circle(gamma=gamma, margin=margin)

    def loss(labels: Tensor, vectors: Tensor) -> Tensor:
        return inner(ops.cast(labels[:, 1], "int32"), vectors)

    return loss


def cosface(scale: float = 16.0, margin: float = 0.25) -> Loss:
    """Return the large-margin cosine loss (CosFace; Wang et al., 2018) on cosines c to directions.

    mean cross-entropy of softmax(scale (c - margin onehot)): an identity's pictures must be nearer
    to its own direction than to any other by `margin`.
    """
    import keras
    from keras import ops

    def loss(labels: Tensor, cosines: Tensor) -> Tensor:
        own = ops.one_hot(ops.cast(labels[:, 1], "int32"), cosines.shape[-1])
        each = keras.losses.categorical_crossentropy(own, scale * (cosines - margin * own), from_logits=True)
        return ops.mean(each)

    return loss


def arcface(scale: float = 32.0, margin: float = 0.3) -> Loss:
    """Return the additive angular margin loss (ArcFace; Deng et al., 2019) on cosines c = cos(theta).

    mean cross-entropy of softmax(scale cos(theta + margin onehot)). Where theta + margin would pass
    pi, c - sin(margin) margin stands for it, so that the loss keeps rising.
    """
    import keras
    from keras import ops

    def loss(labels: Tensor, cosines: Tensor) -> Tensor:
        own = ops.one_hot(ops.cast(labels[:, 1], "int32"), cosines.shape[-1])
        c = ops.clip(cosines, -1 + 1e-6, 1 - 1e-6)
        turned = c * math.cos(margin) - ops.sqrt(1 - ops.square(c)) * math.sin(margin)
        turned = ops.where(c > -math.cos(margin), turned, c - math.sin(margin) * margin)
        each = keras.losses.categorical_crossentropy(own, scale * ops.where(own > 0, turned, c), from_logits=True)
        return ops.mean(each)

    return loss


def proxy_anchor(alpha: float = 32.0, margin: float = 0.1) -> Loss:
    """Return the proxy-anchor loss (Kim et al., 2020) on cosines c to directions, its proxies.

    mean over the proxies with a picture in the batch of log(1 + sum_own exp(-alpha (c - margin)))
    + mean over all proxies of log(1 + sum_others exp(alpha (c + margin))).
    """
    from keras import ops

    def loss(labels: Tensor, cosines: Tensor) -> Tensor:
        own = ops.one_hot(ops.cast(labels[:, 1], "int32"), cosines.shape[-1])
        pull = ops.log1p(ops.sum(own * ops.exp(-alpha * (cosines - margin)), axis=0))
        push = ops.log1p(ops.sum((1 - own) * ops.exp(alpha * (cosines + margin)), axis=0))
        return _mean(pull, ops.cast(ops.any(own > 0, axis=0), cosines.dtype)) + ops.mean(push)

    return loss


def similarity() -> Loss:
    """Return the mean over comparisons of (s - label)^2: the cosine s is fitted to how alike two samples are."""
    from keras import ops

    def loss(labels: Tensor, vectors: Tensor) -> Tensor:
        target, compared = _targets(labels)
        s = ops.matmul(vectors, ops.transpose(vectors))
        return _mean(ops.square(s - target), compared)

    return loss


def pair_logistic(distance: Distance = "euclidean") -> Loss:
    """Return the mean cross-entropy over comparisons of label and sigmoid(a (b - d)): a logistic of the distance d.

    a > 0 and b are learned, as the last two columns of what comes in; only the distance is served.
    """
    from keras import ops

    def loss(labels: Tensor, extended: Tensor) -> Tensor:
        target, compared = _targets(labels)
        slope, offset = ops.softplus(extended[0, -2]), extended[0, -1]
        logits = slope * (offset - distances(extended[:, :-2], distance))
        return _mean(ops.softplus(logits) - target * logits, compared)

    return loss


def _targets(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, n): the label of each two, and a mask of which are compared."""
    same, different = comparisons(labels)
    compared = same + different
    return (same if labels.shape[-1] == 2 else labels[:, None, 2] * compared), compared


ON_VECTORS: dict[str, Callable[..., Loss]] = {
    "contrastive": contrastive,
    "triplet": triplet,
    "multi-similarity": multi_similarity,
    "supervised-contrastive": supervised_contrastive,
    "circle": circle,
}
ON_COSINES: dict[str, Callable[..., Loss]] = {"cosface": cosface, "arcface": arcface, "proxy-anchor": proxy_anchor}


GRADED: dict[str, Callable[..., Loss]] = {"similarity": similarity, "pair-logistic": pair_logistic}
ON_PAIRS = {"contrastive", *GRADED}  # those that can be fed by pairs


def logistic_head() -> keras.layers.Layer:
    """Return a layer from unit vectors (n, d) to (n, d + 2): beside them the two learned numbers of a logistic."""
    import keras

    class LogisticHead(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        def build(self, shape: tuple[int, ...]) -> None:  # noqa: ARG002
            self.slope = self.add_weight(shape=(1,), initializer=keras.initializers.Constant(4.0), name="slope")
            self.offset = self.add_weight(shape=(1,), initializer="ones", name="offset")

        def call(self, vectors: Tensor) -> Tensor:
            rows = keras.ops.ones_like(vectors[:, :1])
            return keras.ops.concatenate([vectors, rows * self.slope, rows * self.offset], axis=1)

    return LogisticHead(dtype="float32")


def cosine_head(identities: int) -> keras.layers.Layer:
    """Return a layer from unit vectors (n, d) to cosines (n, identities) with one learned direction each."""
    import keras

    class CosineHead(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        def build(self, shape: tuple[int, ...]) -> None:
            self.directions = self.add_weight(
                shape=(shape[-1], identities), initializer="glorot_normal", name="directions"
            )

        def call(self, vectors: Tensor) -> Tensor:
            return keras.ops.matmul(vectors, keras.ops.normalize(self.directions, axis=0))

    return CosineHead(dtype="float32")


def comparisons(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return float (n, n) masks: pictures of one group and one identity, and of one group but two identities.

    No picture is compared with itself.
    """
    from keras import ops

    together = ops.equal(labels[:, None, 0], labels[None, :, 0])
    alike = ops.equal(labels[:, None, 1], labels[None, :, 1])
    others = ops.logical_not(ops.eye(ops.shape(labels)[0], dtype="bool"))
    return (
        ops.cast(together & alike & others, "float32"),
        ops.cast(together & ops.logical_not(alike), "float32"),
    )


def distances(vectors: Tensor, distance: Distance) -> Tensor:
    """Return all distances (n, n): Euclidean, or 1 - cosine. The gradient at distance zero is zero, not NaN."""
    from keras import ops

    if distance not in ("euclidean", "cosine"):
        raise BadInput(f"There is no distance {distance!r}.", "There are euclidean and cosine.")
    if distance == "cosine":
        unit = ops.normalize(vectors, axis=1)
        return 1 - ops.matmul(unit, ops.transpose(unit))
    length = ops.sum(ops.square(vectors), axis=1)
    squared = length[:, None] + length[None, :] - 2 * ops.matmul(vectors, ops.transpose(vectors))
    return ops.sqrt(ops.maximum(squared, 1e-12))


_FAR = 1e4  # beyond any distance or scaled cosine


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values where the mask is 1; 0 where it is nowhere."""
    from keras import ops

    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)
