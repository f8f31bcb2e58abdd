"""From samples to answers: embedded ahead in batches, searched, decided, and logged before they are given."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import Locked, NoSubject, Refusal, SeveralSubjects, SiameseIndexError
from .samples import images
from .samples.faces import Box
from .samples.framing import around
from .samples.images import Picture, picture_name
from .search.fusion import all_distances, fused_by_identity, to_identity
from .session import Session, State
from .thresholds.decision import SET, Candidate, Decision, Evidence, decide
from .thresholds.learning import Threshold
from .thresholds.question import Question, share
from .towers.embedding import Embedder, ahead, one, subjects
from .towers.tower import BATCH, Taken
from .vectors import Vectors, distances, unit

if TYPE_CHECKING:
    from .search.identities import Hit


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to "are these two the same?"."""

    verdict: str  # match | unknown: also where the evidence does not support the target
    distance: float
    threshold: float | None  # the distance at which `target_fmr` of strangers' comparisons match
    target_fmr: float
    tower: str
    evidence: Evidence  # its shares are of comparisons: FMR, not FPIR

    @property
    def matched(self) -> bool:
        """Whether they are the same."""
        return self.verdict == "match"

    def __bool__(self) -> bool:
        return self.matched


@dataclass(frozen=True, slots=True)
class _Probe:
    """A sample on its way to an answer."""

    name: str
    data: bytes
    tower: str  # the id of the tower that it was prepared for
    taken: Taken
    ms: float  # that reading and decoding took
    box: Box | None = None  # where in the picture it is
    several: bool = False  # whether the picture shows others, too

    def part(self) -> bytes:
        """Return the picture, or where it shows others, too, this one's part of it."""
        return around(self.data, self.box) if self.several and self.box else self.data


def identify(
    session: Session, pictures: Iterable[Picture], question: Question, turn: AbstractContextManager[None]
) -> Iterator[Decision | Refusal]:
    """Yield an answer per picture, in order, or one for each face in it; a Refusal for one that cannot be read."""
    for answers in identify_each(session, pictures, question, turn):
        yield from answers


def identify_each(
    session: Session, pictures: Iterable[Picture], question: Question, turn: AbstractContextManager[None]
) -> Iterator[list[Decision | Refusal]]:
    """Yield the answers of each picture, in order: one, or one for each face in it.

    It is within `turn` while it uses the session, not while it waits for pictures.
    """
    with turn:
        embedder = session.last_embedder()  # if another one is active by now, `_decided` sees it
    waiting = ahead(partial(_probes, embedder, question.largest), enumerate(pictures))
    while batch := _batch(waiting):
        with turn:
            answers = iter(list(_answered(session, [probe for found in batch for probe in found], question)))
        yield from (list(itertools.islice(answers, len(found))) for found in batch)


def _batch(waiting: Iterator[list[_Probe | Refusal]]) -> list[list[_Probe | Refusal]]:
    """Return what is found in the next pictures: in so many that a batch is full."""
    batch: list[list[_Probe | Refusal]] = []
    while sum(map(len, batch)) < BATCH and (found := next(waiting, None)) is not None:
        batch.append(found)
    return batch


def identify_one(session: Session, picture: Picture, question: Question) -> Decision:
    """Return the answer for one picture.

    Raises Unreadable, SeveralSubjects where there are several in it, or Missing for one that is not there.
    """
    answers = list(identify(session, [picture], question, contextlib.nullcontext()))
    if len(answers) > 1:
        boxes = "; ".join(",".join(map(str, answer.box or ())) for answer in answers if isinstance(answer, Decision))
        raise SeveralSubjects(
            f"There are {len(answers)} faces in the picture, and one answer is asked for.",
            f"Their boxes: {boxes}.",
            "Ask for the largest alone (--largest, largest=True), or for each (identify_many).",
        )
    if isinstance(answers[0], Refusal):
        raise answers[0].error
    return answers[0]


