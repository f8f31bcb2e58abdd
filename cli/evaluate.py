"""`sidx evaluate`: measure how good the answers are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Gallery, Tower, describe
from siamese_index.describe import percent
from siamese_index.samples import sources, tables
from siamese_index.samples.items import Items

from .options import (
    DEFAULT_GALLERY,
    ByFileNameOption,
    FpirOption,
    GalleryOption,
    JsonOption,
    Place,
    SplitsOption,
    ThresholdOption,
    is_given,
)
from .output import AsJson, complain, emit, facts, for_a_person, note, progress, tell_left_out

EXAMPLE = "sidx evaluate probes -g people.gallery --report answers.html"


def evaluate(
    context: typer.Context,
    probes: Annotated[
        str,
        typer.Argument(
            help="Folder per identity, .csv, .npz: who is not enrolled is a stranger. Or a table of pairs, or"
            " Omniglot's one-shot runs."
        ),
    ],
    k: Annotated[int | None, typer.Option("-k", help="Ranks of the cumulative match curve; default: 5.")] = None,
    fpir: FpirOption = None,
    threshold: ThresholdOption = None,
    by_file_name: ByFileNameOption = False,
    splits_apart: SplitsOption = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write a page to look at, such as answers.html.", readable=False)
    ] = None,
    tower: Annotated[
        Path | None, typer.Option(help="For one-shot runs: a tower file instead of the gallery's.", readable=False)
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Measure how good the answers are, with counts and intervals.

    Further columns of a .csv (path,label,…) are tags: the figures are broken down by them.
    """
    from siamese_index.analysis.one_shot import is_one_shot
    from siamese_index.files import refuse_to_replace

    if report is not None:
        refuse_to_replace(report, "report")
    one_shot, pairs = is_one_shot(probes), tables.is_pairs(probes)
    if tower is not None and not one_shot:
        raise BadInput("--tower is for one-shot runs; searches need a gallery.", remedy="Leave it out: -g GALLERY")
    unused: dict[str, Any] = {"-k": k, "--fpir": fpir, "--threshold": threshold}
    unused |= {"--by-file-name": by_file_name or None, "--splits-apart": splits_apart or None}
    for option, value in unused.items() if one_shot or pairs else ():
        if value is not None:
            kind = "One-shot runs are" if one_shot else "A table of pairs is"
            raise BadInput(f"{kind} not searches in the gallery: {option} means nothing there.", remedy="Leave it out.")
    if tower is not None and is_given(context, "gallery"):
        raise BadInput("--tower takes the place of a gallery's.", remedy="Give --tower or --gallery.")
    if one_shot:
        _one_shot(probes, tower, gallery, report, as_json)
    elif pairs:
        _pairs(probes, gallery, report, as_json)
    else:
        items = sources.items(probes, by_file_name=by_file_name, splits_apart=splits_apart)
        _open_set(probes, items, 5 if k is None else k, fpir, threshold, gallery, report, as_json)


def _open_set(
    probes: str,
    items: Items,
    k: int,
    fpir: float | None,
    threshold: float | None,
    gallery: Place,
    report: Path | None,
    as_json: AsJson,
) -> None:
    from siamese_index.analysis import evaluation

    with Gallery.open(gallery) as opened:
        with progress("identifying", len(items)) as tick:
            result = evaluation.evaluate(opened, items, k=k, fpir=fpir, given=threshold, tags=items.tags, progress=tick)
        if report is not None:
            from siamese_index.analysis.evaluation_page import evaluation_page

            about = f"{probes}, asked of {gallery} at revision {opened.revision}."
            given = fpir is not None or threshold is not None  # then it is not the gallery's own threshold
            state = opened.calibrate()[0]
            promise = describe.evidence(result.evidence) if given else describe.state(state)
            _write(report, evaluation_page(opened, result, about, promise, () if given else state.tradeoffs))
    if not for_a_person(as_json):
        facts(result.to_dict(), as_json)
    else:
        rates = {
            "rank-1": result.rank1,
            "FNIR": result.fnir,
            "wrong identity": result.wrong_identity,
            "FPIR": result.fpir,
            "FMR": result.fmr,
            "FNMR": result.fnmr,
        }
        rates |= {f"FNIR at FPIR {o.fpir:.3g}": o.fnir for o in result.operating if o.fnir}
        rates |= {f"{name}, {label}": r for label, by in result.by_tag.items() for name, r in by.items() if r.of}
        emit([_rate(name, rate) for name, rate in rates.items()], as_json)
    note(
        f"{result.identities} enrolled; {result.mated} mated probes, {result.strangers} probes of"
        f" {result.stranger_identities} strangers, {result.unreadable} unreadable."
    )
    tell_left_out(items.left_out)
    if result.known:
        note(f"Left out: {describe.counted(result.known, 'probe')} that are enrolled themselves.")
    note(describe.evidence(result.evidence))
    for refusal in result.refused:
        complain(f"sidx: {refusal.error}")
    if result.refused:
        raise typer.Exit(3)


def _pairs(probes: str, gallery: Place, report: Path | None, as_json: AsJson) -> None:
    from siamese_index.analysis.pairs_evaluation import evaluate_pairs

    listed = tables.pairs(probes)
    if listed.graded:
        _graded(probes, listed, gallery, report, as_json)
        return
    with Gallery.open(gallery) as opened, progress("embedding", len(listed.items)) as tick:
        result = evaluate_pairs(opened, listed, tick)
    if report is not None:
        from siamese_index.analysis.evaluation_page import pairs_page

        _write(report, pairs_page(result, f"{probes}, compared by the tower of {gallery}."))
    if not for_a_person(as_json):
        facts(result.to_dict(), as_json)
    else:
        emit([_rate("FMR", result.fmr), _rate("FNMR", result.fnmr)], as_json)
    note(f"{result.pairs} pairs, {result.genuine} genuine; EER {percent(result.eer)}.")


def _graded(probes: str, listed: tables.Pairs, gallery: Place, report: Path | None, as_json: AsJson) -> None:
    from siamese_index.analysis.pairs_evaluation import evaluate_graded

    with Gallery.open(gallery) as opened, progress("embedding", len(listed.items)) as tick:
        result = evaluate_graded(opened, listed, tick)
    if report is not None:
        from siamese_index.analysis.evaluation_page import graded_page

        _write(report, graded_page(result, f"{probes}, compared by the tower of {gallery}."))
    facts(result.to_dict(), as_json)
    note(describe.graded(result.to_dict()))


def _one_shot(probes: str, tower: Path | None, gallery: Place, report: Path | None, as_json: AsJson) -> None:
    from siamese_index.analysis.one_shot import evaluate_one_shot

    if tower is not None:
        result = evaluate_one_shot(Tower.open(tower), probes)
    else:
        with Gallery.open(gallery) as opened:
            result = evaluate_one_shot(opened.tower, probes)
    if report is not None:
        from siamese_index.analysis.evaluation_page import one_shot_page

        _write(report, one_shot_page(result, f"{probes}, answered by {tower or gallery}."))
    if not for_a_person(as_json):
        facts(asdict(result), as_json)
    else:
        emit([_rate("error", result.error)], as_json)
    note(f"{result.trials} trials in {result.runs} runs.")


def _rate(name: str, rate: Any) -> dict[str, Any]:
    return {
        "figure": name,
        "share": percent(rate.share),
        "count": rate.count,
        "of": rate.of,
        "95 % interval": f"{percent(rate.low)} … {percent(rate.high)}",
    }


def _write(report: Path, page: str) -> None:
    from siamese_index.files import replace_file

    replace_file(report, page.encode(), "report")
    note(f"Look at it:  {report}")
