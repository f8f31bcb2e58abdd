"""`sidx identify`: say who or what each picture shows."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Decision, Gallery, Refusal, describe
from siamese_index.files import path_of, refused
from siamese_index.samples import sources
from siamese_index.thresholds.question import Asked

from .options import (
    DEFAULT_GALLERY,
    EXIT,
    WORST_FIRST,
    FpirOption,
    GalleryOption,
    JsonOption,
    Place,
    TagOption,
    ThresholdOption,
    pixels_of,
    tags,
)
from .output import (
    AsJson,
    complain,
    emit,
    for_a_person,
    interrupted,
    note,
    printable,
    progress,
    tell_left_out,
    tell_unboxed,
)

EXAMPLE = "sidx identify probe.png -g people.gallery"


def identify(
    probes: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures, folders of them, .npy of vectors, or - for what is piped."),
    ] = None,
    paths_from: Annotated[
        str | None, typer.Option(help="A file with a path a line, or - for standard input: further probes.")
    ] = None,
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
    largest: Annotated[
        bool, typer.Option("--largest", help="Of several faces in a picture answer for the largest only.")
    ] = False,
    box: Annotated[
        str | None, typer.Option(help="Of one picture only what is here: X,Y,WIDTH,HEIGHT in pixels.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why, and draw it: probe, what drove the distance, the nearest two.")
    ] = False,
    show_frame: Annotated[
        bool,
        typer.Option("--show-frame", help="Draw what the tower sees of the picture: its subjects, and each as cut."),
    ] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Search among all but this identity; repeatable.", metavar="NAME")
    ] = None,
    as_of: Annotated[
        int | None, typer.Option(help="Ask the gallery as it was at this revision (see sidx history).", min=1)
    ] = None,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit 0 whatever the answers are, if all could be read.")
    ] = False,
    exit_worst: Annotated[bool, typer.Option("--exit-worst", help="As it is without.", hidden=True)] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Say who or what each picture shows, or that it is unknown.

    Exit 0 match, 10 unknown, 11 ambiguous, 12 nobody in the picture, 4 when it is not there. For several: 3
    when one is missing or cannot be read, else as the worst answer: 11, 10, 12, and 0 only when all matched.
    """
    del exit_worst
    asked: Asked = {
        "k": k,
        "fpir": fpir,
        "threshold": threshold,
        "exact": exact,
        "strict": strict,
        "largest": largest,
        "tags": tags(tag),
        "exclude": tuple(exclude or ()),
    }
    pictures, left_out, boxed = _samples([*(probes or []), *_listed(paths_from)])
    if box is not None:
        pictures = [_part(gallery, pictures, box)]
    if show_frame:
        if explain or len(pictures) != 1 or as_of is not None:
            raise BadInput("--show-frame takes one picture, without --explain or --as-of.")
        _show_frame(gallery, pictures[0])
    if explain:
        with _opened(gallery, as_of) as opened:
            _explain(opened, pictures, asked, as_json, exit_zero)
        return
    codes: list[int] = []
    answers: list[Decision] = []
    with _opened(gallery, as_of) as opened, progress("identifying", len(pictures)) as tick:
        rows = _rows(opened.identify_many(pictures, **asked), codes, answers, tick, len(pictures) == 1)
        try:
            boxes = ["box"] if for_a_person(as_json) and opened.embedder().finds else []
            emit(rows, as_json, ["probe", *boxes, "verdict", "identity", "distance", "threshold"])
        except KeyboardInterrupt:
            interrupted(f"\nInterrupted: {len(codes):,} of {len(pictures):,} were answered.")
            raise typer.Exit(130) from None
        tell_unboxed(opened.embedder().frame, boxed or box is not None)
    seen = next((answer for answer in answers if answer.verdict != "no_subject"), None)
    if seen is not None:
        note(describe.evidence(seen.evidence, enrolled=bool(seen.candidates)))
    tell_left_out(left_out)
    worst = min(codes, key=WORST_FIRST.index)
    raise typer.Exit(0 if exit_zero and worst in EXIT.values() else worst)


