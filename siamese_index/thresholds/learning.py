"""From stranger searches to a threshold, and how sure it is.

A stranger is a probe whose identity is not enrolled. Its search yields its nearest distance d_min;
FPIR(t) is the share of stranger searches with d_min <= t. With enough of them the threshold is the largest observed
d_min that keeps the share at or below the target; with fewer, a quantile of a distribution that is fitted to all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siamese_index.store.impostors import SearchRows
from siamese_index.store.rows import Fusion
from siamese_index.thresholds.statistics import _of, effective_searches

from . import suspects, tail
from .decision import Evidence, Rule

DEFAULT_FPIR = 0.01
UNLIKE = 2.0  # times the target: the share of the gallery's own searches that may lie within a threshold
SUPPORTED = 2.0  # times the target: what evidence may promise at most to support it
ENOUGH = 30  # independent searches of each kind below which no probability is told
# Best first: strangers of the user's own camera, a tower's held-out identities, enrolled pictures.
SOURCES = ("given", "tower", "gallery")


@dataclass(frozen=True)
class Threshold:
    """The largest distance that counts as a match (None without evidence), and what it rests on."""

    tau: float | None
    evidence: Evidence

    @property
    def rule(self) -> Rule:
        """How answers are decided with it."""
        return Rule(self.tau, self.evidence.margin)

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the true FPIR at tau.

        For n independent searches the true FPIR at the k-th smallest d_min follows
        Beta(k, n + 1 - k) (order statistics of uniforms: David & Nagaraja, 2003); n is the
        effective number. With no false alarm it is (0, 3/n), the rule of three.
        """
        e = self.evidence
        if self.tau is None or e.searches == 0:
            return None
        if e.false_alarms == 0:
            return 0.0, min(1.0, 3 / e.effective)
        from scipy.special import betaincinv

        k = e.false_alarms * e.effective / e.searches
        a, b = max(k, 1e-9), e.effective + 1 - k
        return float(betaincinv(a, b, 0.025)), float(betaincinv(a, b, 0.975))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a gallery promises, and what it costs: before and after a change."""

    identities: int
    threshold: float | None
    promise: float | None  # FPIR
    misses: int  # mated searches (leave one out) that did not return their identity
    mated: int
    suspects: tuple[suspects.Suspicion, ...] = ()  # pairs whose searches were set aside


def learn(searches: SearchRows, target: float, fusion: Fusion = "best", confidence: float | None = None) -> Threshold:
    """Return the threshold for `target` FPIR from a gallery's searches.

    Searches that are probably mated are set aside (`suspects`). Sources are ranked, and as few are used as suffice
    to promise the target; strangers that the user gave, when they do, alone. Otherwise the strangers there are may
    be kinder than those who will ask: a tower's are often of another kind than the gallery's identities, which makes
    them farther away. So the gallery's own searches may make the threshold stricter, as far as an order statistic
    of them can be had (docs/decisions/007). Where all together do not suffice, a distribution is fitted (`tail`).
    With a `confidence` the target is kept with that probability, not on average.
    """
    aside = suspects.probably_mated(searches)
    kept = searches.part(~aside)
    of, new = np.asarray(kept.sources), kept.distinct()
    present = [source for source in SOURCES if source in kept.sources]

    def by(chosen: Sequence[str], order: bool = False) -> Threshold:
        part = np.isin(of, chosen) & new
        return threshold(
            kept.distances[part], _of(kept.names, part), target, " + ".join(chosen) or "none", order, confidence
        )

    learned = by(present)
    for last in range(1, len(present)):
        found = by(present[:last])
        if not found.evidence.missing:
            learned = found
            break
    if learned.evidence.missing:
        learned = fitted(kept.distances, new, learned, target, confidence)
    elif "gallery" in present and learned.evidence.source != "given":
        own = by(["gallery"], order=True)
        if own.evidence.false_alarms and own.tau is not None and (learned.tau is None or own.tau < learned.tau):
            learned = own
    least = 0.0 if learned.tau is None else least_margin(*kept.mated_searches()[:2], learned.tau, target)
    unlike = _is_unlike(kept, of, new, learned, target)
    evidence = replace(
        learned.evidence,
        fusion=fusion,
        margin=least,
        set_aside=int(np.sum(aside)),
        unlike=unlike,
        promised=learned.evidence.promised and not unlike,
    )
    return Threshold(learned.tau, evidence)


def _is_unlike(
    searches: SearchRows, of: NDArray[np.str_], new: NDArray[np.bool_], learned: Threshold, target: float
) -> bool:
    """Whether the gallery's own searches lie within the threshold much more often than strangers are to.

    Then the strangers are of another kind than the enrolled, and perhaps than those who will ask. A binomial test at
    0.001 of the searches that count, one per identity.
    """
    own = (of == "gallery") & new
    if learned.tau is None or not own.any() or "gallery" in learned.evidence.source:
        return False
    within: dict[int, bool] = {}
    for identity, hit in zip(
        searches.own[own].tolist(), (searches.distances[own] <= learned.tau).tolist(), strict=True
    ):
        within.setdefault(identity, hit)  # the first of each: others of it say the same again
    return at_least(sum(within.values()), len(within), min(0.5, UNLIKE * target)) < 0.001


def at_least(count: int, trials: int, share: float) -> float:
    """Return the probability of `count` or more among so many trials of a `share` in (0, 1)."""
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(count, trials + 1)
    ]  # fmt: skip
    return min(1.0, sum(map(math.exp, logs)))


def fitted(
    distances: NDArray[np.float64],
    counted: NDArray[np.bool_],
    few: Threshold,
    target: float,
    confidence: float | None = None,
) -> Threshold:
    """Return the quantile of a distribution fitted to too few distances (n,).

    Those `counted` (n,) are the evidence of `few`.
    """
    effective = few.evidence.effective
    if few.tau is None:
        return few
    aim = target if confidence is None else target * min(1.0, 2 * (1 - confidence))  # the surer, the smaller
    tau = tail.quantile(np.maximum(distances, 1e-6), effective, aim)
    alarms = int(np.sum(distances[counted] <= tau))
    promise = min(1.0, alarms / int(np.sum(counted)) + 3 / effective)
    return Threshold(tau, replace(few.evidence, false_alarms=alarms, promise=promise, promised=False, fitted=True))


def misses(searches: SearchRows, rule: Rule) -> tuple[int, int]:
    """Return (misses, searches): mated searches that do not return their identity by this rule."""
    mated = ~np.isnan(searches.mates)
    return int(np.sum(~rule.returns(searches.mates[mated], searches.distances[mated]))), int(np.sum(mated))


def least_margin(mates: NDArray[np.float64], others: NDArray[np.float64], tau: float, wrong: float) -> float:
    """Return the margin below which answers are ambiguous: at most a share `wrong` of mated searches name another.

    From mated searches (n,): distances to the own identity (NaN for searches that have none) and to
    the nearest other. A wrong identity whose own lies beyond `tau` cannot be caught by a margin.
    """
    mated = ~np.isnan(mates)
    mate, other = mates[mated], others[mated]
    wrong_first, rule = other < mate, Rule(tau)
    caught = wrong_first & rule.is_within(mate)
    lost = int(np.sum(wrong_first & rule.is_within(other) & ~rule.is_within(mate)))
    allowed = max(0, math.floor(wrong * len(mate)) - lost)
    gaps = np.sort((mate - other)[caught])[::-1]
    return float(np.nextafter(gaps[allowed], np.inf)) if len(gaps) > allowed else 0.0


def probabilities(searches: SearchRows, source: str) -> NDArray[np.float64] | None:
    """Return (2, p): ascending distances, and the probability that a nearest identity at or below each is right.

    Isotonic regression by pooling adjacent violators (Ayer et al., 1955) on mated searches, and on the
    non-mated ones of `source` with the same total weight: as if half of all probes were of strangers.
    None with fewer than ENOUGH independent searches of either kind.
    """
    mates, besides, whose = searches.mated_searches()
    others = np.isin(np.asarray(searches.sources), source.split(" + "))
    counts = [
        effective_searches(besides, whose),
        effective_searches(searches.distances[others], _of(searches.names, others)),
    ]
    if min(counts) < ENOUGH:
        return None
    nearest = np.minimum(mates, besides)
    right = (mates < besides).astype(float)
    distance = np.concatenate([nearest, searches.distances[others]])
    outcome = np.concatenate([right, np.zeros(int(others.sum()))])
    weight = np.concatenate(
        [np.full(len(nearest), counts[0] / len(nearest)), np.full(int(others.sum()), counts[0] / int(others.sum()))]
    )
    order = np.argsort(distance, kind="stable")
    bins = np.array_split(order, min(len(order), 256))
    blocks: list[list[float]] = []  # [right weight, weight, last distance]
    for part in bins:
        blocks.append([float(weight[part] @ outcome[part]), float(weight[part].sum()), float(distance[part[-1]])])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] <= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1], last[2]]
    # Never quite sure: one imagined search each way (Laplace's rule).
    return np.array([[b[2] for b in blocks], [(b[0] + 1) / (b[1] + 2) for b in blocks]])


def threshold(
    nearest: NDArray[np.float64],
    names: Sequence[str],
    target: float,
    source: str = "strangers",
    order: bool = False,
    confidence: float | None = None,
) -> Threshold:
    """Return the threshold for `target` FPIR from stranger distances d_min (n,) and whose they are (n,).

    With too few to promise the target none of them is let in, unless `order`: then an order statistic
    is taken as far as there is one, which keeps the target on average but promises less surely. With a
    `confidence` the share is at most the target with that probability.
    """
    n, needed = len(nearest), _needed(target, confidence)
    if n == 0:
        return Threshold(None, Evidence(source, target, 0, 0.0, 0, None, needed))
    ordered = np.sort(nearest)
    effective = effective_searches(nearest, names, target)
    # Too few to promise the target: let none of them in, and promise what that supports.
    k = 0
    if order or effective >= needed:
        share = target if confidence is None else _sure_share(target, effective, confidence)
        k = math.floor(share * n + 1e-9)
    while 0 < k < n and ordered[k] == ordered[k - 1]:  # a tie would let more in than allowed
        k = int(np.searchsorted(ordered, ordered[k - 1], "left"))
    tau = float(ordered[k - 1]) if k else float(np.nextafter(ordered[0], -1))
    promise = min(1.0, 3 / effective)
    if k:
        promise = k / (n + 1) if confidence is None else target
    missing = 0 if k and not order else max(0, math.ceil(needed - effective))
    promised = promise <= SUPPORTED * target
    return Threshold(
        tau, Evidence(source, target, n, effective, k, promise, missing, promised=promised, confidence=confidence)
    )


def _needed(target: float, confidence: float | None = None) -> int:
    """Return how many independent searches promise `target`: the rule of three.

    With a `confidence`: how many bound the share by the target although one of them is a false alarm.
    """
    if confidence is None:
        return math.ceil(3 / target)
    n = math.ceil(3 / target)
    while _sure_share(target, n, confidence) * n < 1:
        n += max(1, n // 100)
    return n


def _sure_share(target: float, n: float, confidence: float) -> float:
    """Return the largest share k / n of false alarms at which the true share is at most `target`, so surely.

    The true share at the k-th smallest of n is Beta(k, n + 1 - k), and that is at most t as surely as a binomial of
    n trials with t is at least k (David & Nagaraja, 2003).
    """
    trials = max(1, math.floor(n))
    below, k = (1 - target) ** trials, 0
    term = below
    while 1 - below >= confidence and k < trials:  # P(at least k + 1)
        k += 1
        term *= (trials - k + 1) / k * target / (1 - target)
        below += term
    return k / trials
