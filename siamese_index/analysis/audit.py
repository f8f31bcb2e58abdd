"""What is enrolled wrongly, or does harm: each finding with how the error rates would move without it, measured.

Everything is judged by leave-one-out searches of the gallery's own templates, and by its strangers,
at the threshold that would be learned then.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from siamese_index.analysis.contract import OpenGallery
from siamese_index.describe import shell
from siamese_index.samples.images import Progress
from siamese_index.search.fusion import all_distances
from siamese_index.store.impostors import SearchRows
from siamese_index.thresholds.decision import Rule
from siamese_index.thresholds.learning import Threshold, learn
from siamese_index.thresholds.suspects import grouped

from . import mislabels
from .leave_one_out import LeaveOneOut, LeftOut

Kind = Literal["stranger enrolled", "mistaken", "one of two", "outlier", "duplicate", "lamb", "goat"]
LISTED = 10  # findings of a kind
FLOCK = 3  # false alarms that name the same identity
DUPLICATE = 0.05  # distance below which a second sample of an identity adds nothing


@dataclass(frozen=True, slots=True)
class ContentFinding:
    """Something about what is enrolled. The changes are those of FNIR and FPIR if it were corrected."""

    kind: Kind
    identity: str
    sample: int | None  # None: it is about the identity
    other: str | None  # the other identity, when there is one
    distance: float | None
    what: str
    remedy: str
    fnir_change: float | None  # None without mated searches
    fpir_change: float | None  # None without strangers
    probability: float | None = None  # of a mistaken sample: that it is the other's, where that can be judged

    @property
    def id(self) -> str:
        """What names it: the same as long as it stands."""
        about = json.dumps([self.kind, self.identity, self.sample, self.other])
        return hashlib.sha256(about.encode()).hexdigest()[:8]

    @property
    def can_be_applied(self) -> bool:
        """Whether it proposes a change: of lambs and goats it does not."""
        return self.kind not in ("lamb", "goat")

    @property
    def is_probable(self) -> bool:
        """Whether what it proposes is right more probably than not, as far as that can be judged."""
        return self.probability is None or self.probability >= 0.5

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"id": self.id, **asdict(self), "can_be_applied": self.can_be_applied}


@dataclass(frozen=True)
class Audit:
    """All findings, gravest first, and what the gallery does as it is."""

    findings: tuple[ContentFinding, ...]
    threshold: float | None
    fnir: float | None
    mated: int
    fpir: float | None
    strangers: int


def audit(gallery: OpenGallery, progress: Progress | None = None) -> Audit:
    """Examine what is enrolled: what is mistaken, doubled, unlike the rest, hit by strangers or missed.

    Weighing a finding takes a leave-one-out search of all templates, and learning the threshold anew.
    """
    with gallery.reading() as state:
        store = state.store
        tower, target = state.tower, state.settings.target_fpir
        learned = state.threshold(None)
        if learned.tau is None or tower is None:
            return Audit((), learned.tau, None, 0, None, 0)
        ids, identities, vectors = store.templates.after(tower.id, tower.dimension, 0)
        owners, names = store.templates.owners(ids.tolist()), store.identity_names()
        rows, cohort = store.impostors.strangers(tower.id, tower.dimension), store.towers.mated(tower.id)
    samples = np.array([owners[t][1] for t in ids.tolist()], np.int64)
    shift, fusion = state.shift, state.settings.fusion
    enrolled = LeaveOneOut.sorted(vectors, identities, samples, rows.vectors, rows.own, fusion, rows.names, shift)
    cohort = cohort if shift is None or not len(cohort) else shift.mated()

    def weighed(content: LeaveOneOut) -> tuple[LeftOut, SearchRows, Threshold]:
        searched = content.search()
        found = replace(searched.rows(rows.names, rows.sources), cohort=cohort)
        return searched, found, learn(found, target, content.fusion, state.settings.confidence)

    searched, found, learned = weighed(enrolled)
    before = searched.rates(learned.rule)
    findings = []
    for finding, corrected in _findings(enrolled, searched, found, learned.rule, names):
        after = before
        if corrected is not None:
            other, _, again = weighed(corrected)
            after = other.rates(again.rule)
        changes = [None if a is None or b is None else a - b for a, b in zip(after, before, strict=True)]
        findings.append(replace(finding, fnir_change=changes[0], fpir_change=changes[1]))
        if progress:
            progress(1)
    mated = int(np.sum(~np.isnan(searched.mate)))
    return Audit(tuple(findings), learned.tau, before[0], mated, before[1], len(rows.ids))


Found = Iterator[tuple[ContentFinding, LeaveOneOut | None]]


def _findings(enrolled: LeaveOneOut, searched: LeftOut, rows: SearchRows, rule: Rule, names: dict[int, str]) -> Found:
    """Yield findings, gravest kind first, each with the content as it would be if it were corrected."""
    tau = float(rule.threshold or 0)
    odds = mislabels.probabilities(enrolled, searched)
    known: set[object] = set()  # samples, and pairs of identities
    for finding, corrected in itertools.chain(
        _set_aside(enrolled, rows, names, odds),
        _ones_of_two(enrolled, searched, tau, names),
        _mistaken(enrolled, searched, tau, names, known, odds),
        _outliers(enrolled, searched, tau, names),
    ):
        key = finding.sample or frozenset((finding.identity, finding.other))
        if key not in known:
            known.add(key)
            yield finding, corrected
    yield from _animals(enrolled, searched, rule, names)
    yield from _duplicates(enrolled, names)


def _set_aside(enrolled: LeaveOneOut, rows: SearchRows, names: dict[int, str], odds: NDArray[np.float64]) -> Found:
    """What is so near to another identity that its searches do not count for the threshold."""
    strangers = len(enrolled.stranger_vectors)  # they come first
    for pair in itertools.islice(grouped(rows), LISTED):
        at = pair.searches[0]
        other, near = names[int(rows.nearest[at])], round(pair.distance, 4)
        if pair.cause == "stranger who was enrolled":
            said = f"stranger {pair.first!r} looks like {other!r} ({near:.3f})."
            how = f"If they are one: sidx strangers remove {shell(pair.first)}"
            yield ContentFinding("stranger enrolled", other, None, pair.first, near, said, how, None, None), None
            continue
        own = names[int(rows.own[at])]
        if pair.cause == "same person twice":
            said = f"{own!r} and {other!r} look like one: most samples of each are nearer to the other."
            how = f"If they are: sidx identities merge {shell(other)} {shell(own)}"
            finding = ContentFinding("one of two", own, None, other, near, said, how, None, None)
            yield finding, enrolled.merged(int(rows.own[at]), int(rows.nearest[at]))
            continue
        i = int(rows.ids[at]) - strangers
        said = f"sample {enrolled.samples[i]} of {own!r} looks like {other!r} ({near:.3f})."
        sample = int(enrolled.samples[i])
        finding = ContentFinding(
            "mistaken", own, sample, other, near, said, _to_move(sample, other), None, None, _known(odds[i])
        )
        yield finding, enrolled.without(np.arange(len(enrolled.identities)) == i)


def _known(probability: float) -> float | None:
    return None if np.isnan(probability) else round(float(probability), 3)


def _to_move(sample: int, other: str) -> str:
    return f"Look: sidx samples show {sample}  If it is {other!r}: sidx samples move {sample} --to {shell(other)}"


def _ones_of_two(enrolled: LeaveOneOut, searched: LeftOut, tau: float, names: dict[int, str]) -> Found:
    """Two identities whose samples are nearer to each other than to their own, the nearest pairs first."""
    mated = searched.mate[~np.isnan(searched.mate)]
    usual = min(tau, float(np.median(mated))) if len(mated) else tau  # how near one identity's own samples are
    within = searched.other <= np.fmin(searched.mate, usual)  # a single sample has no mate: NaN
    found: dict[tuple[int, int], list[float]] = {}  # (whose, whom): how near
    for a, b, d in zip(
        enrolled.identities[within].tolist(),
        searched.nearest[within].tolist(),
        searched.other[within].tolist(),
        strict=True,
    ):
        found.setdefault((a, b), []).append(d)
    sizes = Counter(enrolled.identities.tolist())
    most = {(a, b): min(d) for (a, b), d in found.items() if len(d) > sizes[a] / 2}
    mutual = [(d, a, b) for (a, b), d in most.items() if a < b and (b, a) in most]
    for distance, a, b in sorted(mutual)[:LISTED]:
        finding = ContentFinding(
            "one of two",
            names[a],
            None,
            names[b],
            round(distance, 4),
            f"{names[a]!r} and {names[b]!r} look like one: most samples of each are nearer to the other.",
            f"If they are: sidx identities merge {shell(names[b])} {shell(names[a])}",
            None,
            None,
        )
        yield finding, enrolled.merged(a, b)


def _mistaken(
    enrolled: LeaveOneOut,
    searched: LeftOut,
    tau: float,
    names: dict[int, str],
    known: set[object],
    odds: NDArray[np.float64],
) -> Found:
    """Samples that lie nearer to another identity than to their own, and within the threshold of it, likely ones first.

    But not where that is because of what is `known` to be wrong: a sample that is found itself, two that are one.
    """
    wrong = np.flatnonzero((searched.other < searched.mate) & (searched.other <= tau))
    order = np.lexsort([(searched.other - searched.mate)[wrong], -np.nan_to_num(odds[wrong])])
    worst_first, listed = wrong[order], 0
    for i in worst_first.tolist():
        own, other = names[int(enrolled.identities[i])], names[int(searched.nearest[i])]
        theirs = np.flatnonzero(enrolled.identities == searched.nearest[i])
        nearest = theirs[np.argmin(all_distances(enrolled.vectors[i : i + 1], enrolled.vectors[theirs])[0])]
        if int(enrolled.samples[nearest]) in known or frozenset((own, other)) in known or listed == LISTED:
            continue
        listed += 1
        finding = ContentFinding(
            "mistaken",
            own,
            int(enrolled.samples[i]),
            other,
            round(float(searched.other[i]), 4),
            f"sample {enrolled.samples[i]} of {own!r} is nearer to {other!r} ({searched.other[i]:.3f})"
            f" than to its own ({searched.mate[i]:.3f}).",
            _to_move(int(enrolled.samples[i]), other),
            None,
            None,
            _known(odds[i]),
        )
        yield finding, enrolled.without(np.arange(len(enrolled.identities)) == i)


def _outliers(enrolled: LeaveOneOut, searched: LeftOut, tau: float, names: dict[int, str]) -> Found:
    """Samples of an identity of three and more that are beyond the threshold from all the others of it."""
    sizes = Counter(enrolled.identities.tolist())
    many = np.array([sizes[i] > 2 for i in enrolled.identities.tolist()])
    far = np.flatnonzero(many & (searched.mate > tau) & (searched.other > tau))
    for i in far[np.argsort(-searched.mate[far])][:LISTED].tolist():
        own = names[int(enrolled.identities[i])]
        finding = ContentFinding(
            "outlier",
            own,
            int(enrolled.samples[i]),
            None,
            round(float(searched.mate[i]), 4),
            f"sample {enrolled.samples[i]} of {own!r} is like none of its others ({searched.mate[i]:.3f}).",
            f"Look: sidx samples show {enrolled.samples[i]}  Not fit? sidx samples remove {enrolled.samples[i]}",
            None,
            None,
        )
        yield finding, enrolled.without(np.arange(len(enrolled.identities)) == i)


def _animals(enrolled: LeaveOneOut, searched: LeftOut, rule: Rule, names: dict[int, str]) -> Found:
    """Lambs, whom strangers hit, and goats, who are missed (Doddington et al., 1998)."""
    alarms = rule.is_within(searched.stranger)
    hits = Counter(searched.hit[alarms].tolist())
    for identity, count in hits.most_common(LISTED):
        if count < FLOCK:
            break
        finding = ContentFinding(
            "lamb",
            names[identity],
            None,
            None,
            None,
            f"{names[identity]!r} is whom {count} of {int(np.sum(alarms))} false alarms name.",
            "Enroll sharper, more typical pictures of it.",
            None,
            None,
        )
        yield finding, enrolled.without(enrolled.identities == identity)
    mated, missed = ~np.isnan(searched.mate), searched.missed(rule)
    of, bad = Counter(enrolled.identities[mated].tolist()), Counter(enrolled.identities[missed].tolist())
    goats = [(count / of[i], count, i) for i, count in bad.items() if of[i] > 2 and count > of[i] / 2]
    for share, count, identity in sorted(goats, key=lambda g: (-g[0], -g[1], g[2]))[:LISTED]:
        finding = ContentFinding(
            "goat",
            names[identity],
            None,
            None,
            None,
            f"{names[identity]!r} is missed in {count} of {of[identity]} searches ({share:.0%}).",
            "Enroll more pictures of it.",
            None,
            None,
        )
        yield finding, None


def _duplicates(enrolled: LeaveOneOut, names: dict[int, str]) -> Found:
    """Second samples so near to an earlier one of the same identity that they add nothing."""
    _, starts = np.unique(enrolled.identities, return_index=True)
    ends = np.append(starts[1:], len(enrolled.identities))
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start > 1:
            distance = np.triu(all_distances(enrolled.vectors[start:end], enrolled.vectors[start:end]), 1)
            distance[np.tril_indices(end - start)] = np.inf
            nearest = distance.min(axis=0)
            found += [(float(nearest[j]), start + int(j)) for j in np.flatnonzero(nearest < DUPLICATE)]
    for distance_, i in sorted(found)[:LISTED]:
        own = names[int(enrolled.identities[i])]
        finding = ContentFinding(
            "duplicate",
            own,
            int(enrolled.samples[i]),
            None,
            round(distance_, 4),
            f"sample {enrolled.samples[i]} of {own!r} shows what an earlier one shows ({distance_:.3f}).",
            f"It makes the gallery look better than it is: sidx samples remove {enrolled.samples[i]}",
            None,
            None,
        )
        yield finding, enrolled.without(np.arange(len(enrolled.identities)) == i)
