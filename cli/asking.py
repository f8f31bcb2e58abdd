"""Commands that ask: identify, verify, calibrate, capacity."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Decision, Evidence, Gallery, Refusal
from siamese_index.samples import sources

from .app import DEFAULT_GALLERY, FpirOption, GalleryOption, JsonOption, Place, TagOption, app, tags
from .output import emit, facts, note, percent, progress


class FusionChoice(StrEnum):
    auto = "auto"
    best = "best"
    mean = "mean"
    best_two = "best-two"


EXIT = {"match": 0, "unknown": 10, "ambiguous": 11}
WORST = (0, 10, 11, 3)  # exit codes of several probes, the worst last
ThresholdOption = Annotated[
    float | None, typer.Option("--threshold", help="A distance (0..2) to use instead of the learned one.")
]


@app.command(epilog="Example:  sidx identify probe.png -g people.gallery")
def identify(
    probes: Annotated[list[str], typer.Argument(help="Pictures, folders of them, or - for one picture from stdin.")],
    k: Annotated[int, typer.Option("-k", help="How many candidates to list.")] = 5,
    fpir: FpirOption = None,
    threshold: ThresholdOption = None,
    tag: TagOption = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Also candidates on which the verdict does not depend.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why, and draw it: probe, what drove the distance, the nearest two.")
    ] = False,
    exit_worst: Annotated[bool, typer.Option("--exit-worst", help="Exit as the worst of several answers.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Say who or what each picture shows, or that it is unknown.

    For one picture: exit 0 match, 10 unknown, 11 ambiguous, 4 when it is not there. For several: 0 when
    each was answered, 3 when one is missing or cannot be read.
    """
    asked: dict[str, Any] = {"k": k, "fpir": fpir, "threshold": threshold, "exact": exact, "tags": tags(tag)}
    if explain:
        _explain(gallery, probes, asked, as_json)
        return
    with Gallery.open(gallery) as opened:
        answers: Iterator[Decision | Refusal]
        if opened.holds_vectors:
            arrays = [sources.vectors(path)[1] for path in probes]
            answers = (d for a in arrays for d in opened.identify_vectors(a, **asked))
            count = sum(len(array) for array in arrays)
        else:
            pictures: list[Path | bytes] = []
            for probe in probes:
                pictures += [sys.stdin.buffer.read()] if probe == "-" else sources.samples([probe])
            answers = opened.identify_many(pictures, **asked)
            count = len(pictures)
        codes: list[int] = []
        evidence: list[Evidence] = []
        with progress("identifying", count) as tick:
            emit(
                _rows(answers, codes, evidence, tick, count == 1),
                as_json,
                ["probe", "verdict", "identity", "distance", "threshold"],
            )
    if evidence:
        note(in_words(evidence[0]))
    if count == 1:
        raise typer.Exit(codes[0])
    if codes and (exit_worst or max(codes, key=WORST.index) == 3):
        raise typer.Exit(max(codes, key=WORST.index))


def _explain(gallery: Place, probes: list[str], asked: dict[str, Any], as_json: bool) -> None:
    """Say why one probe is answered as it is; the picture goes beside where the command is run."""
    from siamese_index.analysis.explain import explain
    from siamese_index.files import refuse_to_replace, replace_file
    from siamese_index.samples import images

    if len(probes) != 1:
        raise BadInput(f"--explain takes one picture, not {len(probes)}.")
    picture = sys.stdin.buffer.read() if probes[0] == "-" else Path(probes[0])
    out = Path("probe.explained.png" if probes[0] == "-" else f"{Path(probes[0]).stem}.explained.png")
    refuse_to_replace(out, "PNG picture")
    with Gallery.open(gallery) as opened:
        found = explain(opened, picture, **asked)
    row = found.decision.to_dict() | {"explanation": list(found.words)}
    if as_json or not sys.stdout.isatty():
        emit([row], as_json)
    else:
        for line in found.words:
            typer.echo(line)
    if found.strip is not None:
        replace_file(out, images.encode(found.strip), "PNG picture")
        note(f"Look at it:  {out}")
    raise typer.Exit(EXIT[found.decision.verdict])


