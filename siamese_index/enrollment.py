"""Taking samples in: what is refused, what is there already, and one transaction for the rest."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from siamese_index.samples import quality

from .errors import BadInput, Conflict, Refusal, SiameseIndexError
from .identify import Answering, Outlook
from .samples import images
from .samples.images import Picture, Progress, picture_name
from .samples.sources import clean_name
from .search.fusion import all_distances, to_identity
from .store.rows import TowerRow
from .store.store import Store
from .thresholds.decision import Rule
from .thresholds.learning import Threshold
from .towers.embedding import Embed
from .vectors import Vectors, unit, with_lengths

Conflicts = Literal["allow", "refuse", "refuse when sure"]


SURE = 0.02  # FPIR


TWIN = 0.25  # templates nearer than this may be of one picture, saved twice: their pixels tell


Sample = tuple[str, bytes, str, bytes | None]  # identity, SHA-256, source, the picture to keep


@dataclass(slots=True)
class Enrollment:
    """What became of each sample of an enrollment."""

    enrolled: list[tuple[str, str]] = field(default_factory=list)  # (identity, source)
    already: list[tuple[str, str]] = field(default_factory=list)  # the same picture, under the same identity
    refused: list[Refusal] = field(default_factory=list)
    revision: int = 0
    outlook: Outlook | None = None  # of a dry run: what the gallery would promise and miss


def take(
    items: Iterable[tuple[str, Picture]],
    embed: Embed,
    dimension: int,
    total: Enrollment,
    strict: bool,
    keep: bool = True,
    floor: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    holder: Callable[[bytes], str | None] = lambda digest: None,  # noqa: ARG005
) -> tuple[list[Sample], Vectors]:
    """Read and embed (name, picture) items; return the samples and their vectors (n, dimension).

    What cannot be taken, or is below the `floor` of quality, is raised if `strict`, else listed in `total`.
    A sample whose digest has the `holder` that it is said to show is enrolled already, and not looked at again.
    """
    waiting: deque[tuple[str, bytes, str]] = deque()

    def refuse(source: str, error: SiameseIndexError) -> None:
        if strict:
            raise images.named(source, error) from None
        total.refused.append(Refusal(source, images.named(source, error)))

    def readable() -> Iterator[bytes]:
        for number, (name, picture) in enumerate(items):
            source = picture_name(picture, number)
            try:
                accepted, data = clean_name(name), images.read(picture)
            except SiameseIndexError as error:
                refuse(source, error)
            else:
                digest = hashlib.sha256(data).digest()
                if holder(digest) != accepted:
                    waiting.append((accepted, digest, source))
                    yield data
                    continue
                total.already.append((accepted, source))
            if progress:
                progress(1)

    samples: list[Sample] = []
    vectors: list[NDArray[np.float32]] = []
    for found in embed(readable(), floor or {}):
        name, digest, source = waiting.popleft()
        if isinstance(found, SiameseIndexError):
            refuse(source, found)
        else:
            samples.append((name, digest, source, found[0] if keep else None))
            vectors.append(found[1])
        if progress:
            progress(1)
    return samples, np.array(vectors, np.float32).reshape(-1, dimension)


def write(
    store: Store,
    answering: Answering,
    tower: TowerRow,
    samples: Sequence[Sample],
    vectors: Vectors,
    total: Enrollment,
    strict: bool,
    conflicts: Conflicts,
    tags: Sequence[tuple[str, str]] = (),
) -> None:
    """Enroll what is new among the samples; say in `total` what became of each. Call it inside a transaction."""
    cohort = answering.before_change(tower.id)
    enrolled = store.holders({sample[1] for sample in samples})
    holders = {digest: name for digest, (_, name) in enrolled.items()}
    fresh: list[int] = []
    for i, (name, digest, source, _) in enumerate(samples):
        holder = holders.get(digest)
        if holder is None:
            holders[digest] = name
            fresh.append(i)
        elif holder == name:
            total.already.append((name, source))
        else:
            _refuse(total, source, _taken(source, name, holder), strict)
    if fresh and conflicts != "allow" and _accuses(answering.state().threshold(None), conflicts):
        fresh = _without_conflicts(store, answering, tower, samples, vectors, fresh, total, strict)
    if fresh:
        whole = len(fresh) == len(samples)
        rows, new = (samples, vectors) if whole else ([samples[i] for i in fresh], vectors[fresh])
        comparing = cohort.comparing(new)
        event = store.record("enroll", samples=len(fresh))
        identities, templates = store.add_samples(event, tower.id, rows, new)
        if tags:
            store.tag(np.unique(identities).tolist(), tags)
        cohort.enrolled([row[0] for row in rows], [row[1] for row in rows], templates, identities, new, comparing)
        total.enrolled += [(row[0], row[2]) for row in rows]
    cohort.seen()
    total.revision = store.revision()[0]


def _accuses(learned: Threshold, conflicts: Conflicts) -> bool:
    """Whether a threshold is good enough to refuse a sample for whom it looks like.

    It must come from strangers: one that was learned from the gallery itself lets a share of newcomers
    look like somebody by definition. Many samples are only refused by one that promises SURE; for a
    single one, whoever enrolls it can look.
    """
    if learned.tau is None or "gallery" in learned.evidence.source:
        return False
    return conflicts == "refuse" or (learned.evidence.promise or 1.0) <= SURE


def _without_conflicts(
    store: Store,
    answering: Answering,
    tower: TowerRow,
    samples: Sequence[Sample],
    vectors: Vectors,
    fresh: list[int],
    total: Enrollment,
    strict: bool,
) -> list[int]:
    """Return which of the samples `fresh` look like nobody else than whom they are said to show.

    A sample conflicts when another identity is within the threshold and nearer than its own, by more
    than the margin at which answers are ambiguous. It is compared with who is enrolled, and with what
    comes with it and is taken.
    """
    state = answering.state()
    learned = state.threshold(None)
    tau = learned.tau
    if tau is None:  # nobody is accused without
        return fresh
    anywhere = Rule(np.inf, learned.evidence.margin)  # also where its own lies beyond the threshold
    new, samples = vectors[fresh], [samples[i] for i in fresh]
    known, fusion = store.identities_named({sample[0] for sample in samples}), state.settings.fusion
    found = answering.searcher(state).nearest(new, 2, radius=learned.rule.radius)
    labels = store.owners({hit.template for hits in found for hit in hits})
    taken = np.zeros(len(new), bool)
    for block in range(0, len(new), 256):
        among = all_distances(new[block : block + 256], new[: block + 256])  # what came before in this batch
        for at in range(block, min(block + 256, len(new))):
            name, _, source, picture = samples[at]
            own = next((h for h in found[at] if h.identity == known.get(name)), None)
            near = [(h.distance, *labels[h.template]) for h in found[at] if h is not own]
            close = np.flatnonzero((among[at - block, :at] <= tau) & taken[:at])
            beside = [(float(among[at - block, j]), samples[j][0], -1) for j in close.tolist()]
            other, who, sample = min([n for n in near + beside if n[1] != name], default=(np.inf, "", -1))
            if own and own.distance < TWIN and quality.alike(picture, store.picture(labels[own.template][1])):
                total.already.append((name, source))
                continue
            if other <= tau:
                mine = min([n[0] for n in beside if n[1] == name], default=np.inf)
                if name in known:
                    templates = store.templates_of(tower.id, tower.dimension, known[name])[1]
                    mine = min(mine, to_identity(new[at], templates, fusion))
                if other < mine and not anywhere.is_ambiguous(other, mine):
                    twin = sample >= 0 and other < TWIN and quality.alike(picture, store.picture(sample))
                    error = _taken(source, name, who) if twin else _conflict(source, name, who, other, mine, tau)
                    _refuse(total, source, error, strict)
                    continue
            taken[at] = True
    return [fresh[at] for at in np.flatnonzero(taken)]


def _refuse(total: Enrollment, source: str, error: SiameseIndexError, strict: bool) -> None:
    if strict:
        raise error
    total.refused.append(Refusal(source, error))


def _conflict(source: str, name: str, who: str, other: float, mine: float, tau: float) -> Conflict:
    own = f"; {name!r} itself is {mine:.3f} away" if np.isfinite(mine) else ""
    return Conflict(
        f"{source}: this looks like {who!r} ({other:.3f}, threshold {tau:.3f}), not {name!r}.",
        f"Another identity is within the threshold{own}.",
        f"Enroll it as {who!r}, or insist: --allow-conflict",
    )


def _taken(source: str, name: str, holder: str) -> BadInput:
    return BadInput(
        f"{source}: already enrolled as {holder!r}, not {name!r}.",
        "The same picture cannot be two identities.",
        f"Rename or remove {holder!r}, or leave this picture out.",
    )


CHUNK = 1024  # pictures per transaction when enrolling many


VECTOR_CHUNK = 131_072  # vectors


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms samples are enrolled."""

    conflicts: Conflicts
    floor: Mapping[str, float] = field(default_factory=dict)  # the least of each measure of `quality.quality`
    dry_run: bool = False
    tags: tuple[tuple[str, str], ...] = ()  # for the identities of what is enrolled


