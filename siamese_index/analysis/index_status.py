"""What finds the nearest templates of a gallery, measured on its own templates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siamese_index.analysis.contract import OpenGallery
from siamese_index.session import State
from siamese_index.store.rows import TowerRow
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
    scanned_after_all: float | None  # how many were repeated as a scan: the image was not sure who is nearest
    ms: float | None  # of one search, median
    exact_ms: float | None


def index_status(gallery: OpenGallery) -> IndexStatus:
    """Return what finds the nearest templates, why, and how often it finds what an exact search does.

    Searches from around own templates, as answers do and exactly.
    """
    with gallery.reading() as state:
        return _measured(state, state.searcher.index, state.active)


def _measured(state: State, index: TemplateIndex, tower: TowerRow) -> IndexStatus:
    store, radius = state.store, state.threshold(None).rule.radius
    probes = store.templates.some(tower.id, tower.dimension, MEASURED)
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
    n = len(probes)
    kind, why = index.described()
    in_base, in_tail, file_bytes, memory_bytes = index.sizes()
    return IndexStatus(
        kind=kind,
        why=why,
        templates=store.templates.count(tower.id),
        in_base=in_base,
        in_tail=in_tail,
        file_bytes=file_bytes,
        memory_bytes=memory_bytes,
        searches=n,
        recall_at_1=same_template / n if n else None,
        identity_hit=same_identity / n if n else None,
        scanned_after_all=again / n if n else None,
        ms=float(np.median(times[False])) if n else None,
        exact_ms=float(np.median(times[True])) if n else None,
    )
