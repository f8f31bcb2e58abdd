"""A candidate that is the active tower adapted to the gallery, judged on identities that it was not adapted to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from siamese_index.errors import BadInput, Refusal
from siamese_index.samples.images import Progress
from siamese_index.samples.items import Items
from siamese_index.towers.adapting import adapted, applied, whitening
from siamese_index.towers.tower_file import Cohort

from .comparison import compare
from .contract import OpenGallery
from .tower_trial import embedded

ENOUGH = 10  # identities with two samples to learn from, and as many to judge by
_JUDGES = 0.5  # share of identities


@dataclass(frozen=True)
class Adaptation:
    """A stored, inactive candidate and its figures beside the active tower's, on identities it was not adapted to."""

    tower: str  # id
    comparison: dict[str, Any]  # as `comparison.compare` returns it
    learned_from: int  # identities
    refused: tuple[Refusal, ...] = ()  # what of the data could not be read

    @property
    def better(self) -> bool:
        """Whether the candidate is proved to be better."""
        return bool(self.comparison["verdict"] == "better")


def adapt(gallery: OpenGallery, data: Items | None = None, progress: Progress | None = None) -> Adaptation:
    """Whiten the active tower's vectors by what the enrolled (and `data`) differ by, and store that as a candidate.

    Half of the identities with two samples, by a hash of their names, are learned from; the others judge. Nothing is
    switched: `promote` does that. Raises BadInput with the numbers that are missing.
    """
    before = gallery.tower_file()
    with gallery.reading() as state:
        row, target = state.active, state.settings.target_fpir
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
    judges = {n for n in several if _share(n) < _JUDGES and n not in taught and n not in record.identities}
    if min(len(judges), len(several - judges)) < ENOUGH:
        raise BadInput(
            f"{len(several)} identities have two or more pictures: {len(several - judges)} to learn from,"
            f" {len(judges)} to judge by.",
            f"{ENOUGH} of each are needed. Those that the tower was trained on cannot judge.",
            "Enroll more, or add some with --data.",
        )
    learn = np.array([name not in judges for name in names])
    matrix, mean = whitening(vectors[learn], ids[learn])
    judged = compare(vectors, applied(vectors, matrix, mean), names, judges, target, attempt=attempt)
    judged["champion_has_seen"] = 0
    learned = np.array([list(bytes.fromhex(d)) for d, k in zip(digests, learn.tolist(), strict=True) if k], np.uint8)
    grown = record.and_from(several - judges, learned.reshape(-1, 32))
    own = [i for i, source in enumerate(strangers.sources) if source == "tower"]
    cohort = Cohort(
        tuple(strangers.names[i] for i in own),
        tuple(strangers.digests[i].hex() for i in own),
        applied(strangers.vectors[own], matrix, mean),
    )
    made = adapted(before, matrix, mean, replace(grown, held_out=sorted(judges), chose=[]), cohort)
    gallery.add_tower(replace(made, card=made.card.with_figures(judged["challenger"])), judged)
    return Adaptation(made.id, judged, len(several - judges), refused)


def _share(name: str) -> float:
    return int.from_bytes(hashlib.sha256(f"adapt/{name}".encode()).digest()[:8], "big") / 2**64
