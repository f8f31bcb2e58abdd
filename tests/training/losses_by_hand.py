"""Every loss against its formula in plain loops, and its gradient against differences.

Run by test_losses.py in a process of its own: it loads Keras.
"""

import math

import numpy as np
import tensorflow as tf

from siamese_index.training import losses

RNG = np.random.default_rng(0)
LABELS = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [0, 1], [0, 2], [0, 3]], np.float32)
PAIRS = np.array([[0, 5], [0, 5], [1, 5], [1, 6], [2, 7], [2, 7]], np.float32)
TRIPLETS = np.array([[0, 1], [0, 1], [0, 2], [1, 3], [1, 3], [1, 1]], np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def compared(labels):
    """(i, j, genuine) of all ordered comparisons."""
    return [(i, j, a[1] == b[1]) for i, a in enumerate(labels) for j, b in enumerate(labels) if i != j and a[0] == b[0]]


def mean(values):
    return sum(values) / len(values) if values else 0.0


def apart(v, i, j, distance="euclidean"):
    return 1 - v[i] @ v[j] if distance == "cosine" else math.sqrt(((v[i] - v[j]) ** 2).sum())


def contrastive(labels, v, margin, distance):
    pairs = [(apart(v, i, j, distance), genuine) for i, j, genuine in compared(labels)]
    return (mean([d**2 for d, g in pairs if g]) + mean([max(0, margin - d) ** 2 for d, g in pairs if not g])) / 2


def triplet_hard(labels, v, margin, distance):
    each = []
    for a in range(len(v)):
        own = [apart(v, a, j, distance) for i, j, g in compared(labels) if i == a and g]
        others = [apart(v, a, j, distance) for i, j, g in compared(labels) if i == a and not g]
        if own and others:
            each.append(max(0, max(own) - min(others) + margin))
    return mean(each)


def triplet_semi_hard(labels, v, margin, distance):
    each = []
    for i, j, genuine in compared(labels):
        others = [apart(v, i, k, distance) for a, k, g in compared(labels) if a == i and not g]
        if genuine and others:
            d = apart(v, i, j, distance)
            farther = [o for o in others if o > d]
            each.append(max(0, d - (min(farther) if farther else max(others)) + margin))
    return mean(each)


def multi_similarity(labels, v, alpha, beta, base, epsilon):
    each = []
    for a in range(len(v)):
        own = [v[a] @ v[j] for i, j, g in compared(labels) if i == a and g]
        others = [v[a] @ v[j] for i, j, g in compared(labels) if i == a and not g]
        pull = [s for s in own if s - epsilon < max(others, default=-np.inf)]
        push = [s for s in others if s + epsilon > min(own, default=np.inf)]
        each.append(
            math.log(1 + sum(math.exp(-alpha * (s - base)) for s in pull)) / alpha
            + math.log(1 + sum(math.exp(beta * (s - base)) for s in push)) / beta
        )
    return mean(each)


def supervised_contrastive(labels, v, t):
    each = []
    for a in range(len(v)):
        rest = [(v[a] @ v[j] / t, g) for i, j, g in compared(labels) if i == a]
        total = math.log(sum(math.exp(s) for s, _ in rest))
        own = [total - s for s, g in rest if g]
        if own:
            each.append(mean(own))
    return mean(each)


def circle(labels, v, gamma, margin):
    """Sun et al., equation 6, with the relaxed weights held constant, as Keras does; anchors without a partner too."""
    each = []
    for a in range(len(v)):
        own = [v[a] @ v[j] for j in range(len(v)) if j != a and labels[j][1] == labels[a][1]]
        others = [v[a] @ v[j] for j in range(len(v)) if labels[j][1] != labels[a][1]]
        p = [-gamma * max(0, 1 + margin - s) * (s - 1 + margin) for s in own]
        n = [gamma * max(0, s + margin) * (s - margin) for s in others]
        if own and others:
            z = math.log(sum(map(math.exp, p))) + math.log(sum(map(math.exp, n)))
            each.append(math.log1p(math.exp(z)))
    return each


def softmax_loss(logits, labels):
    return mean(
        [-(row[int(y)] - math.log(sum(math.exp(s) for s in row))) for row, (_, y) in zip(logits, labels, strict=True)]
    )


def cosface(labels, c, scale, margin):
    return softmax_loss(
        [[scale * (s - margin * (k == y)) for k, s in enumerate(row)] for row, (_, y) in zip(c, labels, strict=True)],
        labels,
    )


def arcface(labels, c, scale, margin):
    def turned(s):
        theta = math.acos(s)
        return math.cos(theta + margin) if theta + margin < math.pi else s - math.sin(margin) * margin

    return softmax_loss(
        [
            [scale * (turned(s) if k == y else s) for k, s in enumerate(row)]
            for row, (_, y) in zip(c, labels, strict=True)
        ],
        labels,
    )


def proxy_anchor(labels, c, alpha, margin):
    pull, push = [], []
    for k in range(c.shape[1]):
        own = [row[k] for row, (_, y) in zip(c, labels, strict=True) if y == k]
        others = [row[k] for row, (_, y) in zip(c, labels, strict=True) if y != k]
        if own:
            pull.append(math.log(1 + sum(math.exp(-alpha * (s - margin)) for s in own)))
        push.append(math.log(1 + sum(math.exp(alpha * (s + margin)) for s in others)))
    return mean(pull) + mean(push)


def check(name, loss, plain, labels, x, gradient=True):
    value = float(loss(tf.constant(labels), tf.constant(x, tf.float32)))
    expected = plain(labels, x)
    assert abs(value - expected) < 1e-4 * max(1, abs(expected)), (name, value, expected)
    assert value > 0, f"{name}: a loss of 0 checks nothing"
    if not gradient:
        return
    at = tf.Variable(x.astype("float32"))
    with tf.GradientTape() as tape:
        total = loss(tf.constant(labels), at)
    found = tape.gradient(total, at).numpy()
    assert np.isfinite(found).all(), name
    for i, j in [(0, 0), (1, 2), (3, 1), (5, 0), (4, 2)]:
        step = np.zeros_like(x)
        step[i, j] = 1e-6
        difference = (plain(labels, x + step) - plain(labels, x - step)) / 2e-6
        assert abs(found[i, j] - difference) < 2e-3 * max(1, abs(difference)), (name, i, j, found[i, j], difference)


GRADED = np.column_stack([PAIRS, [0.3, 0.3, 0.0, 0.0, 0.85, 0.85]]).astype(np.float32)


def targets(labels):
    """(i, j, label) of all ordered comparisons."""
    return [(i, j, float(labels[i][2]) if len(labels[i]) == 3 else float(g)) for i, j, g in compared(labels)]


def similarity(labels, v):
    return mean([(v[i] @ v[j] - target) ** 2 for i, j, target in targets(labels)])


def pair_logistic(labels, extended, distance):
    slope, offset, v = math.log1p(math.exp(extended[0, -2])), extended[0, -1], extended[:, :-2]
    likely = [(1 / (1 + math.exp(-slope * (offset - apart(v, i, j, distance)))), y) for i, j, y in targets(labels)]
    return mean([-(y * math.log(p) + (1 - y) * math.log(1 - p)) for p, y in likely])


def main():
    for labels in (PAIRS, GRADED, LABELS):
        v = unit(RNG.normal(size=(len(labels), 4)) + np.eye(4)[0])
        check("similarity", losses.similarity(), similarity, labels, v)
        extended = np.hstack([v, np.full((len(v), 1), 3.0), np.full((len(v), 1), 0.8)])
        for d in ("euclidean", "cosine"):
            check(
                f"pair-logistic {d}",
                losses.pair_logistic(d),
                lambda y, x, d=d: pair_logistic(y, x, d),
                labels,
                extended,
                gradient=d == "euclidean",
            )
    for labels in (LABELS, PAIRS, TRIPLETS):
        v = unit(RNG.normal(size=(len(labels), 4)) + np.eye(4)[0])
        for d in ("euclidean", "cosine"):
            check(
                f"contrastive {d}",
                losses.contrastive(1.2, d),
                lambda y, x, d=d: contrastive(y, x, 1.2, d),
                labels,
                v,
                gradient=d == "euclidean",
            )  # a cosine is of directions: the difference leaves the sphere
            if labels is PAIRS:
                continue  # two alone are no triplet
            check(
                f"hard {d}",
                losses.triplet(1.5, "hard", d),
                lambda y, x, d=d: triplet_hard(y, x, 1.5, d),
                labels,
                v,
                gradient=d == "euclidean",
            )
            check(
                f"semi-hard {d}",
                losses.triplet(1.5, "semi-hard", d),
                lambda y, x, d=d: triplet_semi_hard(y, x, 1.5, d),
                labels,
                v,
                gradient=d == "euclidean",
            )
        if labels is not PAIRS:  # of two, one's only other is all there is to compare with
            check(
                "multi-similarity",
                losses.multi_similarity(2, 8, 0.5, 0.3),
                lambda y, x: multi_similarity(y, x, 2, 8, 0.5, 0.3),
                labels,
                v,
            )
            check(
                "supcon", losses.supervised_contrastive(0.5), lambda y, x: supervised_contrastive(y, x, 0.5), labels, v
            )
    cosines = RNG.uniform(-0.9, 0.9, (len(LABELS), 4))
    check("cosface", losses.cosface(8, 0.25), lambda y, c: cosface(y, c, 8, 0.25), LABELS, cosines)
    check("arcface", losses.arcface(8, 0.3), lambda y, c: arcface(y, c, 8, 0.3), LABELS, cosines)
    check("proxy-anchor", losses.proxy_anchor(8, 0.1), lambda y, c: proxy_anchor(y, c, 8, 0.1), LABELS, cosines)

    v = unit(RNG.normal(size=(7, 4)) + np.eye(4)[0])
    # The first five: the last two have no partner.
    found = float(losses.circle(8.0, 0.4)(tf.constant(LABELS[:5]), tf.constant(v[:5], tf.float32)))
    assert abs(found - mean(circle(LABELS[:5], v[:5], 8.0, 0.4))) < 1e-3, (found, circle(LABELS[:5], v[:5], 8.0, 0.4))

    # A picture beside itself (distance zero) has a gradient.
    twice = tf.Variable(np.repeat(v[:2], 2, axis=0).astype("float32"))
    with tf.GradientTape() as tape:
        total = losses.contrastive()(tf.constant(LABELS[:4]), twice)
    assert np.isfinite(tape.gradient(total, twice).numpy()).all()

    # The head: cosines to directions of unit length.
    head = losses.cosine_head(5)
    cosines = np.asarray(head(v.astype("float32")))
    directions = np.asarray(head.directions)
    assert np.allclose(cosines, v @ (directions / np.linalg.norm(directions, axis=0)), atol=1e-5)

    # The other head: beside the vectors the two numbers of the logistic, which start at 4 and 1.
    extended = np.asarray(losses.logistic_head()(v.astype("float32")))
    assert np.allclose(extended[:, :4], v, atol=1e-6) and np.allclose(extended[:, 4:], [4.0, 1.0])

    # The masks, by hand: pictures 0 and 1 are one identity, 2 another; 3 is of another group.
    same, different = losses.comparisons(tf.constant([[0, 0], [0, 0], [0, 1], [1, 0]], tf.float32))
    assert same.numpy().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert different.numpy().tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


main()
