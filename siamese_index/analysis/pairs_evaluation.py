"""How well are ready-made pairs told apart? Verification, with counts and intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput
from siamese_index.samples.images import Progress
from siamese_index.samples.tables import Pairs
from siamese_index.towers.tower import BATCH
from siamese_index.vectors import Vectors, distances

from .comparison import equal_error_rate
from .contract import OpenGallery, by_one_tower
from .evaluation import TARGETS, Rate
from .graded import graded_figures


@dataclass(frozen=True)
class Verified:
    """Ready-made pairs, told apart by a threshold."""

    pairs: int
    genuine: int
    threshold: float | None
    fmr: Rate  # impostor pairs that matched
    fnmr: Rate  # genuine pairs that did not
    eer: float
    fnmr_at: dict[str, float | None]  # FNMR at an FMR, where there are pairs enough
    genuine_distances: NDArray[np.float64] = field(repr=False)
    impostor_distances: NDArray[np.float64] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `evaluate --json` prints."""
        return {k: v for k, v in asdict(self).items() if not k.endswith("_distances")}


@dataclass(frozen=True)
class GradedPairs:
    """Pairs with graded labels, ranked by distance."""

    pairs: int
    items: int
    spearman: float | None  # rank correlation of label and nearness, -1 … 1
    spearman_interval: list[float | None]
    labels: NDArray[np.float32] = field(repr=False)
    distances: NDArray[np.float64] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `evaluate --json` prints."""
        return {k: getattr(self, k) for k in ("pairs", "items", "spearman", "spearman_interval")}


@by_one_tower
def evaluate_pairs(gallery: OpenGallery, pairs: Pairs, progress: Progress | None = None) -> Verified:
    """Compare ready-made pairs by the gallery's tower, at the threshold of `verify`. Raises Unreadable."""
    genuine = pairs.genuine
    if not genuine.any() or genuine.all():
        raise BadInput(f"{int(genuine.sum())} of {len(genuine)} pairs are genuine.", "Both kinds are needed.")
    rows = _embedded(gallery, pairs, progress)
    distance = distances(rows[pairs.positions[:, 0]], rows[pairs.positions[:, 1]])
    tau = gallery.verification_threshold()
    same, different = distance[genuine], np.sort(distance[~genuine])
    # Pairs of one picture are not independent: its name stands for it.
    first = [str(p) for p in pairs.positions[:, 0].tolist()]
    limit = -1.0 if tau is None else tau
    at: dict[str, float | None] = {}
    for target in TARGETS:
        k = int(target * len(different) + 1e-9)
        at[f"{target:g}"] = None if k < 1 else float(np.mean(same > (different[k - 1] if k else -1)))
    return Verified(
        len(genuine),
        int(genuine.sum()),
        tau,
        Rate.measured(distance[~genuine] <= limit, [f for f, g in zip(first, genuine.tolist(), strict=True) if not g]),
        Rate.measured(same > limit, [f for f, g in zip(first, genuine.tolist(), strict=True) if g]),
        equal_error_rate(same, different),
        at,
        same,
        different,
    )


@by_one_tower
def evaluate_graded(gallery: OpenGallery, pairs: Pairs, progress: Progress | None = None) -> GradedPairs:
    """Compare pairs with graded labels by the gallery's tower: do near ones have high labels? Raises Unreadable."""
    rows = _embedded(gallery, pairs, progress)
    distance = distances(rows[pairs.positions[:, 0]], rows[pairs.positions[:, 1]])
    return GradedPairs(**graded_figures(rows, pairs.positions, pairs.labels), labels=pairs.labels, distances=distance)


def _embedded(gallery: OpenGallery, pairs: Pairs, progress: Progress | None) -> Vectors:
    parts = []
    for start in range(0, len(pairs.items), BATCH):
        vectors, refusals = gallery.embed([p for _, p in pairs.items[start : start + BATCH]])
        if refusals:
            raise next(iter(refusals.values())).error
        parts.append(vectors)
        if progress:
            progress(len(vectors))
    return np.concatenate(parts)