def identify_vectors(session: Session, vectors: Any, question: Question, log: bool) -> list[Decision]:
    """Return one answer per vector (n, dimension) of the active tower's kind. Raises BadInput."""
    row, found = (session.last.tower if session.last else None) or session.active(), None
    while found is None:
        rows = unit(vectors, row.dimension)
        names = [(f"row {i}", None) for i in range(len(rows))]
        found = _decided(session, row.sha256, names, rows, question, {"decode": 0.0, "embed": 0.0})
        row = session.active() if found is None else row
    if log and _is_logging(session):
        found = _logged(session, found, rows, [None] * len(rows))
    return found


def _probes(embedder: Embedder, largest: bool, numbered: tuple[int, Picture]) -> list[_Probe | Refusal]:
    number, picture = numbered
    name, begin = picture_name(picture, number), time.perf_counter()
    try:
        data = images.read(picture)
        found = subjects(embedder, data)[: 1 if largest else None]
        ms = (time.perf_counter() - begin) * 1000 / len(found)
        return [_Probe(name, data, embedder.id, s.taken, ms, s.box, len(found) > 1) for s in found]
    except SiameseIndexError as error:
        return [Refusal(name, images.named(name, error))]


def _answered(session: Session, batch: Sequence[_Probe | Refusal], question: Question) -> Iterator[Decision | Refusal]:
    found = None
    while found is None:
        embedder = session.last_embedder()
        probes = [each for each in batch if isinstance(each, _Probe)]
        begin = time.perf_counter()
        ready: list[Any] = [p.taken if p.tower == embedder.id else embedder.prepare(p.part()) for p in probes]
        vectors = embedder.embed(ready)
        each = 1000 / max(1, len(probes))
        ms = {"decode": sum(p.ms for p in probes) * each / 1000, "embed": (time.perf_counter() - begin) * each}
        found = _decided(session, embedder.id, [(p.name, p.box) for p in probes], vectors, question, ms)
        if found is None:
            session.forget_embedder()
    if _is_logging(session):
        found = _logged(session, found, vectors, [embedder.kept(probe.part()) for probe in probes])
    answers = iter(found)
    for each_one in batch:
        if not isinstance(each_one, Refusal):
            yield next(answers)
        elif isinstance(each_one.error, NoSubject):
            yield _nobody(session, each_one.source, question)
        else:
            yield each_one


def _nobody(session: Session, name: str, question: Question) -> Decision:
    """Return the answer to a picture that shows nothing."""
    with session.reading() as state:
        learned = state.threshold(question.fpir) if question.threshold is None else Threshold(question.threshold, SET)
        return Decision(
            probe=name,
            verdict="no_subject",
            identity=None,
            distance=None,
            threshold=learned.tau,
            margin=None,
            expected_false_alarms=None,
            probability=None,
            candidates=(),
            evidence=learned.evidence,
            tower=state.active.sha256,
            revision=state.revision[0],
        )


def _decided(
    session: Session,
    tower: str,
    probes: Sequence[tuple[str, Box | None]],
    vectors: Vectors,
    question: Question,
    ms: dict[str, float],
) -> list[Decision] | None:
    """Answer for vectors of `tower`, or return None when another tower is active by now."""
    if not probes:
        return []
    begin = time.perf_counter()
    with session.reading() as state:
        if state.tower is None or state.tower.sha256 != tower:
            return None
        searcher, given = state.searcher, question.threshold
        learned = state.threshold(question.fpir) if given is None else Threshold(given, SET)
        moves = state.moves(vectors) if given is None else np.zeros(len(vectors))
        only = state.only(question.tags, question.exclude)
        wanted = max(question.k, 2)  # at least two, for the margin
        radius = None if question.exact else learned.rule.moved(float(moves.max())).radius  # the farthest of all
        found = searcher.nearest(vectors, wanted, radius=radius, only=only)
        new = {hit.template for hits in found for hit in hits if hit.template not in state.labels}
        if new:
            state.labels.update(state.store.templates.owners(new))
        among = state.settings.identities if only is None else len(only)
        each = {**ms, "search": (time.perf_counter() - begin) * 1000 / len(probes)}
        decided = [
            _decision(state, probe, hits, question, learned, by, among, each)
            for probe, hits, by in zip(probes, found, moves.tolist(), strict=True)
        ]
        searcher.index.rebuild_if_stale()  # now that nobody waits for it
        return decided


