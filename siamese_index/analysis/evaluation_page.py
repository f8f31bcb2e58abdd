"""An evaluation to look at: one HTML page that needs nothing else and prints well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese_index import describe
from siamese_index.analysis.contract import OpenGallery
from siamese_index.describe import percent
from siamese_index.errors import SiameseIndexError
from siamese_index.samples import images
from siamese_index.samples.images import Picture, Pixels

from . import html as html
from .evaluation import Evaluation, ProbeDistances, Rate
from .one_shot import OneShot
from .pairs_evaluation import GradedPairs, Verified

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from siamese_index.thresholds.calibration import Tradeoff


SHOWN = 12  # mistakes
HEAD = ("figure", "share", "count", "of", "95 % interval")


def evaluation_page(
    gallery: OpenGallery, evaluation: Evaluation, about: str, promise: str, tradeoffs: Sequence[Tradeoff] = ()
) -> str:
    """Return the page of an open-set evaluation. `promise` says what the threshold rests on, a sentence a line."""
    found = evaluation.searches
    mated = ~np.isnan(found.own)
    rates = {
        "rank-1": evaluation.rank1,
        "FNIR": evaluation.fnir,
        "wrong identity": evaluation.wrong_identity,
        "FPIR": evaluation.fpir,
        "ambiguous": evaluation.ambiguous,
        "FMR": evaluation.fmr,
        "FNMR": evaluation.fnmr,
    }
    counted = (
        f"{evaluation.identities:,} identities enrolled; {evaluation.mated:,} mated probes, {evaluation.strangers:,} of"
        f" {evaluation.stranger_identities:,} strangers, {evaluation.unreadable:,} unreadable."
    )
    sections = [
        ("Figures", html.table([rate_row(n, r) for n, r in rates.items()], HEAD) + html.paragraph(counted)),
        ("The threshold", "".join(map(html.paragraph, promise.split("\n"))) + _tradeoffs(tradeoffs)),
        ("Misses at other false alarm rates", _operating(evaluation)),
        ("Distances", html.histogram(found.own[mated], _finite(found), evaluation.threshold, "probes")),
        ("Errors at every threshold", _det(found)),
        ("Rank", _ranks(evaluation.cmc) if evaluation.cmc else ""),
        ("By tag", _by_tag(evaluation)),
        ("The worst mistakes", _mistakes(gallery, evaluation, found)),
        (
            "What could not be read",
            html.table([[str(r.error).replace("\n", " ")] for r in evaluation.refused[:50]])
            if evaluation.refused
            else "",
        ),
    ]
    return html.page("How good are the answers?", about, sections)


def _tradeoffs(tradeoffs: Sequence[Tradeoff]) -> str:
    """Return what other targets would cost, as the gallery's own evidence tells."""
    if not tradeoffs:
        return ""
    rows = [
        [
            percent(each.fpir),
            "on average" if each.confidence is None else f"{each.confidence:.0%}",
            "–" if each.threshold is None else f"{each.threshold:.4f}",
            percent(each.fnir),
            "yes" if each.promised else "no: too few strangers",
        ]
        for each in tradeoffs
    ]
    return html.table(rows, ("target FPIR", "kept", "threshold", "FNIR", "supported"))


def pairs_page(verified: Verified, about: str) -> str:
    """Return the page of an evaluation of pairs."""
    rows = [rate_row("FMR", verified.fmr), rate_row("FNMR", verified.fnmr)]
    same, different = verified.genuine_distances, verified.impostor_distances
    cuts = np.unique(np.concatenate([same, different]))
    x = np.searchsorted(np.sort(different), cuts, "right") / len(different)
    y = 1 - np.searchsorted(np.sort(same), cuts, "right") / len(same)
    return html.page(
        "Same or different?",
        about,
        [
            ("Figures", html.table(rows, HEAD) + html.paragraph(f"EER {verified.eer:.2%} of {verified.pairs:,}.")),
            ("Distances", html.histogram(same, different, verified.threshold, "pairs")),
            ("Errors at every threshold", html.det([("", x, y)], "FMR", "FNMR")),
        ],
    )


def graded_page(result: GradedPairs, about: str) -> str:
    """Return the page of an evaluation of pairs with graded labels."""

    def draw(axes: Any) -> None:
        axes.plot(result.labels, result.distances, ".", alpha=0.4, color="#0072b2")
        axes.set(xlabel="label: 0 unlike, 1 the same", ylabel="distance", ylim=(0, 2))

    sections = [
        ("How well distances follow labels", html.paragraph(describe.graded(result.to_dict()))),
        ("Each pair", html.plot(draw)),
    ]
    return html.page("How alike pairs are", about, sections)