def _samples(probes: list[str]) -> tuple[list[Path | bytes], list[str], bool]:
    """Return what is asked about, what of it was left out, and whether boxes came with all of it."""
    pictures: list[Path | bytes] = []
    left_out: list[str] = []
    boxed = True
    for probe in probes:
        if probe == "-":
            pictures += sources.piped(sys.stdin.buffer.read())
            boxed = False
            continue
        found = sources.samples([probe])
        pictures += found
        left_out += found.left_out
        boxed = boxed and found.boxed
    if not pictures:
        raise BadInput("There is no probe.", remedy="Name a picture, or --paths-from FILE.")
    return pictures, left_out, boxed


def _part(gallery: Place, pictures: list[Path | bytes], box: str) -> Path | bytes:
    """Return the part of a picture that a box names."""
    from siamese_index.samples import images
    from siamese_index.samples.images import NamedSample, picture_name
    from siamese_index.towers.embedding import within

    if len(pictures) != 1:
        raise BadInput("--box is for one picture.", "Ask about each by itself.")
    with Gallery.open(gallery) as opened:
        part = within(opened.embedder(), images.read(pictures[0]), pixels_of(box))
    return NamedSample(part, picture_name(pictures[0], 0))


def _listed(paths_from: str | None) -> list[str]:
    """Return the paths in a file, one a line; empty lines are none."""
    if paths_from is None:
        return []
    try:
        data = sys.stdin.buffer.read() if paths_from == "-" else path_of(paths_from).read_bytes()
    except OSError as error:
        raise refused(paths_from, error) from None
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()  # also what find -print0 writes
    found = [os.fsdecode(line) for line in lines if line.strip()]
    if not found:
        raise BadInput(f"{paths_from}: there are no paths in it.", "Expected one a line.")
    return [f"./{path}" if path == "-" else path for path in found]


def _show_frame(gallery: Place, picture: Path | bytes) -> None:
    """Draw what the tower sees of a picture, beside where the command is run."""
    from siamese_index.analysis.frame_picture import frame_picture
    from siamese_index.files import refuse_to_replace, replace_file, signed
    from siamese_index.samples import images

    out = Path(f"{picture.stem if isinstance(picture, Path) else 'probe'}.frame.png")
    refuse_to_replace(out, "explanation")
    with Gallery.open(gallery) as opened:
        replace_file(out, signed(images.encode(frame_picture(opened, picture))), "explanation")
    note(f"Look at it:  {out}")


@contextlib.contextmanager
def _opened(gallery: Place, as_of: int | None) -> Iterator[Gallery]:
    """Yield the gallery, or a copy of it as it was at a revision."""
    with Gallery.open(gallery) as opened, contextlib.nullcontext(opened) if as_of is None else opened.past(as_of) as at:
        yield at


def _explain(gallery: Gallery, pictures: list[Path | bytes], asked: Asked, as_json: AsJson, exit_zero: bool) -> None:
    """Say why one probe is answered as it is; the picture goes beside where the command is run."""
    from siamese_index.analysis.explain import explain
    from siamese_index.files import refuse_to_replace, replace_file, signed
    from siamese_index.samples import images

    if len(pictures) != 1:
        raise BadInput(f"--explain takes one picture, not {len(pictures)}.")
    picture = pictures[0]
    out = Path(f"{picture.stem if isinstance(picture, Path) else 'probe'}.explained.png")
    refuse_to_replace(out, "explanation")
    found = explain(gallery, picture, **asked)
    row = found.decision.to_dict() | {"explanation": list(found.words)}
    if not for_a_person(as_json):
        emit([row], as_json)
    else:
        for line in found.words:
            typer.echo(printable(line))
    if found.strip is not None:
        replace_file(out, signed(images.encode(found.strip)), "explanation")
        note(f"Look at it:  {out}")
    raise typer.Exit(0 if exit_zero else EXIT[found.decision.verdict])


def _rows(
    found: Iterator[Decision | Refusal], codes: list[int], answers: list[Decision], tick: Any, single: bool
) -> Iterator[dict[str, Any]]:
    for answer in found:
        tick(1)
        if isinstance(answer, Refusal):
            codes.append(4 if single and answer.error.exit_code == 4 else 3)
            complain(f"sidx: {answer.error}")
            continue
        if answer.verdict == "no_subject":
            note(f"{answer.probe}: {describe.decision(answer, None)[0]}")
        codes.append(EXIT[answer.verdict])
        answers.append(answer)
        yield answer.to_dict()
