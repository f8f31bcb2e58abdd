"""`sidx watch`: say who comes, of a folder that fills, a video, a camera or a stream."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamese_index import BadInput, Gallery, SiameseIndexError, describe
from siamese_index.errors import SeveralSubjects
from siamese_index.thresholds.question import Asked, Question

from .options import DEFAULT_GALLERY, FpirOption, GalleryOption, JsonOption, TagOption, ThresholdOption, tags
from .output import as_line, complain, for_a_person, interrupted, note, printable, tell_unboxed

if TYPE_CHECKING:
    from siamese_index.analysis.visits import Visit

    from .remote import RemoteVisits

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
    to: Annotated[
        str | None,
        typer.Option(
            metavar="http://HOST:PORT", help="Ask a service that knows the gallery (sidx serve); none is needed here."
        ),
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="A file with the key for that service.", readable=False)] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Say who comes: one answer for each visit, when it is over, as a line of JSON.

    A visit is a subject that is seen from picture to picture, until it was not for two seconds, or for a minute at
    most. Its pictures are decided on together, at a threshold learned for so many. Ctrl-C answers those that go on.
    """
    from siamese_index.analysis.visits import Visits
    from siamese_index.samples.video import shots

    from .remote import RemoteVisits

    if as_json is False:
        raise BadInput("--csv is for results that end.", remedy="Leave it out: a line of JSON each.")
    if to is not None and enroll is not None:
        raise BadInput(
            "--to and --enroll exclude each other.", "Nobody is enrolled from here.", "Use the service's page."
        )
    if to is None and key_file is not None:
        raise BadInput("--key-file is for the service of --to.", remedy="Give --to http://HOST:PORT")
    asked: Asked = {"fpir": fpir, "threshold": threshold, "strict": strict, "tags": tags(tag)}
    question = Question.of(asked)
    count = unreadable = 0

    def told(text: str) -> None:
        nonlocal unreadable
        unreadable += 1
        complain(text)

    def run(visits: Visits | RemoteVisits, opened: Gallery | None) -> None:
        def over(found: Sequence[Visit | dict[str, Any]]) -> bool:
            """Print visits; return whether nothing more is to come."""
            nonlocal count
            for visit in found:
                count += 1
                _tell(visit if isinstance(visit, dict) else visit.to_dict(), as_json)
                if enroll is not None and opened is not None and not isinstance(visit, dict):
                    _enroll(opened, enroll, visit)
                    return True
            return False

        try:
            with _ended_by_signal():
                for shot in shots(source, every, once=once, told=told):
                    if over(visits.see(shot)):
                        return
        except KeyboardInterrupt:
            try:
                over(visits.end())
            except SiameseIndexError as error:  # the service is away: it is ended all the same
                complain(str(error))
            interrupted(f"\nInterrupted after {describe.counted(count, 'visit')}.")
            raise typer.Exit(130) from None
        except SiameseIndexError:
            over(visits.end())  # what was seen before the source went away
            raise
        over(visits.end())
        if isinstance(visits, Visits) and visits.dropped:
            note(f"Not answered: {describe.counted(visits.dropped, 'visit')} while the tower was swapped.")
        note(f"{describe.counted(count, 'visit')}.")
        if once and unreadable:
            raise typer.Exit(3)

    if to is not None:
        run(RemoteVisits(to, key_file, asked, every, told), None)
        return
    with Gallery.open(gallery) as opened:
        visits = Visits(opened, question, every=every, keep=enroll is not None)
        tell_unboxed(opened.embedder().frame, boxed=False)
        run(visits, opened)


def _enroll(opened: Gallery, name: str, visit: Visit) -> None:
    """Enroll the pictures of a visit. Raises SeveralSubjects where others were seen beside."""
    if not visit.alone:
        raise SeveralSubjects(
            "Others were seen beside, where one is needed.",
            "Nobody was enrolled.",
            "Let one come alone, and try again.",
        )
    done = opened.enroll(name, list(visit.pictures))
    if done.enrolled:
        note(f"Enrolled {describe.counted(len(done.enrolled), 'picture')} of {name!r}.")
    else:
        note(f"All pictures of this visit are enrolled already, as {name!r}.")


@contextlib.contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Let a service manager's SIGTERM end it as Ctrl-C does."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(visit: dict[str, Any], as_json: bool | None) -> None:
    """Print a visit: a line of JSON, or one to read."""
    if not for_a_person(as_json):
        typer.echo(as_line(visit))
        return
    who = visit["identity"] if visit["verdict"] == "match" else visit["verdict"]
    near = "" if visit["distance"] is None else f", distance {visit['distance']:.3f}"
    limit = "" if visit["threshold"] is None else f" of {visit['threshold']:.3f}"
    pictures = describe.counted(visit["frames"], "picture")
    typer.echo(
        printable(f"{visit['probe']}: {who}{near}{limit}, {pictures} in {visit['ended'] - visit['began']:.1f} s")
    )
