"""Enrolling: read, skip what is known, embed, refuse conflicts, write. Each step takes an iterator and gives one.

What goes from step to step is a sample on its way in, or what became of it: a Refusal, or `Known`. Some
thousands of samples are one durable transaction; an enrollment that is all or nothing is a single one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import BadInput, Conflict, Refusal, SiameseIndexError
from .samples import images, quality
from .samples.faces import Box, refuse_no_box
from .samples.images import Picture, Progress, picture_name
from .samples.items import Items
from .samples.names import Tags, clean_name, clean_tags
from .search.fusion import all_distances, to_identity
from .session import Change, Session
from .store.rows import NewSample, TowerRow
from .store.store import Store
from .thresholds.decision import Rule
from .thresholds.learning import Outlook, Threshold
from .towers.embedding import Embed, Embedder, local, within
from .towers.tower import BATCH
from .towers.tower_file import TowerFile
from .vectors import Vectors, unit, with_lengths

CHUNK = 1024  # pictures per transaction when enrolling many
VECTOR_CHUNK = 131_072  # vectors
SURE = 0.02  # FPIR
TWIN = 0.25  # templates nearer than this may be of one picture, saved twice: their pixels tell
Floor = Mapping[str, float] | None  # the least of each measure of `quality.quality`
Conflicts = Literal["allow", "refuse", "refuse when sure"]


class VectorTerms(TypedDict, total=False):
    """On what terms vectors are enrolled, as keyword arguments: `Terms` says what they mean."""

    conflicts: Conflicts
    tags: Tags


class SampleTerms(VectorTerms, total=False):
    """As `VectorTerms`, for pictures."""

    floor: Floor
    dry_run: bool
    box: Box | None


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms samples are enrolled."""

    conflicts: Conflicts
    floor: Mapping[str, float] = field(default_factory=dict)  # the least of each measure of `quality.quality`
    dry_run: bool = False
    tags: tuple[tuple[str, str], ...] = ()  # for the identities of what is enrolled
    strict: bool = False  # all or nothing: the first refusal is raised
    box: Box | None = None  # of each picture only what is here: x, y, width, height

    @classmethod
    def of(cls, given: SampleTerms | VectorTerms, strict: bool = False, kind: type[Any] = VectorTerms) -> Terms:
        """Return the terms with these options of a `kind`; conflicts are refused when sure."""
        unknown = sorted(set(given) - set(kind.__annotations__))
        if unknown:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
        options: dict[str, Any] = {"conflicts": "refuse when sure", **given, "tags": clean_tags(given.get("tags"))}
        return cls(**{**options, "floor": options.get("floor") or {}}, strict=strict)

    def __post_init__(self) -> None:
        if self.conflicts not in get_args(Conflicts):
            raise BadInput(f"conflicts cannot be {self.conflicts!r}.", f"Expected {', '.join(get_args(Conflicts))}.")
        refuse_no_box(self.box)
        if not all(math.isfinite(least) for least in self.floor.values()):
            raise BadInput("A floor of quality is not a number.", f"Found {dict(self.floor)}.")


@dataclass(slots=True)
class Enrollment:
    """What became of each sample of an enrollment."""

    enrolled: list[tuple[str, str]] = field(default_factory=list)  # (identity, source)
    already: list[tuple[str, str]] = field(default_factory=list)  # the same picture, under the same identity
    refused: list[Refusal] = field(default_factory=list)
    revision: int = 0
    outlook: Outlook | None = None  # of a dry run: what the gallery would promise and miss

    def count(self, outcome: Refusal | Known, strict: bool) -> None:
        """Take note of what became of a sample. Raises its error if `strict`."""
        if isinstance(outcome, Known):
            self.already.append((outcome.name, outcome.source))
        elif strict:
            raise outcome.error
        else:
            self.refused.append(outcome)


class Known(NamedTuple):
    """A sample that is enrolled already, under the same name."""

    name: str
    source: str


class Reading(NamedTuple):
    """A sample as it came in, and under which name."""

    name: str
    source: str
    digest: bytes
    data: bytes


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