def _rows(
    answers: Iterator[Decision | Refusal], codes: list[int], evidence: list[Evidence], tick: Any, single: bool
) -> Iterator[dict[str, Any]]:
    for answer in answers:
        tick(1)
        if isinstance(answer, Refusal):
            codes.append(4 if single and answer.error.exit_code == 4 else 3)
            note(f"sidx: {answer.error}")
            continue
        codes.append(EXIT[answer.verdict])
        evidence.append(answer.evidence)
        yield answer.to_dict()


_WHOSE = {
    "given": "searches by the strangers you gave",
    "tower": "stranger searches",
    "gallery": "searches by the gallery's own pictures, each among the others,",
    "given + tower": "stranger searches",
    "given + gallery": "searches by the strangers you gave and by the gallery's own pictures",
    "tower + gallery": "searches by strangers and by the gallery's own pictures",
    "given + tower + gallery": "searches by strangers and by the gallery's own pictures",
}


def in_words(evidence: Evidence) -> str:
    """Return what a threshold rests on, in a sentence or two."""
    if evidence.source == "set":
        return "The threshold was set, not learned: nothing is known of its error rates."
    if not evidence.searches:
        return (
            "No stranger has been searched for, so there is no threshold and nobody is named.\n"
            f"Give strangers (sidx calibrate --strangers DATA; about {evidence.missing}), or --threshold."
        )
    found = (
        f"{evidence.false_alarms} of {evidence.searches} {_WHOSE[evidence.source]}"
        f" (worth {evidence.effective:.0f} independent ones)"
    )
    if evidence.missing and evidence.false_alarms:
        return (
            f"Threshold for an FPIR of {percent(evidence.target_fpir)} on average: {found} match. It is stricter than"
            f" the strangers say, who are less like those enrolled.\n{evidence.missing} independent strangers like"
            " those who will ask are needed to promise it: sidx calibrate --strangers DATA"
        )
    if evidence.missing:
        return (
            f"Threshold just below the nearest stranger: {found} match; that promises an FPIR of at most"
            f" {percent(evidence.promise)} (95 %).\n{evidence.missing} more independent strangers are needed to promise"
            f" {percent(evidence.target_fpir)}."
        )
    return f"Threshold for an FPIR of {percent(evidence.target_fpir)}: {found} match."