def one_shot_page(result: OneShot, about: str) -> str:
    """Return the page of one-shot runs."""
    rows = [[f"run {number}", f"{error:.1%}"] for number, error in enumerate(result.by_run, 1)]
    return html.page(
        "Which of these is it?",
        about,
        [("Error", html.table([rate_row("error", result.error)], HEAD)), ("By run", html.table(rows))],
    )


def rate_row(name: str, rate: Rate) -> list[object]:
    """Return a rate as a row under HEAD."""
    share = "–" if rate.share is None else f"{rate.share:.3g}" if rate.share == 0 else f"{rate.share:.2%}"
    return [name, share, rate.count, rate.of, f"{rate.low:.2%} … {rate.high:.2%}"]


def _finite(found: ProbeDistances) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return found.other[np.isfinite(found.other)]


def _operating(evaluation: Evaluation) -> str:
    rows = []
    for point in evaluation.operating:
        name = f"FNIR at FPIR {point.fpir:.3g}"
        rows.append(rate_row(name, point.fnir) if point.fnir else [name, "too few strangers to tell", "", "", ""])
    return html.table(rows, HEAD) + html.paragraph(
        "Each at the threshold that gives this FPIR on these very strangers: what could be had, not what was promised."
    )


def _det(found: ProbeDistances) -> str:
    """Return the DET of searches: FNIR over FPIR."""
    mated = ~np.isnan(found.own)
    if not mated.any() or mated.all():
        return ""
    strangers = np.sort(found.other[~mated])
    cuts = np.unique(np.concatenate([found.own[mated], strangers[np.isfinite(strangers)]]))
    fpir = np.searchsorted(strangers, cuts, "right") / len(strangers)
    reachable = np.sort(found.own[mated & (found.own < found.other)])
    fnir = 1 - np.searchsorted(reachable, cuts, "right") / int(mated.sum())
    if fnir[fpir == 0].min(initial=1.0) == 0:
        return html.paragraph("None: a threshold finds every mated probe and no stranger.")
    return html.det([("", fpir, fnir)], "FPIR (strangers taken for somebody)", "FNIR (mated probes missed)")


def _ranks(cmc: Sequence[float]) -> str:
    def draw(axes: Axes) -> None:
        axes.plot(range(1, len(cmc) + 1), cmc, marker="o", color="#0072b2")
        axes.set(
            xlabel="rank",
            ylabel="share of mated probes found",
            ylim=(min(0.9, min(cmc)) - 0.02, 1.005),
            xticks=list(range(1, len(cmc) + 1)),
        )

    return html.plot(draw, 4.5, 2.6)


def _by_tag(evaluation: Evaluation) -> str:
    rows = [
        [label, *rate_row(name, rate)] for label, rates in evaluation.by_tag.items() for name, rate in rates.items()
    ]
    return html.table([row for row in rows if row[4]], ["tag", *HEAD]) if rows else ""


def _mistakes(gallery: OpenGallery, evaluation: Evaluation, found: ProbeDistances) -> str:
    """Return the probes that went wrong, each beside the picture it was taken for and the nearest of its own."""
    if not evaluation.mistakes:
        return html.paragraph("None.")
    names = {str(probe): i for i, probe in enumerate(found.probes)}
    groups = []
    for mistake in evaluation.mistakes[:SHOWN]:
        i = names.get(mistake.probe)
        if i is None:
            continue
        whom = [n for n in (mistake.taken_for, mistake.identity if mistake.own_distance is not None else None) if n]
        samples = [gallery.picture(gallery.nearest_sample(found.vectors[i], name)) for name in whom]
        pictures = [shown for p in (found.probes[i], *samples) if p is not None and (shown := _shown(p)) is not None]
        if mistake.taken_for is None:
            said = f"{mistake.identity}: missed, {mistake.distance:.3f} from its own"
        else:
            own = "a stranger" if mistake.own_distance is None else f"own at {mistake.own_distance:.3f}"
            said = f"{mistake.identity}: taken for {mistake.taken_for} at {mistake.distance:.3f}, {own}"
        groups.append((pictures, said))
    return html.strip(groups) + html.paragraph(
        "Each: the probe, the picture it was taken for, the nearest picture of its own."
    )


def _shown(picture: Picture) -> Pixels | None:
    try:
        pixels = images.decode(images.read(picture), 3)
    except SiameseIndexError:  # a vector
        return None
    scale = min(1.0, 160 / max(pixels.shape[:2]))
    return images.fit(pixels, max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
