"""What a training leaves beside its tower: the card, the log, and a report to look at."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Cohort, Missing, NotInstalled, TowerFile, describe
from siamese_index.analysis import html as html
from siamese_index.analysis.comparison import leave_one_out
from siamese_index.files import replace_file
from siamese_index.towers.card import Card

from .data import Data
from .progress import OnProgress

SHOWN = 12  # mistakes
COLUMNS = ("step", "loss", "rank1", "fnir", "eer", "seconds")


def write_artifacts(
    folder: Path, made: TowerFile, measured: Cohort, data: Data, positions: NDArray[np.int64], on_progress: OnProgress
) -> None:
    """Write card.json, log.csv and report.html; without matplotlib say how to get the last.

    `measured` are the held-out samples' vectors, `positions` (n,) theirs in the data.
    """
    log = io.StringIO()
    rows = csv.DictWriter(log, COLUMNS, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    rows.writerows(made.card.training.history)
    try:
        content = json.dumps({"tower": made.id, **made.card.to_dict()}, indent=1, ensure_ascii=False)
        replace_file(folder / "card.json", content.encode())
        replace_file(folder / "log.csv", log.getvalue().encode())
        replace_file(folder / "report.html", _page(made, measured, data, positions).encode(), "report")
    except (BadInput, Missing, NotInstalled) as error:  # the tower is worth more than its report
        on_progress({"stage": "report", "failed": str(error).replace("\n", " ")})
        return
    on_progress({"stage": "report", "file": str(folder / "report.html")})


def _page(made: TowerFile, measured: Cohort, data: Data, positions: NDArray[np.int64]) -> str:
    card, training, figures = made.card, made.card.training, made.card.held_out
    sections = [("What was trained", _summary(card)), ("How it went", _curves(training.history))]
    if "spearman" in figures:
        sections.append(("How good it is on pairs it never saw", html.paragraph(describe.held_out(figures))))
    elif figures.get("searches"):
        ids = np.unique(np.asarray(measured.names), return_inverse=True)[1].astype(np.int64)
        searches = np.flatnonzero(np.bincount(ids)[ids] > 1)
        mate, other, nearest = leave_one_out(measured.vectors, ids, searches)
        sections += [
            ("How good it is on identities it never saw", _figures(figures)),
            ("Distances of held-out identities", html.histogram(mate, other, figures["threshold"], "searches")),
            ("Errors at every threshold", _errors(measured.vectors, ids)),
            ("The hardest mistakes", _mistakes(mate, other, nearest, searches, measured, data, positions, ids)),
        ]
    else:
        sections.append(("How good it is", html.paragraph("No identities were held out: nothing is known of that.")))
    sections.append(("What was left out", html.table([[line] for line in data.left_out[:50]]) if data.left_out else ""))
    about = f"Made {card.made} by siamese-index {card.versions['siamese-index']}, tower {made.id[:12]}."
    return html.page(f"A tower for {(training.recipe or {}).get('name')}", about, sections)


def _summary(card: Card) -> str:
    training, shape = card.training, " x ".join(map(str, card.input.shape))
    recipe, history = training.recipe or {}, training.history
    taken_steps = history[-1]["step"] if history else 0
    rows = [
        ("learned from", f"{training.samples:,} samples of {len(training.identities):,} identities"),
        ("held out", f"{len(training.held_out):,} identities"),
        ("left out", f"{training.left_out:,} samples that could not be read"),
        ("input", shape),
        ("tower", f"{recipe['tower']['name']}, {training.parameters:,} parameters, {card.dimension} numbers"),
        ("loss", ", ".join(str(v) if k == "name" else f"{k} {v}" for k, v in recipe["loss"].items())),
        ("steps", f"{taken_steps:,} of {training.steps:,}; kept from step {training.kept_from_step:,}"),
        ("ended by", training.ended),
        ("time", f"{training.seconds:,} s"),
    ]
    return html.table(rows) + "".join(html.paragraph(line) for line in training.why)


def _figures(figures: dict[str, Any]) -> str:
    note = (
        "The same identities chose the moment at which the weights were kept, so these figures are a little kind."
        if figures.get("chose_the_moment")
        else "Other held-out identities chose the moment at which the weights were kept."
    )
    rows = [
        (name, f"{figures[key]:.1%}", "{:.1%} … {:.1%}".format(*figures[f"{key}_interval"]))
        for name, key in (("rank-1", "rank1"), (f"FNIR at FPIR {figures['target_fpir']:g}", "fnir"))
    ]
    rows.append(("EER", f"{figures['eer']:.1%}", ""))
    if "plain" in figures:
        rows.append(("rank-1 of the plain vectors", f"{figures['plain']['rank1']:.1%}", ""))
    return html.table(rows, ["figure", "share", "95 % interval"]) + html.paragraph(
        f"{figures['searches']:,} searches by {figures['identities']} identities among {figures['gallery']}. {note}"
    )


def _curves(history: list[dict[str, float]]) -> str:
    if len(history) < 2:
        return ""
    steps = [point["step"] for point in history]

    def draw(axes: Any) -> None:
        axes.plot(steps, [point["loss"] for point in history], color="#444", label="loss (mean of the round)")
        axes.set(xlabel="step", ylabel="loss")
        lines = axes.get_lines()
        colours = {"rank1": "#0072b2", "fnir": "#d55e00", "eer": "#009e73", "spearman": "#0072b2"}
        if shown := [key for key in colours if key in history[0]]:
            right = axes.twinx()
            for key in shown:
                right.plot(
                    steps, [point[key] for point in history], color=colours[key], label=f"{key} of held-out identities"
                )
            right.set(ylim=(-0.02, 1.02), ylabel="share")
            lines += right.get_lines()
        axes.legend(lines, [line.get_label() for line in lines], frameon=False, loc="center right")

    return html.plot(draw)


def _errors(vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> str:
    """Return the DET of comparisons: every two held-out samples, of up to 1,500."""
    chosen = np.random.default_rng(0).permutation(len(vectors))[:1500]
    rows, columns = np.triu_indices(len(chosen), 1)
    distance = np.sqrt(np.maximum(2 - 2 * (vectors[chosen] @ vectors[chosen].T)[rows, columns], 0))
    genuine = ids[chosen][rows] == ids[chosen][columns]
    mated, others = np.sort(distance[genuine]), np.sort(distance[~genuine])
    if not len(mated) or not len(others):
        return ""
    cuts = np.quantile(distance, np.linspace(0, 1, 400)) if len(distance) > 400 else np.sort(distance)
    fmr = np.searchsorted(others, cuts, "right") / len(others)
    fnmr = 1 - np.searchsorted(mated, cuts, "right") / len(mated)
    if mated[-1] < others[0]:
        return html.paragraph(f"None: a threshold tells all {len(mated):,} mated from all {len(others):,} non-mated.")
    return html.det([("", fmr, fnmr)], "FMR (comparisons of two identities accepted)", "FNMR (of one rejected)") + (
        html.paragraph(f"{len(mated):,} mated and {len(others):,} non-mated comparisons.")
    )


def _mistakes(
    mate: NDArray[np.float64],
    other: NDArray[np.float64],
    nearest: NDArray[np.int64],
    searches: NDArray[np.int64],
    measured: Cohort,
    data: Data,
    positions: NDArray[np.int64],
    ids: NDArray[np.int64],
) -> str:
    """Return the searches that came nearest to going wrong, or went: probe, nearest other, nearest of its own."""
    if len(data.shape) != 3:
        return ""
    worst = np.argsort(other - mate)[:SHOWN]
    wrong = int(np.sum(other <= mate))
    groups = []
    for i in worst:
        probe = searches[i]
        own = np.flatnonzero((ids == ids[probe]) & (np.arange(len(ids)) != probe))
        friend = own[np.argmax(measured.vectors[own] @ measured.vectors[probe])]
        pictures = list(data.take(positions[[probe, nearest[i], friend]]))
        names = measured.names[probe], measured.names[nearest[i]]
        groups.append((pictures, f"{names[0]}: nearest is {names[1]} at {other[i]:.3f}, own at {mate[i]:.3f}"))
    return html.strip(groups) + html.paragraph(
        f"Each: the probe, the nearest picture of another identity, the nearest of its own. {wrong} of {len(searches)}"
        " searches go to another identity; the rest of these are the closest calls."
    )
