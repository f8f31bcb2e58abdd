"""One answer per visit: the pictures of a subject that follow each other are decided on together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, NoSubject
from siamese_index.samples import images
from siamese_index.samples.faces import Box, overlap
from siamese_index.samples.images import Pixels
from siamese_index.samples.video import Shot
from siamese_index.search.fusion import all_distances, fused_by_identity
from siamese_index.session import State
from siamese_index.thresholds.decision import SET, Candidate, Decision, decide
from siamese_index.thresholds.learning import Threshold
from siamese_index.thresholds.question import Question
from siamese_index.thresholds.visits import independent, offset
from siamese_index.towers.tower import Tower
from siamese_index.vectors import Vectors

from .contract import OpenGallery

GAP = 2.0  # seconds without a subject after which its visit is over
LONGEST = 60.0  # seconds after which a visit is answered although it goes on
FOLLOWS = 0.3  # overlap of a subject's box and its last one
FRAMES = 256  # pictures of a visit that count at most
SHOWN = 5  # pictures of a visit that can be enrolled
_CANDIDATES = 50
_STRANGERS = 400  # samples that the threshold of visits is learned from
_TEMPLATES = 100_000  # enrolled, above which it is that of single pictures, which is stricter


@dataclass(frozen=True)
class Visit:
    """A subject that came, and went: the answer to all its pictures."""

    decision: Decision  # distances are means over the pictures
    frames: int
    independent: int  # pictures that these are worth
    began: float  # seconds
    ended: float
    alone: bool = True  # whether nobody else was seen beside
    pictures: tuple[bytes, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `watch` prints."""
        told = {"frames": self.frames, "independent": self.independent}
        return {**self.decision.to_dict(), **told, "began": round(self.began, 2), "ended": round(self.ended, 2)}


@dataclass(eq=False)  # each is itself alone
class _Open:
    """A visit that goes on."""

    name: str
    tower: str
    began: float
    last: float
    box: Box
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    crops: list[tuple[int, Pixels, Box]] = field(default_factory=list)
    seen: int = 0
    alone: bool = True


class Visits:
    """Follows subjects from picture to picture, and answers when they are gone."""

    def __init__(
        self, gallery: OpenGallery, question: Question | None = None, *, every: float = 0.0, keep: bool = False
    ) -> None:
        """`every` is the time between two pictures; `keep` keeps some of each visit. Raises BadInput for vectors."""
        self._gap, self._longest = max(GAP, 2.5 * every), max(LONGEST, 10 * every)
        self.dropped = 0  # visits of a tower that was swapped meanwhile: they are not answered
        self.gallery, self.question, self.keep = gallery, question or Question(), keep
        self._open: list[_Open] = []
        self._offsets: dict[tuple[Any, ...], float] = {}
        self._tower()

    def see(self, shot: Shot) -> list[Visit]:
        """Take a picture in; return the visits that are over by then."""
        over = [v for v in self._open if shot.at - v.last > self._gap or shot.at - v.began > self._longest]
        self._open = [v for v in self._open if v not in over]
        if shot.pixels is not None:
            self._follow(shot, shot.pixels)
        return self._answers(over)

    def end(self) -> list[Visit]:
        """Return the visits that go on, as if they were over."""
        over, self._open = self._open, []
        return self._answers(over)

    def _tower(self) -> Tower:
        embedder = self.gallery.embedder()
        if not isinstance(embedder, Tower):
            raise BadInput(f"{self.gallery.path}: this gallery holds vectors, not pictures.", "Nothing can be watched.")
        return embedder

    def _follow(self, shot: Shot, pixels: Pixels) -> None:
        tower = self._tower()
        found = tower.subjects_in(pixels)
        if not tower.finds:
            try:
                tower.refuse_blank(found[0].taken)
            except NoSubject:
                return
        if not found:
            return
        vectors = tower.embed([subject.taken for subject in found])
        free = [v for v in self._open if v.tower == tower.id]
        whole = (0, 0, pixels.shape[1], pixels.shape[0])
        for subject, vector in zip(found, vectors, strict=True):
            box = subject.box or whole
            nearest = max(free, key=lambda v: overlap(v.box, box), default=None)
            if nearest is None or overlap(nearest.box, box) < FOLLOWS:
                nearest = _Open(shot.name, tower.id, shot.at, shot.at, box)
                self._open.append(nearest)
            else:
                free.remove(nearest)
            nearest.last, nearest.box = shot.at, box
            nearest.seen += 1
            nearest.alone = nearest.alone and len(found) == 1
            if len(nearest.vectors) < FRAMES:
                nearest.vectors.append(vector)
            if self.keep:
                nearest.crops = _kept(nearest.crops, nearest.seen, pixels, box)

    def _answers(self, over: list[_Open]) -> list[Visit]:
        if not over:
            return []
        with self.gallery.reading() as state:
            same = [visit for visit in over if visit.tower == state.active.sha256]
            self.dropped += len(over) - len(same)  # of another tower nothing can be said
            return [self._answered(state, visit) for visit in same]

    def _answered(self, state: State, visit: _Open) -> Visit:
        vectors, asked = np.stack(visit.vectors), self.question
        learned = state.threshold(asked.fpir) if asked.threshold is None else Threshold(asked.threshold, SET)
        worth = independent(vectors, _usual(state))
        by = float(state.moves(vectors).mean()) if asked.threshold is None else 0.0
        if asked.threshold is None and learned.tau is not None:
            by += self._offset(state, worth, learned.evidence.target_fpir or state.settings.target_fpir)
        candidates = _nearest(state, vectors, asked)
        rule = learned.rule.moved(by)
        verdict, margin = decide(candidates, rule)
        if (asked.strict or state.settings.strict) and verdict == "match" and not learned.evidence.promised:
            verdict = "unknown"
        first = candidates[0] if candidates else None
        decision = Decision(
            probe=visit.name,
            verdict=verdict,
            identity=first.identity if first and verdict == "match" else None,
            distance=first.distance if first else None,
            threshold=rule.threshold,
            margin=margin,
            expected_false_alarms=None,
            probability=None,
            candidates=tuple(candidates[: asked.k]),
            evidence=learned.evidence,
            tower=state.active.sha256,
            revision=state.revision[0],
            box=visit.box if self._tower().finds else None,
        )
        pictures = tuple(_cut(pixels, box, self._tower().finds) for _, pixels, box in visit.crops)
        return Visit(decision, visit.seen, worth, visit.began, visit.last, visit.alone, pictures)

    def _offset(self, state: State, worth: int, target: float) -> float:
        key = (state.revision, worth, target)
        if key not in self._offsets:
            row = state.active
            enrolled = 0 if worth < 2 else state.store.templates.count(row.id)
            if not 0 < enrolled <= _TEMPLATES:
                self._offsets[key] = 0.0
                return 0.0
            strangers = state.store.impostors.strangers(row.id, row.dimension)
            free = np.flatnonzero(strangers.own < 0)[:_STRANGERS]
            _, owners, templates = state.store.templates.after(row.id, row.dimension, 0)
            order = np.argsort(owners, kind="stable")
            starts = np.unique(owners[order], return_index=True)[1]
            among = fused_by_identity(
                all_distances(strangers.vectors[free], templates[order]), starts, state.settings.fusion
            )
            self._offsets[key] = offset(among, [strangers.names[i] for i in free.tolist()], worth, target)
        return self._offsets[key]


