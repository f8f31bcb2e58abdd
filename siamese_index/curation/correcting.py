"""An answer was wrong: what it shows becomes a sample, a stranger, or an example for the next retraining."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siamese_index import enrollment
from siamese_index.enrollment import Terms
from siamese_index.errors import BadInput, Missing
from siamese_index.samples.images import Picture, picture_name
from siamese_index.samples.names import clean_name
from siamese_index.search.fusion import all_distances, fused_by_identity
from siamese_index.session import Change, Session, State
from siamese_index.store.answer_log import Answer
from siamese_index.store.rows import NewSample, TowerRow
from siamese_index.thresholds import strangers
from siamese_index.thresholds.learning import Outlook
from siamese_index.vectors import Vectors

from .samples import refuse_no_ids

IDENTITY, STRANGER, IGNORED = "identity", "stranger", "ignored"  # what an answer should have been


@dataclass(frozen=True, slots=True)
class Correction:
    """What became of answers that were corrected, and what that changed."""

    truth: str  # IDENTITY, STRANGER or IGNORED
    name: str | None  # of the identity, or of the stranger
    samples: int  # that are new: the same picture is not enrolled twice
    new: bool  # whether the identity was not enrolled before
    before: Outlook
    after: Outlook
    named: int  # other answers on record that were unknown, and would name this identity now


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """An answer on record: what it rests on, and what it was corrected to."""

    id: int
    at: str  # UTC time, for people
    probe: str
    verdict: str
    identity: str | None
    distance: float | None
    threshold: float | None
    tower: str  # id
    revision: int
    corrected: str | None  # "identity", "stranger" or "ignored"
    truth: str | None  # the name that it was corrected to


def listed(session: Session, limit: int) -> list[LoggedAnswer]:
    """Return the last answers on record, the newest first."""
    limit = max(0, min(limit, 1 << 60))
    with session.reading() as state:
        towers = {row.id: row.sha256 for row in state.store.towers.all()}
        known, names = state.store.log.corrections(), state.store.identity_names()
        answers = state.store.log.listed(limit)
    found = []
    for a in answers:
        truth, whose = known.get(a.id, (None, None))
        told = LoggedAnswer(
            a.id,
            a.at,
            a.probe,
            a.verdict,
            a.identity,
            a.distance,
            a.threshold,
            towers.get(a.tower, ""),
            a.revision,
            truth,
            names.get(whose or 0),
        )
        found.append(told)
    return found


def correct(session: Session, what: int | Picture, name: str | None, stranger: bool, ignore: bool) -> Correction:
    """Say of an answer on record (its id), or of a picture, what it shows. Raises Missing, BadInput, Unreadable."""
    if (name is not None) + stranger + ignore != 1:
        raise BadInput("What it shows is not told.", "Expected a name, stranger, or ignore: one of them.")
    truth = IDENTITY if name is not None else STRANGER if stranger else IGNORED
    if isinstance(what, int):
        refuse_no_ids([what])
        return settle(session, [[what]], truth, name)
    if truth == IGNORED:
        raise BadInput(
            "Only an answer on record can be ignored.", "Nothing is known of this picture.", "See: sidx log list"
        )
    row = session.active()
    samples, vectors, refused = enrollment.taken(session, [(clean_name(name or picture_name(what, 0)), what)])
    if refused:
        raise refused[0].error
    return _settled(session, row, truth, samples, vectors, {})


def settle(session: Session, groups: Sequence[Sequence[int]], truth: str, name: str | None) -> Correction:
    """Say of groups of answers on record what they show, in one change. Raises Missing, BadInput.

    Without a name each group is a stranger of its own, called after its first answer.
    """
    row, answers = session.active(), [answer for group in groups for answer in group]
    refuse_no_ids(answers)
    with session.reading() as state:
        found = state.store.log.some(answers)
        known = state.store.log.corrections()
    lost = next((answer for answer in answers if answer not in found), None)
    if lost is not None:
        raise Missing(f"There is no answer {lost} on record.", remedy="See: sidx log list")
    again = next((answer for answer in answers if answer in known), None)
    if again is not None:
        mend = {IDENTITY: "sidx samples move, or remove", STRANGER: "sidx strangers remove", IGNORED: "sidx history"}
        raise BadInput(
            f"Answer {again} was corrected already: {known[again][0]}.", remedy=f"Mend that: {mend[known[again][0]]}"
        )
    chosen = [found[answer] for answer in answers]
    if truth == IGNORED:
        return _settled(session, row, truth, [], np.zeros((0, row.dimension), np.float32), {a.id: a for a in chosen})
    called = [clean_name(name or f"answer {group[0]}") for group in groups for _ in group]
    vectors = vectors_of(session, row, chosen)
    samples = [
        NewSample(who, _digest(answer, vector), answer.probe, answer.picture)
        for who, answer, vector in zip(called, chosen, vectors, strict=True)
    ]
    return _settled(session, row, truth, samples, vectors, {a.id: a for a in chosen})


def vectors_of(session: Session, row: TowerRow, answers: Sequence[Answer]) -> Vectors:
    """Return the vectors of answers by the tower `row`: those on record, or of their pictures. Raises BadInput."""
    vectors = np.zeros((len(answers), row.dimension), np.float32)
    other = [i for i, answer in enumerate(answers) if answer.tower != row.id]
    for i, answer in enumerate(answers):
        if answer.tower == row.id:
            vectors[i] = np.frombuffer(answer.vector, np.float32)
    blind = next((answers[i].id for i in other if answers[i].picture is None), None)
    if blind is not None or (other and not row.has_network):
        raise BadInput(
            f"Answer {blind or answers[other[0]].id} is of an earlier tower, and its picture was not kept.",
            "The active tower cannot embed it.",
            "Correct it by the picture itself: sidx correct FILE",
        )
    if other:
        pictures = [picture for i in other if (picture := answers[i].picture) is not None]
        vectors[other] = session.embedder(row).embed_samples(pictures)
    return vectors


def _digest(answer: Answer, vector: Vectors) -> bytes:
    return hashlib.sha256(vector.tobytes() if answer.picture is None else answer.picture).digest()


def _settled(
    session: Session,
    row: TowerRow,
    truth: str,
    samples: Sequence[NewSample],
    vectors: Vectors,
    answers: dict[int, Answer],
) -> Correction:
    name = samples[0].name if samples else None
    with session.changing("correct", row.id) as change:
        before, new = change.state.outlook(), False
        if truth == IDENTITY:
            new = change.store.identity(name or "") is None
            fresh = _enroll(change, samples, vectors, bool(answers))
        elif truth == STRANGER:
            fresh = 0
            there = change.store.impostors.digests(row.id)
            if answers or any(there.get(sample.digest, 0) is not None for sample in samples):
                event = change.record(strangers=len(samples))
                fresh = strangers.admit(change.store, event, row.id, "given", samples, vectors)
                strangers.compare(change.store, row.id, row.dimension)
                change.impostors.recompute()
        else:
            change.record(answers=len(answers))
            fresh = 0
        whose = change.store.identity(name or "") if truth == IDENTITY else None
        change.store.log.set_corrections(dict.fromkeys(answers, (truth, whose)))
    with session.reading() as state:
        named = _named_now(state, whose, answers) if whose is not None else 0
        return Correction(truth, name, fresh, new, before, state.outlook(), named)


def _enroll(change: Change, samples: Sequence[NewSample], vectors: Vectors, answers: bool) -> int:
    """Enroll what is not enrolled yet; return how many. Raises BadInput for what is somebody else's already."""
    holders = change.store.holders([sample.digest for sample in samples])
    taken = next((s for s in samples if holders.get(s.digest, (0, s.name))[1] != s.name), None)
    if taken is not None:
        raise BadInput(
            f"{taken.source}: already enrolled as {holders[taken.digest][1]!r}, not {taken.name!r}.",
            remedy="Move that sample: sidx samples move",
        )
    fresh = [i for i, sample in enumerate(samples) if sample.digest not in holders]
    fresh = [i for k, i in enumerate(fresh) if samples[i].digest not in {samples[j].digest for j in fresh[:k]}]
    if not fresh:
        if answers:
            change.record(samples=0)
        return 0
    keep = change.state.settings.keep_pictures
    kept = [sample if keep else sample._replace(kept=None) for sample in samples]
    enrollment.write(change, kept, vectors, fresh, Terms("allow"))
    return len(fresh)


def _named_now(state: State, identity: int, settled: dict[int, Answer]) -> int:
    """Count answers that were unknown, and whose probes lie within the threshold of this identity now."""
    row, tau = state.active, state.threshold(None).tau
    answers = [a for a in state.store.log.unknown(row.id) if a.id not in settled]
    if tau is None or not answers:
        return 0
    probes = np.frombuffer(b"".join(answer.vector for answer in answers), np.float32).reshape(len(answers), -1)
    templates = state.store.templates.of(row.id, row.dimension, identity)[1]
    fused = fused_by_identity(all_distances(probes, templates), np.array([0]), state.settings.fusion)[:, 0]
    return int(np.sum(fused - state.moves(probes) <= tau))