def enroll(
    session: Session,
    items: Iterable[tuple[str, Picture]],
    terms: Terms,
    progress: Progress | None = None,
    embed: Embed | None = None,
) -> Enrollment:
    """Enroll (name, picture) items. `embed` embeds somewhere else than here (`towers.workers`)."""
    total = Enrollment(revision=session.last.revision[0] if session.last else 0)
    waiting, size = iter(enumerate(items)), None if terms.strict or terms.dry_run else CHUNK
    chunk = list(itertools.islice(waiting, size))
    while True:
        row = session.active()
        embedder = session.embedder(row)
        if terms.floor and embedder.takes_numbers:
            raise BadInput("Vectors have no quality to be measured.", remedy="Leave the floor out.")
        readings = skip_known(read(chunk, embedder, terms.box), session.store)
        arrivals = embedded(readings, embed or local(embedder), terms.floor)
        counted = len(total.already)
        samples, vectors = _collected(arrivals, embedder, total, terms.strict, progress)
        if not session.store.settings().keep_pictures:
            samples = [sample._replace(kept=None) for sample in samples]
        in_one_transaction(session, row, samples, vectors, total, terms, counted)
        if not (chunk := list(itertools.islice(waiting, size))):
            return total


def enroll_many(
    session: Session, items: Iterable[tuple[str, Picture]], terms: Terms, progress: Progress | None, dask: str | None
) -> Enrollment:
    """Enroll items by the shortest way: the rows of one array as vectors, and on Dask's workers if there are some."""
    row = session.active()
    if isinstance(items, Items) and items.vectors is not None and not (row.has_network or terms.floor or dask):
        return enroll_vectors(session, items.names, items.vectors, terms, progress)
    if dask is None:
        return enroll(session, items, terms, progress)
    from .towers.workers import Workers

    tower = session.network(row)
    onnx, detector = session.store.towers.served(row.id)
    file = TowerFile(onnx, None, row.card, detector=detector)
    with Workers(dask, file, tower) as workers:
        return enroll(session, items, terms, progress, workers.embed)


def enroll_vectors(
    session: Session, names: Sequence[str], vectors: Any, terms: Terms, progress: Progress | None = None
) -> Enrollment:
    """Enroll vectors (n, dimension) under `names` (n,), all of which are checked before the first is enrolled.

    Raises BadInput.
    """
    total, row = Enrollment(), session.active()
    if row.has_network:
        raise BadInput(
            f"{session.store.path}: this gallery embeds pictures itself.", remedy="Enroll pictures, not vectors."
        )
    if len(np.shape(vectors)) != 2:
        raise BadInput(f"These are not vectors: shape {np.shape(vectors)}.", "Expected shape (n, dimension).")
    if len(names) != len(vectors):
        raise BadInput(f"{len(names):,} names for {len(vectors):,} vectors.", "Each vector needs its name.")
    names = [clean_name(name) for name in names]
    size = max(1, len(names)) if terms.strict or terms.dry_run else VECTOR_CHUNK
    parts = [slice(first, first + size) for first in range(0, len(names), size)] or [slice(0, 0)]
    for part in parts if len(parts) > 1 else ():
        with_lengths(vectors[part], row.dimension, part.start)
    for part in parts:
        rows = unit(vectors[part], row.dimension, part.start)
        samples = [
            NewSample(name, hashlib.sha256(vector).digest(), f"row {number}", None)
            for number, (name, vector) in enumerate(zip(names[part], rows, strict=True), part.start)
        ]
        in_one_transaction(session, row, samples, rows, total, terms, len(total.already))
        if progress:
            progress(len(rows))
    return total


def taken(
    session: Session, items: Iterable[tuple[str, Picture]], progress: Progress | None = None
) -> tuple[list[NewSample], Vectors, list[Refusal]]:
    """Return (name, picture) items read and embedded by the active tower, and what could not be."""
    total, embedder = Enrollment(), session.embedder()
    arrivals = embedded(read(enumerate(items), embedder), local(embedder), {})
    samples, vectors = _collected(arrivals, embedder, total, False, progress)
    return samples, vectors, total.refused


# -- the steps ------------------------------------------------------------------------------------


def read(
    items: Iterable[tuple[int, tuple[str, Picture]]], embedder: Embedder, box: Box | None = None
) -> Iterator[Reading | Refusal]:
    """Yield numbered (name, picture) items as they are in their files, or what of them is in the box."""
    for number, item in items:
        if not isinstance(item, tuple) or len(item) != 2:
            raise BadInput(f"Item {number} is no pair of name and picture.", "Expected (name, picture) items.")
        name, picture = item
        source = picture_name(picture, number)
        try:
            accepted, data = clean_name(name), images.read(picture)
            data = data if box is None else within(embedder, data, box)
            yield Reading(accepted, source, embedder.digest(data), data)
        except SiameseIndexError as error:
            yield Refusal(source, images.named(source, error), name if isinstance(name, str) else None)