def _decision(
    state: State,
    probe: tuple[str, Box | None],
    hits: Sequence[Hit],
    question: Question,
    learned: Threshold,
    by: float,
    identities: int,
    ms: dict[str, float],
) -> Decision:
    start = time.perf_counter()
    candidates = [
        Candidate(rank, state.labels[hit.template][0], hit.distance, state.labels[hit.template][1])
        for rank, hit in enumerate(hits, 1)
    ]
    rule = learned.rule.moved(by)
    verdict, margin = decide(candidates, rule)
    if (question.strict or state.settings.strict) and verdict == "match" and not learned.evidence.promised:
        verdict = "unknown"
    first = candidates[0] if candidates else None
    alarms = probability = None
    if first:
        alarms = state.expected_false_alarms(first.distance, identities)
        if learned.evidence.searches:
            probability = state.probability(first.distance - by, learned.evidence.source)
    return Decision(
        probe=probe[0],
        box=probe[1],
        verdict=verdict,
        identity=first.identity if first and verdict == "match" else None,
        distance=first.distance if first else None,
        threshold=rule.threshold,
        margin=margin,
        expected_false_alarms=alarms,
        probability=probability,
        candidates=tuple(candidates[: question.k]),
        evidence=learned.evidence,
        tower=state.active.sha256,
        revision=state.revision[0],
        ms={key: round(v, 3) for key, v in ms.items()} | {"decide": round((time.perf_counter() - start) * 1000, 3)},
    )


def _is_logging(session: Session) -> bool:
    return session.last is not None and session.last.settings.log


def _logged(
    session: Session, decided: list[Decision], vectors: Vectors, pictures: Sequence[bytes | None]
) -> list[Decision]:
    """Return answers with their ids, logged durably before they are given. One that cannot be logged is not given."""
    if not decided:
        return decided
    from .store.answer_log import NewAnswer

    keep = session.store.settings().keep_pictures
    answers = [
        NewAnswer(
            revision=d.revision,
            tower=d.tower,
            probe=d.probe,
            verdict=d.verdict,
            sample=d.candidates[0].sample if d.matched else None,
            distance=d.distance,
            threshold=d.threshold,
            vector=vector.tobytes(),
            picture=picture if keep else None,
        )
        for d, vector, picture in zip(decided, vectors, pictures, strict=True)
    ]
    asked = session.last.revision if session.last else (0, b"")
    with session.store.writing("log"):
        if session.store.token_of(asked[0]) != asked[1]:
            raise Locked(f"{session.path}: another gallery was put in its place meanwhile.", remedy="Ask again.")
        ids = session.store.log.add(answers)
    return [replace(decision, answer=answer) for decision, answer in zip(decided, ids, strict=True)]


# -- one to one -----------------------------------------------------------------------------------


def verify(session: Session, a: Picture, b: Picture, fmr: float | None) -> Verification:
    """Say whether two samples show the same identity. Raises Unreadable."""

    def to_each_other(state: State, vectors: Vectors, target: float) -> tuple[float, Threshold]:
        return float(distances(vectors[0], vectors[1])), verification_threshold(state, target)

    return _compared(session, (a, b), fmr, to_each_other)