@app.command(epilog="Example:  sidx verify ada.png probe.png -g people.gallery")
def verify(
    a: Annotated[Path, typer.Argument(help="A picture.")],
    b: Annotated[Path | None, typer.Argument(help="Another one.")] = None,
    name: Annotated[str | None, typer.Option("--as", help="Instead of another picture: an enrolled identity.")] = None,
    fmr: Annotated[float | None, typer.Option(help="Share of comparisons between strangers that may match.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Say whether two pictures, or a picture and an identity, are the same. Exit 0 match, 10 unknown."""
    if (b is None) == (name is None):
        raise BadInput("Verify needs a second picture or --as NAME.", remedy="See: sidx verify --help")
    with Gallery.open(gallery) as opened:
        answer = opened.verify_as(a, name, fmr=fmr) if name is not None else opened.verify(a, b or a, fmr=fmr)
    facts(asdict(answer), as_json)
    if answer.threshold is None:
        note("Too few comparisons between strangers to say what is alike: sidx calibrate --strangers DATA")
    raise typer.Exit(EXIT[answer.verdict])


@app.command(epilog="Example:  sidx calibrate --fpir 0.02 -g people.gallery")
def calibrate(
    fpir: FpirOption = None,
    strangers: Annotated[
        str | None, typer.Option(help="Pictures of identities that are not enrolled: folder, .csv, .npz.")
    ] = None,
    fusion: Annotated[
        FusionChoice | None, typer.Option(help="How several pictures of an identity make one distance.")
    ] = None,
    plan: Annotated[int | None, typer.Option(help="Instead: what would be with so many identities.", min=1)] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Show the threshold with its evidence and its cost; set its target; add strangers; plan."""
    if plan is not None:
        if strangers is not None or fusion is not None:
            raise BadInput("--plan only computes.", "It adds no strangers and sets no fusion.", "Do that first.")
        _show_plan(gallery, plan, fpir, as_json)
        return
    with Gallery.open(gallery) as opened:
        rule: Any = None if fusion is None else fusion.value
        if opened.holds_vectors:
            names, vectors = sources.vectors(strangers) if strangers else ([], None)
            if names is None:
                names = [f"{strangers} row {i}" for i in range(len(vectors if vectors is not None else []))]
            result = opened.calibrate_vectors(fpir=fpir, names=names, vectors=vectors, fusion=rule)
            refused: list[Refusal] = []
        else:
            items: Sequence[sources.Item] = sources.items(strangers) if strangers else []
            with progress("embedding strangers", len(items)) as tick:
                result, refused = opened.calibrate(fpir=fpir, strangers_given=items, fusion=rule, progress=tick)
    facts(
        {
            "threshold": result.threshold,
            "target_fpir": result.evidence.target_fpir,
            "fpir_interval": result.fpir_interval,
            "promise": result.evidence.promise,
            "stranger_searches": result.evidence.searches,
            "effective_searches": round(result.evidence.effective, 1),
            "false_alarms": result.evidence.false_alarms,
            "missing_strangers": result.evidence.missing,
            "sources": {**result.strangers, "gallery": result.own_searches},
            "used": result.evidence.source,
            "fusion": result.evidence.fusion,
            "margin": result.evidence.margin,
            "enrolled_strangers": result.enrolled_strangers,
            "set_aside": result.set_aside,
            "fnir": result.fnir,
            "fnir_interval": result.fnir_interval,
            "misses": result.misses,
            "mated_searches": result.mated,
            "identities": result.identities,
            "revision": result.revision,
        },
        as_json,
    )
    note(in_words(result.evidence))
    for refusal in refused:
        note(f"sidx: {refusal.error}")
    if refused:
        raise typer.Exit(3)


def _show_plan(gallery: Place, identities: int, fpir: float | None, as_json: bool) -> None:
    with Gallery.open(gallery) as opened:
        planned = opened.plan(identities, fpir=fpir)
    facts(asdict(planned), as_json)
    note(
        f"From {planned.probes} searches by {planned.held_out} held-out identities"
        + (": beyond what they can show, so these are upper bounds." if planned.extrapolated else ", without sampling.")
    )


@app.command(epilog="Example:  sidx capacity --fnir 0.2 -g people.gallery")
def capacity(
    fnir: Annotated[float, typer.Option(help="The share of mated searches that may miss.")] = 0.1,
    fpir: FpirOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Show how many identities the tower can hold, from one picture each, before too many searches miss."""
    with Gallery.open(gallery) as opened:
        result = opened.capacity(fpir=fpir, fnir=fnir)
    if as_json or not sys.stdout.isatty():
        facts(asdict(result), as_json)
    else:
        emit(
            [
                {"identities": p.identities, "threshold": p.threshold, "FPIR": _with(p.fpir, p.fpir_interval),
                 "FNIR": _with(p.fnir, p.fnir_interval)}
                for p in result.plans
            ],
            as_json,
        )  # fmt: skip
    more = "at least " if result.at_least else ""
    note(
        f"At an FPIR of {percent(result.target_fpir)} this tower holds {more}{_counted(result.identities)}"
        f" before {percent(fnir)} of mated searches miss."
        + (" More held-out identities would show more." if result.at_least else "")
    )


def _counted(identities: int) -> str:
    return {0: "not one identity", 1: "one identity"}.get(identities, f"{identities} identities")


def _with(share: float, ends: tuple[float, float]) -> str:
    return f"{percent(share)} ({percent(ends[0])} … {percent(ends[1])})"
