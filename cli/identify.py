"""`sidx identify`: say who or what each picture shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Decision, Gallery, Refusal, describe
from siamese_index.identify import Asked
from siamese_index.samples import sources

from .options import (
    DEFAULT_GALLERY,
    EXIT,
    FpirOption,
    GalleryOption,
    JsonOption,
    Place,
    TagOption,
    ThresholdOption,
    tags,
)
from .output import emit, note, progress

EXAMPLE = "sidx identify probe.png -g people.gallery"
WORST = (0, 10, 11, 3)  # exit codes of several probes, the worst last


def identify(
    probes: Annotated[
        list[str], typer.Argument(help="Pictures, folders of them, .npy of vectors, or - for one from stdin.")
    ],
    k: Annotated[int, typer.Option("-k", help="How many candidates to list.")] = 5,
    fpir: FpirOption = None,
    threshold: ThresholdOption = None,
    tag: TagOption = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Use exact search for all listed candidates (verdicts are exact always).")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Unknown instead of a match while too few strangers support the threshold.")
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
    asked: Asked = {"k": k, "fpir": fpir, "threshold": threshold, "exact": exact, "strict": strict, "tags": tags(tag)}
    pictures = [sample for probe in probes for sample in _samples(probe)]
    if explain:
        _explain(gallery, pictures, asked, as_json)
        return
    codes: list[int] = []
    answers: list[Decision] = []
    with Gallery.open(gallery) as opened, progress("identifying", len(pictures)) as tick:
        rows = _rows(opened.identify_many(pictures, **asked), codes, answers, tick, len(pictures) == 1)
        emit(rows, as_json, ["probe", "verdict", "identity", "distance", "threshold"])
    if answers and (answers[0].candidates or not tag):
        note(describe.evidence(answers[0].evidence, enrolled=bool(answers[0].candidates)))
    elif answers:
        note(f"Nobody who is enrolled is tagged {' '.join(tag or [])}.")
    worst = max(codes, key=WORST.index) if len(codes) > 1 else codes[0]
    if len(codes) == 1 or worst == 3 or exit_worst:
        raise typer.Exit(worst)


def _samples(probe: str) -> list[Path | bytes]:
    return sources.piped(sys.stdin.buffer.read()) if probe == "-" else sources.samples([probe])


def _explain(gallery: Place, pictures: list[Path | bytes], asked: Asked, as_json: bool) -> None:
    """Say why one probe is answered as it is; the picture goes beside where the command is run."""
    from siamese_index.analysis.explain import explain
    from siamese_index.files import refuse_to_replace, replace_file, signed
    from siamese_index.samples import images

    if len(pictures) != 1:
        raise BadInput(f"--explain takes one picture, not {len(pictures)}.")
    picture = pictures[0]
    out = Path(f"{picture.stem if isinstance(picture, Path) else 'probe'}.explained.png")
    refuse_to_replace(out, "explanation")
    with Gallery.open(gallery) as opened:
        found = explain(opened, picture, **asked)
    row = found.decision.to_dict() | {"explanation": list(found.words)}
    if as_json or not sys.stdout.isatty():
        emit([row], as_json)
    else:
        for line in found.words:
            typer.echo(line)
    if found.strip is not None:
        replace_file(out, signed(images.encode(found.strip)), "explanation")
        note(f"Look at it:  {out}")
    raise typer.Exit(EXIT[found.decision.verdict])


def _rows(
    found: Iterator[Decision | Refusal], codes: list[int], answers: list[Decision], tick: Any, single: bool
) -> Iterator[dict[str, Any]]:
    for answer in found:
        tick(1)
        if isinstance(answer, Refusal):
            codes.append(4 if single and answer.error.exit_code == 4 else 3)
            note(f"sidx: {answer.error}")
            continue
        codes.append(EXIT[answer.verdict])
        answers.append(answer)
        yield answer.to_dict()
