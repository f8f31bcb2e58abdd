"""The decision log, asked again: which answers would another tower, or today's gallery, give differently?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from siamese_index.analysis.contract import OpenGallery
from siamese_index.errors import BadInput
from siamese_index.store.answer_log import Answer
from siamese_index.store.rows import TowerRow
from siamese_index.store.store import Store
from siamese_index.thresholds import learning
from siamese_index.thresholds.decision import Candidate, decide
from siamese_index.thresholds.mean_shift import MeanShift
from siamese_index.thresholds.strangers import enrolled_as
from siamese_index.towers.embedding import Embedder
from siamese_index.vectors import Vectors

from .leave_one_out import LeaveOneOut


@dataclass(frozen=True, slots=True)
class Flip:
    """A logged answer that would be another one."""

    answer: int  # its number in the log
    at: str  # UTC
    probe: str
    verdict: str
    identity: str | None
    new_verdict: str
    new_identity: str | None
    distance: float | None
    threshold: float | None
    new_distance: float | None
    new_threshold: float | None


@dataclass(frozen=True)
class Replay:
    """All logged answers, asked again."""

    answers: int
    skipped: int  # of another tower, without a picture to embed again
    flips: tuple[Flip, ...]
    threshold: float | None
    tower: str


def replay(gallery: OpenGallery, tower: str | None = None) -> Replay:
    """Ask every logged answer again of a stored tower (its id or the beginning of it; None: the active one).

    It is asked as if it were active. Nothing is stored: what the tower has not embedded yet is embedded for
    this. Raises BadInput when nothing was logged.
    """
    row, embedder = gallery.tower_record(tower)[0], gallery.embedder(tower)
    with gallery.reading() as state:
        settings = state.settings
        answers = state.store.log.all()
        names = state.store.identity_names()
        mated = state.store.towers.mated(row.id)
        everybody, stranger_names, sources = _as_embedded_by(embedder, state.store, row)
    if not answers:
        raise BadInput("No answer has been logged.", remedy="Begin: sidx log on")
    searched = everybody.search()
    cohort = mated if everybody.shift is None or not len(mated) else everybody.shift.mated()
    rows = replace(searched.rows(stranger_names, sources), cohort=cohort)
    learned = learning.learn(rows, settings.target_fpir, settings.fusion, settings.confidence)
    flips, asked = [], 0
    for start in range(0, len(answers), 256):
        part = [a for a in answers[start : start + 256] if a.tower == row.id or a.picture is not None]
        asked += len(part)
        vectors = _vectors(part, row, embedder)
        by = np.zeros(len(part)) if everybody.shift is None else everybody.shift.by(vectors)
        groups, distance = everybody.to_identities(vectors)
        for answer, line, rule in zip(part, distance, map(learned.rule.moved, by.tolist()), strict=True):
            order = np.argsort(line, kind="stable")[:2].tolist()
            candidates = [Candidate(rank, names[int(groups[i])], float(line[i]), -1) for rank, i in enumerate(order, 1)]
            verdict, _ = decide(candidates, rule)
            identity = candidates[0].identity if verdict == "match" else None
            if (verdict, identity) != (answer.verdict, answer.identity):
                flips.append(
                    Flip(
                        answer.id,
                        answer.at,
                        answer.probe,
                        answer.verdict,
                        answer.identity,
                        verdict,
                        identity,
                        answer.distance,
                        answer.threshold,
                        candidates[0].distance if candidates else None,
                        rule.threshold,
                    )
                )
    return Replay(len(answers), len(answers) - asked, tuple(flips), learned.tau, row.sha256)


def _as_embedded_by(embedder: Embedder, store: Store, row: TowerRow) -> tuple[LeaveOneOut, list[str], list[str]]:
    """Return everybody as `row` embeds them, and the strangers' names and sources."""
    ids, identities, vectors = store.templates.after(row.id, row.dimension, 0)
    owners = store.templates.owners(ids.tolist())
    samples = [owners[t][1] for t in ids.tolist()]
    strangers = store.impostors.strangers(row.id, row.dimension)
    stranger_vectors = [strangers.vectors]
    names, digests, sources = list(strangers.names), list(strangers.digests), list(strangers.sources)
    missing = [(s, p) for s, p in store.templates.missing(row.id, -1) if p is not None]
    of = store.templates.sample_identities([s for s, _ in missing])
    vectors = np.concatenate([vectors, embedder.embed_samples(p for _, p in missing if p is not None)])
    identities = np.concatenate([identities, np.array([of[s] for s, _ in missing], np.int64)])
    samples += [s for s, _ in missing]
    given = store.impostors.to_embed(row.id)
    learned = row.card.training.has_learned_from(digest for _, _, digest in given)
    given = [each for each in given if each[2] not in learned]
    stranger_vectors.append(embedder.embed_samples(picture for _, picture, _ in given))
    labels = store.impostors.labels([stranger for stranger, _, _ in given])
    names += [labels[stranger][0] for stranger, _, _ in given]
    digests += [digest for _, _, digest in given]
    sources += ["given"] * len(given)
    own = enrolled_as(store, names, digests)
    settings, searching = store.settings(), np.concatenate(stranger_vectors)
    everybody = LeaveOneOut.sorted(
        vectors,
        identities,
        np.array(samples, np.int64),
        searching,
        own,
        settings.fusion,
        tuple(names),
        MeanShift.of(searching, names, sources, own) if settings.shift else None,
    )
    return everybody, names, sources


def _vectors(answers: list[Answer], row: TowerRow, embedder: Embedder) -> Vectors:
    out = np.zeros((len(answers), row.dimension), np.float32)
    again = [(i, answer.picture) for i, answer in enumerate(answers) if answer.tower != row.id]
    for i, answer in enumerate(answers):
        if answer.tower == row.id:
            out[i] = np.frombuffer(answer.vector, np.float32)
    if again:
        out[[i for i, _ in again]] = embedder.embed_samples(picture for _, picture in again if picture is not None)
    return out