def skip_known(readings: Iterable[Reading | Refusal], store: Store) -> Iterator[Reading | Refusal | Known]:
    """Yield `Known` for what is enrolled under its name: it is not embedded again."""
    waiting = iter(readings)
    while batch := list(itertools.islice(waiting, BATCH)):
        with store.reading():
            holders = store.holders([each.digest for each in batch if isinstance(each, Reading)])
        for each in batch:
            known = isinstance(each, Reading) and holders.get(each.digest, (0, None))[1] == each.name
            yield Known(each.name, each.source) if known and isinstance(each, Reading) else each


def embedded(
    readings: Iterable[Reading | Refusal | Known], embed: Embed, floor: Mapping[str, float]
) -> Iterator[tuple[NewSample, NDArray[np.float32]] | Refusal | Known]:
    """Yield samples with their vectors, and in their places what is no longer on its way."""
    waiting: deque[Reading | Refusal | Known] = deque()

    def data() -> Iterator[bytes]:
        for each in readings:
            if isinstance(each, Reading):
                waiting.append(each._replace(data=b""))
                yield each.data
            else:
                waiting.append(each)

    for found in embed(data(), floor):
        while not isinstance(first := waiting.popleft(), Reading):
            yield first
        if isinstance(found, SiameseIndexError):
            yield Refusal(first.source, images.named(first.source, found), first.name)
        else:
            yield NewSample(first.name, first.digest, first.source, found[0]), found[1]
    for each in waiting:
        if not isinstance(each, Reading):
            yield each


def _collected(
    arrivals: Iterable[tuple[NewSample, NDArray[np.float32]] | Refusal | Known],
    embedder: Embedder,
    total: Enrollment,
    strict: bool,
    progress: Progress | None,
) -> tuple[list[NewSample], Vectors]:
    """Return samples and their vectors (n, dimension); what became of the others is counted in `total`."""
    samples, vectors = [], []
    for each in arrivals:
        if isinstance(each, (Refusal, Known)):
            total.count(each, strict)
        else:
            samples.append(each[0])
            vectors.append(each[1])
        if progress:
            progress(1)
    return samples, np.array(vectors, np.float32).reshape(-1, embedder.dimension)


def in_one_transaction(
    session: Session,
    row: TowerRow,
    samples: Sequence[NewSample],
    vectors: Vectors,
    total: Enrollment,
    terms: Terms,
    counted: int,
) -> None:
    """Write what is new. Who is in `total.already` from `counted` on gets the tags, too."""
    with contextlib.suppress(_TakenBack), session.changing("enroll", row.id) as change:
        fresh = list(_new(change, samples, total, terms.strict))
        if fresh and _may_reject_conflicts(change.state.threshold(None), terms.conflicts):
            fresh = list(_without_conflicts(change, samples, vectors, fresh, total, terms.strict))
        if fresh:
            write(change, samples, vectors, fresh, terms)
            total.enrolled += [(samples[i].name, samples[i].source) for i in fresh]
        known = {name for name, _ in total.already[counted:]}
        if terms.tags and known:
            if not fresh:
                change.record(samples=0)
            change.store.tag(sorted(change.store.identities_named(known).values()), terms.tags)
        total.revision = change.store.revision()[0]
        if terms.dry_run:
            total.outlook = session.state().outlook()
            raise _TakenBack


def _new(change: Change, samples: Sequence[NewSample], total: Enrollment, strict: bool) -> Iterator[int]:
    """Yield which samples are not enrolled yet, under any name."""
    enrolled = change.store.holders({sample.digest for sample in samples})
    holders = {digest: name for digest, (_, name) in enrolled.items()}
    for i, (name, digest, source, _) in enumerate(samples):
        holder = holders.get(digest)
        if holder is None:
            holders[digest] = name
            yield i
        else:
            total.count(Known(name, source) if holder == name else _taken(source, name, holder), strict)


