"""What finds the nearest templates of a gallery, measured on its own templates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siamese_index.identify import State
from siamese_index.store.rows import TowerRow
from siamese_index.store.store import Store
from siamese_index.vectors import unit

if TYPE_CHECKING:
    from siamese_index.search.template_index import TemplateIndex


MEASURED = 256  # searches


USUAL = 0.5  # how far a probe is moved where the gallery does not know how far samples of an identity are apart


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """How searches are made, and how well."""

    kind: str
    why: str
    templates: int  # enrolled
    in_base: int  # in the cached file
    in_tail: int  # read from the gallery, and scanned beside it
    file_bytes: int
    memory_bytes: int  # that a search looks at
    searches: int  # by own templates, each moved by as much as samples of an identity differ
    recall_at_1: float | None  # of these, how many found the nearest template that an exact search finds
    identity_hit: float | None  # the nearest identity
    scanned_after_all: float | None  # how many were near enough to the threshold to be repeated exactly
    ms: float | None  # of one search, median
    exact_ms: float | None


def measured(store: Store, index: TemplateIndex, tower: TowerRow, state: State) -> IndexStatus:
    """Search from around own templates, as answers do and exactly. Call it inside a transaction."""
    learned = state.threshold(None)
    radius = learned.rule.radius
    probes = store.some_templates(tower.id, tower.dimension, MEASURED)
    mates = state.searches.mates[np.isfinite(state.searches.mates)]
    far = float(np.median(mates)) if len(mates) else USUAL
    aside = unit(np.random.default_rng(0).normal(size=probes.shape)) if len(probes) else probes
    probes = unit(probes + far * aside) if len(probes) else probes
    same_template = same_identity = again = 0
    times: dict[bool, list[float]] = {False: [], True: []}
    for i in range(len(probes)):
        found = {}
        for exact in (False, True):
            begin = time.perf_counter()
            found[exact] = index.search(probes[i : i + 1], min(8, len(index)), exact=exact, radius=radius)
            times[exact].append((time.perf_counter() - begin) * 1000)
        quick = found[False]
        same_template += int(quick.templates[0, 0] == found[True].templates[0, 0])
        same_identity += int(quick.identities[0, 0] == found[True].identities[0, 0])
        again += int(index.coarse and radius(quick.distances[0, :1])[0] > quick.reach[0])
    shares = [count / len(probes) if len(probes) else None for count in (same_template, same_identity, again)]
    medians = [float(np.median(t)) if t else None for t in times.values()]
    kind, why = index.described()
    sizes = index.sizes()
    return IndexStatus(kind, why, store.template_count(tower.id), *sizes, len(probes), *shares, *medians)