def _usual(state: State) -> float | None:
    """Return the mean squared distance of two pictures of one stranger, taken at different times."""
    found = state.store.towers.mated(state.active.id)
    return float(np.mean(found**2)) if len(found) else None


def _nearest(state: State, vectors: Vectors, asked: Question) -> list[Candidate]:
    """Return identities by the mean of their fused distances to all vectors (n, d).

    Whose mean lies within the threshold is near in some picture, so those that are near in any are looked at.
    """
    hits = state.searcher.nearest(vectors, _CANDIDATES, only=state.only(asked.tags, asked.exclude))
    labels = state.store.templates.owners({hit.template for row in hits for hit in row})
    row, fusion = state.active, state.settings.fusion
    means: list[tuple[float, str, int]] = []
    for name in sorted({labels[hit.template][0] for each in hits for hit in each}):
        ids, templates = state.store.templates.of(row.id, row.dimension, state.store.known(name))
        each = all_distances(vectors, templates)
        mean = float(fused_by_identity(each, np.array([0]), fusion).mean())
        sample = state.store.templates.owners([int(ids[each.mean(axis=0).argmin()])])
        means.append((mean, name, next(iter(sample.values()))[1]))
    return [Candidate(rank, name, mean, sample) for rank, (mean, name, sample) in enumerate(sorted(means), 1)]


def _kept(crops: list[tuple[int, Pixels, Box]], number: int, pixels: Pixels, box: Box) -> list[tuple[int, Pixels, Box]]:
    """Return pictures spread over a visit so far: every second one goes when they become too many."""
    step = max(1, 1 << max(0, (number // SHOWN).bit_length() - 1))
    if number % step and crops:
        return crops
    crops = [*crops, (number, pixels, box)]
    return crops if len(crops) <= SHOWN else crops[::2]


def _cut(pixels: Pixels, box: Box, finds: bool) -> bytes:
    """Return the part of a picture that shows a subject, and half of it more on each side, as a picture file."""
    if not finds:
        return images.encode(pixels)
    x, y, w, h = box
    part = pixels[max(0, y - h // 2) : y + h + h // 2, max(0, x - w // 2) : x + w + w // 2]
    return images.encode(np.ascontiguousarray(part))