def _may_reject_conflicts(learned: Threshold, conflicts: Conflicts) -> bool:
    """Whether a threshold is good enough to refuse a sample for whom it looks like.

    Strangers must have a part in it: one that was learned from the gallery alone lets a share of newcomers
    look like somebody by definition. Many samples are only refused by one that promises SURE; for a
    single one, whoever enrolls it can look.
    """
    if conflicts == "allow" or learned.tau is None or learned.evidence.source == "gallery":
        return False
    sure = "gallery" not in learned.evidence.source and (learned.evidence.promise or 1.0) <= SURE
    return conflicts == "refuse" or sure


def _without_conflicts(
    change: Change, samples: Sequence[NewSample], vectors: Vectors, fresh: list[int], total: Enrollment, strict: bool
) -> Iterator[int]:
    """Yield which of the samples `fresh` look like nobody else than whom they are said to show.

    A sample conflicts when another identity is within the threshold and nearer than its own, by more
    than the margin at which answers are ambiguous. It is compared with who is enrolled, and with what
    comes with it and is taken.
    """
    state, store = change.state, change.store
    row, rule, fusion = state.active, state.threshold(None).rule, state.settings.fusion
    anywhere = Rule(np.inf, rule.margin)  # also where its own lies beyond the threshold
    new = vectors[fresh]
    moves = state.moves(new)
    known = store.identities_named({samples[i].name for i in fresh})
    found = state.searcher.nearest(new, 2, radius=rule.moved(float(moves.max())).radius)
    labels = store.templates.owners({hit.template for hits in found for hit in hits})
    accepted = np.zeros(len(new), bool)
    for block in range(0, len(new), 256):
        among = all_distances(new[block : block + 256], new[: block + 256])  # what came before in this batch
        for at in range(block, min(block + 256, len(new))):
            (name, _, source, kept), own_rule = samples[fresh[at]], rule.moved(float(moves[at]))
            own = next((h for h in found[at] if h.identity == known.get(name)), None)
            if own and own.distance < TWIN and quality.alike(kept, store.picture(labels[own.template][1])):
                total.count(Known(name, source), strict)
                continue
            near = [(h.distance, *labels[h.template]) for h in found[at] if h is not own]
            close = np.flatnonzero(own_rule.is_within(among[at - block, :at]) & accepted[:at])
            beside = [(float(among[at - block, j]), samples[fresh[j]].name, -1) for j in close.tolist()]
            other, who, sample = min([n for n in near + beside if n[1] != name], default=(np.inf, "", -1))
            if own_rule.is_within(other):
                mine = min([n[0] for n in beside if n[1] == name], default=np.inf)
                if name in known:
                    templates = store.templates.of(row.id, row.dimension, known[name])[1]
                    mine = min(mine, to_identity(new[at], templates, fusion))
                if other < mine and not anywhere.is_ambiguous(other, mine):
                    twin = sample >= 0 and other < TWIN and quality.alike(kept, store.picture(sample))
                    refusal = _taken(source, name, who) if twin else _conflict(source, name, who, other, mine, own_rule)
                    total.count(refusal, strict)
                    continue
            accepted[at] = True
            yield fresh[at]


def write(change: Change, samples: Sequence[NewSample], vectors: Vectors, fresh: list[int], terms: Terms) -> None:
    """Store the samples `fresh`, and account for them in the impostor searches."""
    whole = len(fresh) == len(samples)
    rows, new = (samples, vectors) if whole else ([samples[i] for i in fresh], vectors[fresh])
    comparing = change.impostors.comparing(new)
    event = change.record(samples=len(fresh))
    identities, templates = change.store.add_samples(event, change.state.active.id, rows, new)
    if terms.tags:
        change.store.tag(np.unique(identities).tolist(), terms.tags)
    change.impostors.enrolled(rows, templates, identities, new, comparing)


def _conflict(source: str, name: str, who: str, other: float, mine: float, rule: Rule) -> Refusal:
    own = f"; {name!r} itself is {mine:.3f} away" if np.isfinite(mine) else ""
    error = Conflict(
        f"{source}: this looks like {who!r} ({other:.3f}, threshold {rule.threshold:.3f}), not {name!r}.",
        f"Another identity is within the threshold{own}.",
        f"Enroll it as {who!r}, or insist: --allow-conflict",
    )
    return Refusal(source, error, name)


def _taken(source: str, name: str, holder: str) -> Refusal:
    error = BadInput(
        f"{source}: already enrolled as {holder!r}, not {name!r}.",
        "The same sample cannot be two identities.",
        f"Rename or remove {holder!r}, or leave this sample out.",
    )
    return Refusal(source, error, name)