def verify_as(session: Session, picture: Picture, name: str, fmr: float | None) -> Verification:
    """Say whether a sample shows the enrolled identity `name`, by its fused distance. Raises Missing or Unreadable."""

    def to_enrolled(state: State, vectors: Vectors, target: float) -> tuple[float, Threshold]:
        from .thresholds.verification import of_identity

        row, fusion = state.active, state.settings.fusion
        identity = state.store.known(name)
        _, templates = state.store.templates.of(row.id, row.dimension, identity)
        rows = state.store.impostors.strangers(row.id, row.dimension)
        others = np.flatnonzero(rows.own != identity)
        among = fused_by_identity(all_distances(rows.vectors[others], templates), np.array([0]), fusion)[:, 0]
        learned = of_identity(among.astype(np.float64), [rows.names[i] for i in others.tolist()], target)
        return to_identity(vectors, templates, fusion), learned

    return _compared(session, (picture,), fmr, to_enrolled)


def verification_threshold(state: State, target: float) -> Threshold:
    """Return the distance at which a share `target` of strangers' comparisons match, and what it rests on."""
    from .thresholds.verification import of_pairs

    return of_pairs(state.false_matches, state.doubt, target)


def _compared(
    session: Session,
    pictures: Sequence[Picture],
    fmr: float | None,
    measure: Callable[[State, Vectors, float], tuple[float, Threshold]],
) -> Verification:
    """Embed samples and measure a distance, all by one tower and in one state."""
    while True:
        embedder = session.last_embedder()
        vectors = _embedded(embedder, pictures)
        with session.reading() as state:
            if state.active.sha256 == embedder.id:
                target = state.settings.target_fpir if fmr is None else share(fmr)
                distance, learned = measure(state, vectors, target)
                unlike = state.threshold(None).evidence.unlike
                sure = learned.evidence.promised and not unlike and learned.rule.is_within(distance)
                verdict = "match" if sure else "unknown"
                return Verification(verdict, distance, learned.tau, target, embedder.id, learned.evidence)
        session.forget_embedder()  # another tower is active by now


def _embedded(embedder: Embedder, pictures: Sequence[Picture]) -> Vectors:
    ready: list[Any] = []
    for number, picture in enumerate(pictures):
        try:
            ready.append(one(embedder, images.read(picture)))
        except SiameseIndexError as error:
            raise images.named(picture_name(picture, number), error) from None
    return embedder.embed(ready)


# -- vectors --------------------------------------------------------------------------------------


def embed(session: Session, pictures: Sequence[Picture]) -> tuple[Vectors, dict[int, Refusal]]:
    """Return vectors (m, dimension) of the pictures that can be read, in order, and by position the others."""
    embedder, refusals = session.embedder(), {}
    ready: list[Any] = []
    for i, picture in enumerate(pictures):
        try:
            ready.append(one(embedder, images.read(picture)))
        except SiameseIndexError as error:
            name = picture_name(picture, i)
            refusals[i] = Refusal(name, images.named(name, error))
    return embedder.embed(ready), refusals


def all_distances_to(session: Session, vectors: Vectors) -> tuple[list[str], NDArray[np.float32]]:
    """Return the enrolled names, and the fused distance of each vector (n, dimension) to each: float32 (n, N)."""
    with session.reading() as state:
        row = state.active
        vectors = unit(vectors, row.dimension) if len(vectors) else vectors
        _, identities, templates = state.store.templates.after(row.id, row.dimension, 0)
        names, fusion = state.store.identity_names(), state.settings.fusion
    order = np.argsort(identities, kind="stable")
    groups, starts = np.unique(identities[order], return_index=True)
    out = np.empty((len(vectors), len(groups)), np.float32)
    for first in range(0, len(vectors) if len(groups) else 0, 256):
        block = all_distances(vectors[first : first + 256], templates[order])
        out[first : first + 256] = fused_by_identity(block, starts, fusion)
    return [names[i] for i in groups.tolist()], out


def nearest_sample(session: Session, vector: NDArray[np.float32], name: str) -> int:
    """Return the id of the identity's sample that is nearest to a vector (dimension,). Raises Missing."""
    with session.reading() as state:
        row = state.active
        vector = unit(vector, row.dimension)[0]
        ids, templates = state.store.templates.of(row.id, row.dimension, state.store.known(name))
        nearest = int(ids[distances(templates, vector).argmin()])
        return state.store.templates.owners([nearest])[nearest][1]
