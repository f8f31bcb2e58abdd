"""Batches: which samples meet in a step, and how they are changed before they do.

A batch depends on the seed and on the number of its step alone, so a training that is resumed goes
on with the very batches that it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput
from siamese_index.samples.augment import Jitter, jittered, shaken, turned

from .networks import LearnedSamples
from .recipe import Feeding

THREADS = 2  # that prepare batches ahead of the network
AHEAD = 8  # batches
HARD = 0.25  # of what is drawn, where there are identities that were answered wrongly


@dataclass(frozen=True)
class Batch:
    """LearnedSamples by position, the turn of each, and the labels (n, 2) of `losses`: group and identity."""

    positions: NDArray[np.int64]
    turns: NDArray[np.int64]
    labels: NDArray[np.float32]


class Sampler:
    """Chooses batches among `positions` (n,) of identities `whose` (n,), numbered from 0 without gaps.

    With `feeding.classes` > 1 each identity is that many: turned, and mirrored, as others. `pairs`
    (m, 2), positions too, and their `labels` (m,) are ready-made; else pairs are drawn, never a sample with itself
    unless its identity has no other. `nearest` (identities, k) are those that each is easily taken for: the share
    `feeding.hard` of a batch of identities comes from there. Of what is drawn the share HARD is of the `hard` ones
    (k,), which were answered wrongly.
    """

    def __init__(
        self,
        positions: NDArray[np.int64],
        whose: NDArray[np.int64],
        feeding: Feeding,
        seed: int,
        pairs: NDArray[np.int64] | None = None,
        labels: NDArray[np.float32] | None = None,
        nearest: NDArray[np.int64] | None = None,
        hard: NDArray[np.int64] | None = None,
    ) -> None:
        self._nearest = nearest
        self._hard = hard if hard is not None and len(hard) else None
        self.feeding, self.seed = feeding, seed
        order = np.argsort(whose, kind="stable")
        self._members = np.split(positions[order], np.cumsum(np.bincount(whose))[:-1])
        self.identities = len(self._members) * feeding.classes
        if self.identities < 2:
            raise BadInput("One identity alone cannot train a tower.", remedy="Hold out fewer: --holdout 0.2")
        self._choose = {"identities": self._identities, "pairs": self._pairs, "triplets": self._triplets}[feeding.by]
        if pairs is not None and labels is not None:
            self._whose = dict(zip(positions.tolist(), whose.tolist(), strict=True))
            if np.any((labels > 0) & (labels < 1)):
                self._choose = partial(self._graded, pairs, labels)
                return
            genuine = labels == 1
            listed = (pairs[genuine], pairs[~genuine])
            if not (len(listed[0]) and len(listed[1])):
                raise BadInput(
                    f"{len(listed[0])} genuine and {len(listed[1])} impostor pairs to learn from.",
                    "Both are needed.",
                    "Hold out fewer (--holdout), or list more.",
                )
            self._choose = partial(self._ready_made, listed)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, of `feeding.batch` samples or a few less."""
        return self._choose(np.random.default_rng((self.seed, step)))

    def _identities(self, rng: np.random.Generator) -> Batch:
        each = self.feeding.samples
        wanted = max(1, self.feeding.batch // each)
        # One sample each is for losses that compare with directions, not within the batch.
        drawn = rng.integers(0, self.identities, wanted)
        classes = drawn if each == 1 else rng.permutation(self.identities)
        if self._hard is not None:
            first = self._one_of_hard(rng, max(1, round(HARD * wanted)))
            classes = np.concatenate([first, classes])
            if each > 1:
                classes = classes[np.sort(np.unique(classes, return_index=True)[1])]
        if self._nearest is not None and each > 1:
            first = classes[: max(1, round((1 - self.feeding.hard) * wanted))]
            near = self._nearest[first, rng.integers(0, self._nearest.shape[1], len(first))]
            several = np.concatenate([first, near, classes[len(first) :]])
            classes = several[np.sort(np.unique(several, return_index=True)[1])]
        classes = classes[:wanted]
        positions = np.concatenate([self._some(int(c), each, rng) for c in classes])
        labels = np.repeat(classes, each)
        return self._batch(positions, labels, np.zeros(len(labels)))

    def _pairs(self, rng: np.random.Generator) -> Batch:
        count = max(1, self.feeding.batch // 2)
        genuine = max(1, round(self.feeding.genuine * count))
        positions, labels = [], []
        for number in range(count):
            a, b = self._two(rng)
            if number < genuine:
                positions += self._some(a, 2, rng).tolist()
                labels += [a, a]
            else:
                positions += [self._some(c, 1, rng)[0] for c in (a, b)]
                labels += [a, b]
        return self._batch(np.array(positions), np.array(labels), np.repeat(np.arange(count), 2))

    def _triplets(self, rng: np.random.Generator) -> Batch:
        count = max(1, self.feeding.batch // 3)
        positions, labels = [], []
        for _ in range(count):
            a, b = self._two(rng)
            positions += [*self._some(a, 2, rng), *self._some(b, 1, rng)]
            labels += [a, a, b]
        return self._batch(np.array(positions), np.array(labels), np.repeat(np.arange(count), 3))

    def _ready_made(self, listed: tuple[NDArray[np.int64], NDArray[np.int64]], rng: np.random.Generator) -> Batch:
        count = max(2, self.feeding.batch // 2)
        genuine = min(count - 1, max(1, round(self.feeding.genuine * count)))
        chosen = np.concatenate(
            [rows[rng.integers(0, len(rows), n)] for rows, n in zip(listed, (genuine, count - genuine), strict=True)]
        )
        positions = chosen.reshape(-1)
        labels = np.array([self._whose[p] for p in positions.tolist()]) * self.feeding.classes
        return self._batch(positions, labels, np.repeat(np.arange(count), 2))

    def _graded(self, pairs: NDArray[np.int64], labels: NDArray[np.float32], rng: np.random.Generator) -> Batch:
        chosen = rng.integers(0, len(pairs), max(2, self.feeding.batch // 2))
        positions = pairs[chosen].reshape(-1)
        whose = np.array([self._whose[p] for p in positions.tolist()])
        batch = self._batch(positions, whose, np.repeat(np.arange(len(chosen)), 2))
        return replace(batch, labels=np.column_stack([batch.labels, np.repeat(labels[chosen], 2)]))

    def _two(self, rng: np.random.Generator) -> tuple[int, int]:
        a = int(rng.integers(0, self.identities))
        if self._hard is not None and rng.random() < HARD:
            a = int(self._one_of_hard(rng, 1)[0])
        b = int(rng.integers(0, self.identities - 1))
        return a, b + (b >= a)

    def _one_of_hard(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return so many labels of hard identities, at any turn."""
        drawn = rng.choice(self._hard if self._hard is not None else np.zeros(1, np.int64), count)
        return np.asarray(drawn * self.feeding.classes + rng.integers(0, self.feeding.classes, count))

    def _some(self, label: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` samples of an identity, different ones as far as it has them."""
        members = self._members[label // self.feeding.classes]
        if count == 1:
            return members[rng.integers(0, len(members), 1)]
        if count <= len(members):
            return np.asarray(
                rng.permutation(members)[:count] if len(members) < 64 else rng.choice(members, count, False)
            )
        return np.concatenate([members, rng.choice(members, count - len(members))])

    def _batch(self, positions: NDArray[np.int64], labels: NDArray[Any], groups: NDArray[Any]) -> Batch:
        return Batch(positions, labels % self.feeding.classes, np.stack([groups, labels], axis=1).astype(np.float32))


class BatchBuilder:
    """Makes of a batch what the network takes: float32 samples (n, *shape) and labels (n, 2)."""

    def __init__(self, data: LearnedSamples, sampler: Sampler, jitter: Jitter, known: NDArray[Any]) -> None:
        self.data, self.sampler, self.jitter = data, sampler, jitter
        numbers = known.astype(np.float64)
        self._mean, self._deviation = numbers.mean(axis=0).astype(np.float32), numbers.std(axis=0).astype(np.float32)
        # Of two classes the second is mirrored, not turned.
        self._quarters = 4 if sampler.feeding.classes == 2 else 1

    def build(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (samples, labels) of a step."""
        batch = self.sampler.batch(step)
        rng = np.random.default_rng((self.sampler.seed, step, 1))
        samples = self.data.one_view(batch.positions, rng)
        if len(self.data.shape) == 1:
            return shaken(samples, self.jitter, rng, self._mean, self._deviation), batch.labels
        for i in np.flatnonzero(batch.turns).tolist():
            samples[i] = turned(samples[i], int(batch.turns[i]) * self._quarters)
        return jittered(samples, self.jitter, rng), batch.labels


def feed(builder: BatchBuilder, first: int, last: int) -> Any:
    """Return the steps from `first` to before `last` as a Keras data set, prepared ahead by threads."""
    import keras

    class Feed(keras.utils.PyDataset):  # type: ignore[misc, unused-ignore]
        def __len__(self) -> int:
            return last - first

        def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return builder.build(first + step)

    return Feed(workers=THREADS, use_multiprocessing=False, max_queue_size=AHEAD)
