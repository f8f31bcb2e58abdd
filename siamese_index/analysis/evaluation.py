"""How good are the answers? Open-set searches, with counts and intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.analysis.contract import OpenGallery, by_one_tower
from siamese_index.errors import BadInput, Refusal, SiameseIndexError
from siamese_index.samples import images
from siamese_index.samples.images import Picture, Progress, picture_name
from siamese_index.samples.names import cleaned
from siamese_index.thresholds.decision import SET, Evidence, Rule
from siamese_index.thresholds.statistics import effective_count, share_interval
from siamese_index.towers.tower import BATCH
from siamese_index.vectors import Vectors

from .comparison import equal_error_rate

TARGETS = (0.1, 0.01, 0.001)  # FPIR or FMR at which misses are counted, where there are impostors enough
KEPT = 24  # mistakes that are told one by one


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its counts; `share` is None for 0 of 0.

    The 95 % interval is Clopper and Pearson's of as many independent trials as these are worth
    (`calibration.effective_count`): trials of one identity resemble each other.
    """

    count: int
    of: int
    share: float | None
    low: float
    high: float

    @classmethod
    def measured(cls, hits: Sequence[bool] | NDArray[np.bool_], names: Sequence[str]) -> Rate:
        """Return the share of `hits` (n,) among trials by identities `names` (n,)."""
        found = np.asarray(hits, bool)
        count, of = int(found.sum()), len(found)
        if not of:
            return cls(0, 0, None, 0.0, 1.0)
        worth = effective_count(found, names)
        return cls(count, of, count / of, *share_interval(count / of * worth, worth))


