"""A candidate that is the active tower adapted to the gallery, judged on identities that it was not adapted to.

Adapted by what the pictures of one identity differ by; where few have two, by what a picture differs by from itself,
turned, moved and lit otherwise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Refusal
from siamese_index.samples.augment import LIKELY, jittered
from siamese_index.samples.images import Progress
from siamese_index.samples.items import Items
from siamese_index.samples.names import hashed_share
from siamese_index.towers.adapting import adapted, applied, whitening
from siamese_index.towers.tower import Tower
from siamese_index.towers.tower_file import Cohort, TowerFile
from siamese_index.vectors import Vectors

from .comparison import compare
from .contract import OpenGallery
from .tower_trial import embedded

ENOUGH = 10  # identities with two samples to learn from, and as many to judge by
MOST = 1000  # pictures whose changed views are learned from
VIEWS = 4  # of each: as it is, and changed
_JUDGES = 0.5  # share of identities


@dataclass(frozen=True)
class Adaptation:
    """A stored, inactive candidate and its figures beside the active tower's, on identities it was not adapted to."""

    tower: str  # id
    comparison: dict[str, Any]  # as `comparison.compare` returns it
    learned_from: int  # identities, or pictures where `by` is "views"
    by: str = "identities"  # or "views": of single pictures, changed
    refused: tuple[Refusal, ...] = ()  # what of the data could not be read

    @property
    def better(self) -> bool:
        """Whether the candidate is proved to be better."""
        return bool(self.comparison["verdict"] == "better")


def adapt(gallery: OpenGallery, data: Items | None = None, progress: Progress | None = None) -> Adaptation:
    """Whiten the active tower's vectors by what the enrolled (and `data`) differ by, and store that as a candidate.

    Half of the identities with two samples, by a hash of their names, are learned from; the others judge. With too few
    of them all judge, and single pictures are learned from, changed a little. Nothing is switched: `promote` does that.
    Raises BadInput with the numbers that are missing.
    """
    before = gallery.tower_file()
    with gallery.reading() as state:
        row, target, began = state.active, state.settings.target_fpir, state.revision[0]
        samples = state.store.samples()
        present, vectors = state.store.templates.of_samples(
            row.id, row.dimension, np.array([sample.id for sample in samples], np.int64)
        )
        strangers = state.store.impostors.strangers(row.id, row.dimension)
        attempt = 1 + sum(tower.report is not None and tower.id > row.id for tower in state.store.towers.all())
    there = [sample for sample, is_there in zip(samples, present.tolist(), strict=True) if is_there]
    names, digests = [sample.identity for sample in there], [sample.digest for sample in there]
    refused: tuple[Refusal, ...] = ()
    if data is not None:
        more, refused = embedded(before, data, progress)
        first = {digest: i for i, digest in reversed(list(enumerate(more.digests)))}
        fresh = sorted(set(first.values()) - {first[digest] for digest in digests if digest in first})
        names = [*names, *(more.names[i] for i in fresh)]
        digests = [*digests, *(more.digests[i] for i in fresh)]
        vectors = np.concatenate([vectors, more.vectors[fresh]])
    ids = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
    counts, record = np.bincount(ids, minlength=1), row.card.training
    seen = record.has_learned_from(map(bytes.fromhex, digests))
    taught = {name for name, digest in zip(names, digests, strict=True) if bytes.fromhex(digest) in seen}
    several = {name for name, i in zip(names, ids.tolist(), strict=True) if counts[i] > 1}
    judges = {
        n for n in several if hashed_share("adapt", n) < _JUDGES and n not in taught and n not in record.identities
    }
    by_views = min(len(judges), len(several - judges)) < ENOUGH
    learn = np.array([name not in judges for name in names])
    if by_views:
        everyone = {name for name in several if name not in taught and name not in record.identities}
        for tried in (everyone, judges, set[str]()):  # nobody judges where all are needed to learn from
            judges = tried
            among = np.array([name not in judges for name in names], np.bool_)
            pictures, learn = _pictures(gallery, before, there, among)
            if len(pictures) >= ENOUGH:
                break
        else:
            raise BadInput(
                f"{len(several)} identities have two or more pictures, and {len(pictures)} pictures are kept in all.",
                f"{ENOUGH} pictures are needed; 10 identities with two to judge by would be good.",
                "Enroll more, or add some with --data.",
            )
        matrix, mean = whitening(*_views(before, pictures))
    else:
        matrix, mean = whitening(vectors[learn], ids[learn])
    judged = compare(vectors, applied(vectors, matrix, mean), names, judges, target, attempt=attempt)
    judged["champion_has_seen"] = 0
    learned = np.array([list(bytes.fromhex(d)) for d, k in zip(digests, learn.tolist(), strict=True) if k], np.uint8)
    taken = {name for name, k in zip(names, learn.tolist(), strict=True) if k}
    grown = record.and_from(taken if by_views else several - judges, learned.reshape(-1, 32))
    own = [i for i, source in enumerate(strangers.sources) if source == "tower"]
    cohort = Cohort(
        tuple(strangers.names[i] for i in own),
        tuple(strangers.digests[i].hex() for i in own),
        applied(strangers.vectors[own], matrix, mean),
    )
    made = adapted(before, matrix, mean, replace(grown, held_out=sorted(judges), chose=[]), cohort)
    gallery.add_tower(replace(made, card=made.card.with_figures(judged["challenger"])), judged, began)
    if by_views:
        return Adaptation(made.id, judged, len(pictures), "views", refused)
    return Adaptation(made.id, judged, len(several - judges), refused=refused)


def _pictures(
    gallery: OpenGallery, file: TowerFile, there: list[Any], learn: NDArray[np.bool_]
) -> tuple[list[bytes], NDArray[np.bool_]]:
    """Return kept pictures of samples that may be learned from, MOST at most, and which samples they are of."""
    chosen = np.zeros(len(learn), np.bool_)
    pictures: list[bytes] = []
    if len(file.card.input.shape) == 1:
        return pictures, chosen  # numbers cannot be turned or lit otherwise
    at = np.flatnonzero(learn[: len(there)])
    for i in at[:: max(1, -(-len(at) // MOST))].tolist():
        picture = gallery.picture(there[i].id)
        if picture is not None:
            pictures.append(picture)
            chosen[i] = True
    return pictures, chosen


def _views(file: TowerFile, pictures: list[bytes]) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the vectors (n * VIEWS, d) of views of pictures, and of which picture each is."""
    tower = Tower.of(file)
    rows = []
    for picture in pictures:
        taken = np.asarray(tower.prepare(picture), np.uint8)
        rng = np.random.default_rng(list(hashlib.sha256(picture).digest()))
        changed = np.rint(jittered(np.repeat(taken[None], VIEWS - 1, axis=0), LIKELY, rng)).astype(np.uint8)
        rows.append(tower.embed([taken, *changed]))
    return np.concatenate(rows), np.repeat(np.arange(len(pictures), dtype=np.int64), VIEWS)