class Enrolling:
    """Enrolls for the active tower, on the same terms, and counts in `total` what became of everything."""

    def __init__(self, store: Store, answering: Answering, active: Callable[[], TowerRow], terms: Terms) -> None:
        self._store, self._answering, self._terms = store, answering, terms
        self._active, self._tower = active, active()
        self.total = Enrollment(revision=answering.revision)

    def pictures(
        self,
        items: Iterable[tuple[str, Picture]],
        embed: Callable[[], Embed],
        progress: Progress | None = None,
        strict: bool = False,
    ) -> Enrollment:
        """Enroll (name, picture) items; all or none if `strict`, and a dry run, are one transaction.

        `embed` gives what embeds with the tower that is active when a transaction's pictures are taken in.
        """
        waiting, size = iter(items), None if strict or self._terms.dry_run else CHUNK
        chunk = list(itertools.islice(waiting, size))
        while True:
            self._pictures(chunk, embed(), progress, strict)
            if not (chunk := list(itertools.islice(waiting, size))):
                return self.total
            self._tower = self._active()

    def _pictures(
        self, items: Sequence[tuple[str, Picture]], embed: Embed, progress: Progress | None, strict: bool
    ) -> None:
        keep = self._store.settings().keep_pictures
        samples, vectors = take(
            items, embed, self._tower.dimension, self.total, strict, keep, self._terms.floor, progress, self._holder
        )
        with contextlib.suppress(_TakenBack), self._store.writing("enroll"):
            self._write(samples, vectors, strict)
            if self._terms.dry_run:
                self.total.outlook = self._answering.outlook()
                raise _TakenBack

    def vectors(
        self, names: Sequence[str], vectors: Any, progress: Progress | None = None, strict: bool = False
    ) -> Enrollment:
        """Enroll vectors (n, dimension) under `names` (n,), all of which are checked before the first is enrolled.

        All of them are one transaction if `strict`. Raises BadInput.
        """
        if self._tower.has_network:
            path = self._store.path
            raise BadInput(f"{path}: this gallery embeds pictures itself.", remedy="Enroll pictures, not vectors.")
        if len(np.shape(vectors)) != 2:
            raise BadInput(f"These are not vectors: shape {np.shape(vectors)}.", "Expected shape (n, dimension).")
        if len(names) != len(vectors):
            raise BadInput(f"{len(names):,} names for {len(vectors):,} vectors.", "Each vector needs its name.")
        names = [clean_name(name) for name in names]
        size = max(1, len(names)) if strict else VECTOR_CHUNK
        parts = [slice(first, first + size) for first in range(0, len(names), size)] or [slice(0, 0)]
        for part in parts if len(parts) > 1 else ():
            with_lengths(vectors[part], self._tower.dimension, part.start)
        for part in parts:
            rows = unit(vectors[part], self._tower.dimension, part.start)
            samples = [
                (name, hashlib.sha256(row).digest(), f"row {number}", None)
                for number, (name, row) in enumerate(zip(names[part], rows, strict=True), part.start)
            ]
            with self._store.writing("enroll"):
                self._write(samples, rows, strict)
            if progress:
                progress(len(rows))
        return self.total

    def _write(self, samples: Sequence[Sample], vectors: Vectors, strict: bool) -> None:
        write(
            self._store, self._answering, self._tower, samples, vectors, self.total, strict, self._terms.conflicts,
            self._terms.tags,
        )  # fmt: skip

    def _holder(self, digest: bytes) -> str | None:
        with self._store.reading():
            found = self._store.holders([digest]).get(digest)
        return found[1] if found else None