@dataclass(frozen=True, slots=True)
class Operating:
    """FNIR at one FPIR, by the threshold that gives it on these very strangers."""

    fpir: float  # asked for
    threshold: float | None  # None: too few strangers to know
    fnir: Rate | None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A probe that was taken for somebody else, or missed."""

    probe: str
    identity: str  # whose it is
    taken_for: str | None  # None: it was missed
    distance: float  # to whom it was taken for, else to its own
    own_distance: float | None  # None for strangers


@dataclass(frozen=True)
class Evaluation:
    """An open-set test: probes of enrolled identities are mated, all others are strangers.

    A probe that cannot be read counts as an error of its mated search, never as left out (NIST's rule).
    """

    identities: int
    mated: int
    strangers: int
    stranger_identities: int
    unreadable: int
    known: int  # probes that are enrolled themselves: left out
    rank1: Rate  # of mated searches, regardless of the threshold
    cmc: tuple[float, ...]  # share of mated searches with their identity among the first 1, 2, … k
    fnir: Rate  # mated searches that did not return their identity
    wrong_identity: Rate  # mated searches that returned another identity
    ambiguous: Rate  # searches between two identities, of all
    fpir: Rate  # strangers that were taken for somebody
    fmr: Rate  # comparisons of a probe with another identity within the threshold
    fnmr: Rate  # comparisons with its own beyond it
    eer: float | None  # of comparisons
    operating: tuple[Operating, ...]
    threshold: float | None
    evidence: Evidence
    fpir_stated: tuple[float, float] | None  # the interval that the threshold's own evidence gives
    by_tag: dict[str, dict[str, Rate]]  # "tag=value": rank1, fnir, fpir
    mistakes: tuple[Mistake, ...]  # the worst
    refused: tuple[Refusal, ...]
    searches: ProbeDistances = field(repr=False)  # for plots

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `evaluate --json` prints."""
        content = asdict(replace(self, searches=ProbeDistances.none(), refused=()))
        del content["searches"]
        content["refused"] = [{"probe": r.source, "error": str(r.error)} for r in self.refused]
        return content


@dataclass(frozen=True)
class ProbeDistances:
    """The distances behind an evaluation, a row per probe that could be read; less what its threshold moved by."""

    names: tuple[str, ...]
    own: NDArray[np.float64]  # to its own identity; NaN for strangers
    other: NDArray[np.float64]  # to the nearest other; inf for none
    probes: tuple[Picture, ...]
    vectors: Vectors
    other_names: tuple[str, ...]
    other_comparisons: NDArray[np.float64]  # a part of all non-mated
    compared: tuple[str, ...]  # whose probe each of these was
    moves: NDArray[np.float64]  # by how much each probe's threshold moved

    @classmethod
    def none(cls) -> ProbeDistances:
        """Return the distances of no probe."""
        nothing = np.zeros(0)
        return cls((), nothing, nothing, (), np.zeros((0, 0), np.float32), (), nothing, (), nothing)


@by_one_tower
def evaluate(
    gallery: OpenGallery,
    probes: Iterable[tuple[str, Picture]],
    *,
    k: int = 5,
    fpir: float | None = None,
    given: float | None = None,
    tags: Sequence[Mapping[str, str]] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Identify (identity, picture) probes and count. `fpir` or `given` (a distance) as in `identify`.

    `tags` (one mapping per probe) break the figures down. Probes that are enrolled themselves say nothing and are left
    out. Raises BadInput without others.
    """
    items = list(probes)
    if not items:
        raise BadInput("There are no probes to evaluate with.")
    fresh = _not_enrolled(gallery, [picture for _, picture in items])
    known = len(items) - len(fresh)
    if not fresh:
        raise BadInput(f"All {known} probes are enrolled themselves.", "They would all be found.", "Give others.")
    items, tags = [items[i] for i in fresh], None if tags is None else [tags[i] for i in fresh]
    enrolled = {row.name for row in gallery.identities()}
    names = cleaned([name for name, _ in items])
    items = list(zip(names, (picture for _, picture in items), strict=True))
    read, answers, refused, parts = np.ones(len(items), bool), [], [], []
    for start in range(0, len(items), BATCH):
        pictures = [p for _, p in items[start : start + BATCH]]
        vectors, refusals = gallery.embed(pictures)
        for i, refusal in refusals.items():
            read[start + i] = False
            refused.append(Refusal(picture_name(pictures[i], start + i), refusal.error, names[start + i]))
        answers += gallery.identify_vectors(vectors, k=k, fpir=fpir, threshold=given, log=False) if len(vectors) else []
        parts.append(vectors)
        if progress:
            progress(len(pictures))
    learned = gallery.threshold(fpir)
    tau = learned.tau if given is None else given
    moves = np.array([0.0 if a.threshold is None or tau is None else a.threshold - tau for a in answers])
    found = _distances(gallery, [items[i] for i in np.flatnonzero(read)], np.concatenate(parts), moves)
    # Of what could not be read nothing was returned.
    verdicts, ranks = ["unknown"] * len(items), np.zeros(len(items), int)
    returned: list[str | None] = [None] * len(items)
    for i, answer in zip(np.flatnonzero(read).tolist(), answers, strict=True):
        verdicts[i], returned[i] = answer.verdict, answer.identity
        ranks[i] = next((c.rank for c in answer.candidates if c.identity == names[i]), 0)
    mated = np.array([name in enrolled for name in names])
    hit = np.array([a == b for a, b in zip(returned, names, strict=True)])
    named = np.array([a is not None for a in returned])
    # An ambiguous answer let a stranger within the threshold of two: it counts as an alarm.
    alarm = np.array([v != "unknown" for v in verdicts])

    def rate(hits: NDArray[np.bool_], part: NDArray[np.bool_]) -> Rate:
        return Rate.measured(hits[part], [names[i] for i in np.flatnonzero(part)])

    fmr, fnmr, eer = _comparisons(found, tau)
    shares: dict[str, dict[str, Rate]] = {}
    for label in sorted({f"{key}={value}" for tag in tags or () for key, value in tag.items()}):
        part = np.array([label in (f"{key}={value}" for key, value in tag.items()) for tag in tags or ()])
        shares[label] = {
            "rank1": rate(ranks == 1, mated & part),
            "fnir": rate(~hit, mated & part),
            "fpir": rate(alarm, ~mated & part),
        }
    return Evaluation(
        identities=len(enrolled),
        mated=int(mated.sum()),
        strangers=int((~mated).sum()),
        stranger_identities=len({n for n, m in zip(names, mated.tolist(), strict=True) if not m}),
        unreadable=len(refused),
        known=known,
        rank1=rate(ranks == 1, mated),
        cmc=tuple(float(np.mean((ranks[mated] > 0) & (ranks[mated] <= r))) for r in range(1, k + 1))
        if mated.any()
        else (),
        fnir=rate(~hit, mated),
        wrong_identity=rate(named & ~hit, mated),
        ambiguous=rate(np.array([v == "ambiguous" for v in verdicts]), np.ones(len(items), bool)),
        fpir=rate(alarm, ~mated),
        fmr=fmr,
        fnmr=fnmr,
        eer=eer,
        operating=_operating(found, int((mated & ~read).sum())),
        threshold=tau,
        evidence=learned.evidence if given is None else SET,
        fpir_stated=learned.interval() if given is None else None,
        by_tag=shares,
        mistakes=_mistakes(found, tau),
        refused=tuple(refused),
        searches=found,
    )


def _not_enrolled(gallery: OpenGallery, pictures: Sequence[Picture]) -> list[int]:
    """Return the positions of the pictures of which not the very bytes are enrolled."""
    embedder, fresh = gallery.embedder(), []
    for start in range(0, len(pictures), BATCH):
        digests: list[bytes] = []
        for picture in pictures[start : start + BATCH]:
            try:
                digests.append(embedder.digest(images.read(picture)))
            except SiameseIndexError:
                digests.append(b"")  # whoever reads it says why it cannot be
        with gallery.reading() as state:
            holders = state.store.holders([digest for digest in digests if digest])
        fresh += [start + i for i, digest in enumerate(digests) if digest not in holders]
    return fresh


def _distances(
    gallery: OpenGallery, items: Sequence[tuple[str, Picture]], vectors: Vectors, moves: NDArray[np.float64]
) -> ProbeDistances:
    own, other = np.full(len(items), np.nan), np.full(len(items), np.inf)
    other_names = [""] * len(items)
    comparisons, compared = [], []
    for start in range(0, len(items), 256):
        enrolled, distance = gallery.distances(vectors[start : start + 256])
        column = {name: i for i, name in enumerate(enrolled)}
        for i, (name, _) in enumerate(items[start : start + 256]):
            row = distance[i].astype(float) - moves[start + i]
            if name in column:
                own[start + i] = row[column[name]]
                row[column[name]] = np.inf
            if len(row) and np.isfinite(row.min()):
                at = int(row.argmin())
                other[start + i], other_names[start + i] = row[at], enrolled[at]
                comparisons.append(row[np.isfinite(row)][:: max(1, len(row) // 500)])
                compared += [name] * len(comparisons[-1])
    return ProbeDistances(
        tuple(name for name, _ in items),
        own,
        other,
        tuple(p for _, p in items),
        vectors,
        tuple(other_names),
        np.concatenate(comparisons) if comparisons else np.zeros(0),
        tuple(compared),
        moves,
    )


def _comparisons(found: ProbeDistances, tau: float | None) -> tuple[Rate, Rate, float | None]:
    """Return (FMR, FNMR) at `tau` and the EER, of comparisons between probes and identities."""
    mated = ~np.isnan(found.own)
    limit = -1.0 if tau is None else tau
    accepted = found.other_comparisons <= limit
    fmr = Rate.measured(accepted, found.compared)  # those of one probe's identity resemble each other
    names = [n for n, m in zip(found.names, mated.tolist(), strict=True) if m]
    fnmr = Rate.measured(found.own[mated] > limit, names)
    both = mated.any() and len(accepted)
    return fmr, fnmr, equal_error_rate(found.own[mated], found.other_comparisons) if both else None


def _operating(found: ProbeDistances, unread: int) -> tuple[Operating, ...]:
    """Return FNIR at the TARGETS, each at the threshold that lets at most so many of these strangers in."""
    mated = ~np.isnan(found.own)
    strangers = np.sort(found.other[~mated])
    whose = [n for n, m in zip(found.names, mated.tolist(), strict=True) if m]
    told = []
    for target in TARGETS:
        k = int(target * len(strangers) + 1e-9)
        if k < 1 or not mated.any():  # not one of them may be let in: these strangers cannot tell
            told.append(Operating(target, None, None))
            continue
        tau = float(np.nextafter(strangers[k], -1)) if k < len(strangers) else float(strangers[-1])
        missed = ~Rule(tau).returns(found.own[mated], found.other[mated])
        rate = Rate.measured(np.append(missed, np.ones(unread, bool)), [*whose, *["unread"] * unread])
        told.append(Operating(target, tau, rate))
    return tuple(told)


def _mistakes(found: ProbeDistances, tau: float | None) -> tuple[Mistake, ...]:
    """Return the worst: wrong identities and false alarms by how near they were, then misses by how far."""
    if tau is None:
        return ()
    mated = ~np.isnan(found.own)
    taken = (found.other <= tau) & ~(mated & (found.own < found.other))
    missed = mated & ~taken & (found.own > tau)
    order = [
        *np.flatnonzero(taken)[np.argsort(found.other[taken])],
        *np.flatnonzero(missed)[np.argsort(-found.own[missed])],
    ]
    wrong, lost = [i for i in order if taken[i]], [i for i in order if not taken[i]]
    half = KEPT // 2
    chosen = [*wrong[: max(half, KEPT - len(lost))], *lost[: max(half, KEPT - len(wrong))]]
    return tuple(
        Mistake(
            picture_name(found.probes[i], int(i)),
            found.names[i],
            found.other_names[i] if taken[i] else None,
            round(float((found.other[i] if taken[i] else found.own[i]) + found.moves[i]), 4),
            round(float(found.own[i] + found.moves[i]), 4) if mated[i] else None,
        )
        for i in chosen
    )
