"""Another embedder for a gallery whose pictures are not there: its vectors are mapped, and what that costs measured."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese_index.errors import BadInput
from siamese_index.samples.images import Progress
from siamese_index.samples.items import Items
from siamese_index.samples.names import hashed_share
from siamese_index.thresholds.learning import threshold
from siamese_index.thresholds.statistics import clustered_interval
from siamese_index.towers.mapping import VectorMap, learned
from siamese_index.towers.tower_file import TowerFile
from siamese_index.vectors import Vectors, unit

from .contract import OpenGallery
from .tower_trial import embedded

ENOUGH = 50  # pairs
ENOUGH_STRANGERS = 20  # identities among the pairs who are not enrolled
_CHOOSE, _MEASURE = 0.2, 0.4  # up to here a share of the identities chooses the map, up to there it measures


@dataclass(frozen=True)
class BothVectors:
    """Vectors (n, d) and (n, e) of the same pictures by the old and the new embedder, and whose they are (n,)."""

    old: Vectors
    new: Vectors
    names: tuple[str, ...]
    named: bool = True  # whether these are names; else each row is one by itself
    taught: tuple[bool, ...] = ()  # (n,) whether the new embedder has learned from it, as far as is known


@dataclass(frozen=True)
class Switch:
    """A map, and what it costs on pairs that it was not learned from."""

    map: VectorMap
    strangers: tuple[tuple[str, ...], Vectors] | None  # (names, vectors by the new embedder): of nobody who is enrolled
    figures: dict[str, Any]  # pairs, kind, and per space rank1 and fnir with intervals; loss: that of FNIR

    @property
    def loss(self) -> float:
        """How much the FNIR rises: 0.01 is one search of a hundred."""
        return float(self.figures["loss"])


def given(old: Any, new: Any, names: Sequence[str] | None = None) -> BothVectors:
    """Return arrays (n, d) and (n, e) as pairs; without `names` each is an identity of its own. Raises BadInput."""
    a, b = unit(old), unit(new)
    if len(a) != len(b) or (names is not None and len(names) != len(a)):
        named = "" if names is None else f", and {len(names):,} names"
        raise BadInput(f"{len(a):,} old vectors and {len(b):,} new ones{named}.", "Row i of each is of one picture.")
    rows = tuple(f"row {i}" for i in range(len(a)))
    return BothVectors(a, b, rows if names is None else tuple(names), names is not None)


def by_both(
    gallery: OpenGallery, tower: TowerFile, data: Items | None, progress: Progress | None = None
) -> BothVectors:
    """Return the pairs that the kept pictures of a gallery, and `data`, give by its tower and by `tower`."""
    names: list[str] = []
    pictures: list[Any] = []
    for sample in gallery.samples():
        picture = gallery.picture(sample.id) if sample.kept else None
        if picture is not None:
            names.append(sample.identity)
            pictures.append(picture)
    items = Items(names, lambda i: pictures[i])
    items = items if data is None else items + data
    ours, _ = embedded(gallery.tower_file(), items, progress)
    theirs, _ = embedded(tower, items, progress)
    at = {digest: i for i, digest in enumerate(theirs.digests)}
    both = [(i, at[digest]) for i, digest in enumerate(ours.digests) if digest in at]
    old, new = (np.array(column, np.int64) for column in zip(*both, strict=True)) if both else (np.zeros(0, int),) * 2
    whose = tuple(ours.names[i] for i in old.tolist())
    record = tower.card.training
    seen = record.has_learned_from(bytes.fromhex(ours.digests[i]) for i in old.tolist())
    taught_names = {whose[k] for k, i in enumerate(old.tolist()) if bytes.fromhex(ours.digests[i]) in seen}
    taught = tuple(name in taught_names or name in record.identities for name in whose)
    return BothVectors(ours.vectors[old], theirs.vectors[new], whose, taught=taught)


def measured(pairs: BothVectors, dimension: int, target: float, enrolled: Set[str] = frozenset()) -> Switch:
    """Learn the map of `pairs`, and measure it on identities that it was not learned from, at `target` FPIR.

    Who among the pairs is not `enrolled` is a stranger by the new embedder, who sets the threshold from then on: what
    strangers' mapped vectors are would be too strict. Without names the mapped ones do, and are measured with.

    `dimension` is that of the gallery. Raises BadInput with the numbers that are missing.
    """
    if len(pairs.names) < ENOUGH:
        raise BadInput(
            f"There are {len(pairs.names)} pictures with a vector by both embedders.",
            f"At least {ENOUGH} are needed, ten times as many as a vector is long is good.",
            "Embed some pictures by both: --pairs OLD.npy NEW.npy, or --data PICTURES",
        )
    if pairs.old.shape[1] != dimension:
        raise BadInput(f"The old vectors have {pairs.old.shape[1]} numbers; this gallery's have {dimension}.")
    share = np.array([hashed_share("switch", name) for name in pairs.names])
    free = ~np.array(pairs.taught, np.bool_) if pairs.taught else np.ones(len(share), np.bool_)
    choosing, judging = share < _CHOOSE, (share >= _CHOOSE) & (share < _MEASURE) & free
    counts = len(set(pairs.names)), len({n for n, j in zip(pairs.names, judging.tolist(), strict=True) if j})
    if counts[1] < 5 or not choosing.any() or share.max() < _MEASURE:
        raise BadInput(
            f"The pairs are of {counts[0]} identities, {counts[1]} of which may measure.",
            "Fifty or so are needed, whom the new embedder has not learned from.",
            "Add some.",
        )
    found = learned(pairs.old[~judging], pairs.new[~judging], choosing[~judging])
    old, new, mapped = pairs.old[judging], pairs.new[judging], found(pairs.old[judging])
    names = [name for name, j in zip(pairs.names, judging.tolist(), strict=True) if j]
    ids = np.unique(names, return_inverse=True)[1]
    several = bool((np.bincount(ids) > 1).any())
    figures: dict[str, Any] = {
        "pairs": len(pairs.names),
        "kind": found.kind,
        "identities": counts[1],
        "same_picture": not several,
    }
    unknown = [i for i, name in enumerate(pairs.names) if name not in enrolled and free[i]] if pairs.named else []
    native = len({pairs.names[i] for i in unknown}) >= ENOUGH_STRANGERS
    figures["mapped"] = _figures(new, mapped, names, several, target, new if native else mapped)
    figures["before"] = _figures(old, old, names, several, target, old) if several else None
    figures["anew"] = _figures(new, new, names, several, target, new) if several else None
    before = figures["before"]["fnir"] if several else 0.0
    strangers = (tuple(pairs.names[i] for i in unknown), pairs.new[unknown]) if native else None
    return Switch(found, strangers, {**figures, "loss": figures["mapped"]["fnir"] - before})


def _figures(
    probes: Vectors, enrolled: Vectors, names: list[str], several: bool, target: float, strangers: Vectors
) -> dict[str, Any]:
    """Return how often `probes` (n, d) find their own among `enrolled` (n, d), row i of both being of one picture.

    With `several` pictures of an identity the same one does not count. `strangers` (n, d), as the gallery has them, set
    the threshold: each among those of other identities.
    """
    ids = np.unique(names, return_inverse=True)[1]
    likeness = probes @ enrolled.T
    own = ids[:, None] == ids[None, :]
    other = np.where(own, -np.inf, likeness).max(axis=1)
    mates = own & ~np.eye(len(ids), dtype=np.bool_) if several else own
    mate = np.where(mates, likeness, -np.inf).max(axis=1)
    searches = np.flatnonzero(np.isfinite(mate))
    near, far = (np.sqrt(np.maximum(2 - 2 * s[searches], 0)) for s in (mate, other))
    whose = [names[i] for i in searches]
    asking = np.where(own, -np.inf, strangers @ enrolled.T).max(axis=1)
    rule = threshold(np.sqrt(np.maximum(2 - 2 * asking, 0)), names, target).rule
    first, missed = near < far, ~rule.returns(near, far)
    return {
        "searches": len(searches),
        "rank1": float(np.mean(first)),
        "rank1_interval": list(clustered_interval(first, whose)),
        "fnir": float(np.mean(missed)),
        "fnir_interval": list(clustered_interval(missed, whose)),
        "target_fpir": target,
    }
