"""`sidx watch`: say who comes, of a folder that fills, a video, a camera or a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from siamese_index import BadInput, Gallery, describe
from siamese_index.thresholds.question import Asked, Question

from .options import DEFAULT_GALLERY, FpirOption, GalleryOption, JsonOption, TagOption, ThresholdOption, tags
from .output import as_line, complain, for_a_person, interrupted, note, printable

if TYPE_CHECKING:
    from siamese_index.analysis.visits import Visit

EXAMPLE = "sidx watch shots --once -g people.gallery"


def watch(
    source: Annotated[str, typer.Argument(help="A folder, a video file, a camera's number, or rtsp://…")],
    every: Annotated[float, typer.Option(help="Seconds between two pictures of a video or camera.")] = 0.2,
    once: Annotated[bool, typer.Option("--once", help="End when a folder is through, or a stream breaks off.")] = False,
    enroll: Annotated[str | None, typer.Option(help="Enroll the first visit under this name, and end.")] = None,
    fpir: FpirOption = None,
    threshold: ThresholdOption = None,
    tag: TagOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Unknown instead of a match while too few strangers support the threshold.")
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Say who comes: one answer for each visit, when it is over, as a line of JSON.

    A visit is a subject that is seen from picture to picture, until it was not for two seconds, or for a minute at
    most. Its pictures are decided on together, at a threshold learned for so many. Ctrl-C answers those that go on.
    """
    from siamese_index.analysis.visits import Visits
    from siamese_index.samples.video import shots

    if as_json is False:
        raise BadInput("--csv is for results that end.", remedy="Leave it out: a line of JSON each.")
    asked: Asked = {"fpir": fpir, "threshold": threshold, "strict": strict, "tags": tags(tag)}
    with Gallery.open(gallery) as opened:
        visits = Visits(opened, Question.of(asked), keep=enroll is not None)
        count = 0

        def over(found: list[Visit]) -> bool:
            """Print visits; return whether nothing more is to come."""
            nonlocal count
            for visit in found:
                count += 1
                _tell(visit, as_json)
                if enroll is not None:
                    done = opened.enroll(enroll, list(visit.pictures))
                    note(f"Enrolled {describe.counted(len(done.enrolled), 'picture')} of {enroll!r}.")
                    return True
            return False

        try:
            for shot in shots(source, every, once=once, told=complain):
                if over(visits.see(shot)):
                    return
        except KeyboardInterrupt:
            over(visits.end())
            interrupted(f"\nInterrupted after {describe.counted(count, 'visit')}.")
            raise typer.Exit(130) from None
        over(visits.end())
    note(f"{describe.counted(count, 'visit')}.")


def _tell(visit: Visit, as_json: bool | None) -> None:
    """Print a visit: a line of JSON, or one to read."""
    if not for_a_person(as_json):
        typer.echo(as_line(visit.to_dict()))
        return
    answer = visit.decision
    who = answer.identity if answer.matched else answer.verdict
    near = "" if answer.distance is None else f", distance {answer.distance:.3f}"
    limit = "" if answer.threshold is None else f" of {answer.threshold:.3f}"
    pictures = describe.counted(visit.frames, "picture")
    typer.echo(printable(f"{answer.probe}: {who}{near}{limit}, {pictures} in {visit.ended - visit.began:.1f} s"))
