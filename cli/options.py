"""Options that commands share, and what their values mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput
from siamese_index.store.address import Address, place_of

Place = Path | Address  # of a gallery
DEFAULT_GALLERY = Path("main.gallery")
SHORTEST = 30.0  # seconds: starting Keras and exporting take half of it
EXIT = {"match": 0, "unknown": 10, "ambiguous": 11, "no_subject": 12}
WORST_FIRST = (3, 11, 10, 12, 4, 0)  # of several answers the first of these that there is is the exit code

GalleryOption = Annotated[
    Any,  # a Place
    typer.Option(
        "--gallery",
        "-g",
        envvar="SIDX_GALLERY",
        help="The gallery: a file, or postgresql://…",
        show_default=True,
        parser=place_of,
        metavar="PLACE",
    ),
]
JsonOption = Annotated[
    bool | None,  # AsJson
    typer.Option("--json/--csv", help="Print JSON, one object a line, or CSV; also at a terminal.", show_default=False),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Search only identities with this tag; repeatable.", metavar="KEY=VALUE"),
]
NewTagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Give the enrolled identities this tag; repeatable.", metavar="KEY=VALUE"),
]
ByFileNameOption = Annotated[
    bool,
    typer.Option("--by-file-name", help="A folder's file names say who it is, but a number at the end: bob-1.png."),
]
SplitsOption = Annotated[
    bool, typer.Option("--splits-apart", help="Take train/ada and val/ada for two identities, not for one.")
]
FpirOption = Annotated[
    float | None, typer.Option("--fpir", help="Share of strangers that may be taken for somebody (0..1).")
]
ThresholdOption = Annotated[
    float | None, typer.Option("--threshold", help="A distance (0..2) to use instead of the learned one.")
]
PageOption = Annotated[
    Path | None, typer.Option(help="Also write a page with the pictures to this file.", readable=False)
]
PictureOption = Annotated[Path | None, typer.Option(help="Also draw the pictures into this PNG.", readable=False)]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where there is no terminal.")]
StepsOption = Annotated[int | None, typer.Option(help="How many batches to learn from; default: from the data.", min=1)]
TimeBudgetOption = Annotated[str | None, typer.Option(help="As many steps as fit into it: 90s, 20m, 1.5h.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where a killed training was.")]
SeedOption = Annotated[int, typer.Option(help="Chooses the held-out identities and all randomness.", min=0)]


def pairs(given: list[str] | None, option: str, such_as: str) -> dict[str, str]:
    """Return keys and values of KEY=VALUE. Raises BadInput, also for two of one key."""
    found: dict[str, str] = {}
    for text in given or []:
        key, _, value = (part.strip() for part in text.partition("="))
        if not key or not value:
            raise BadInput(f"{option} {text!r} is not KEY=VALUE.", f"Such as {such_as}.")
        if key in found:
            raise BadInput(f"{option} {key} is given twice.", f"As {found[key]} and as {value}.")
        found[key] = value
    return found


def pixels_of(text: str) -> tuple[int, int, int, int]:
    """Return x, y, width and height of what --box gives. Raises BadInput."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise BadInput(f"--box {text!r} is no box.", "Expected X,Y,WIDTH,HEIGHT in pixels, such as 120,80,64,64.")
    x, y, width, height = map(int, parts)
    return x, y, width, height


def tags(given: list[str] | None) -> dict[str, str]:
    """Return what --tag gives. Raises BadInput."""
    return pairs(given, "--tag", "site=north")


def quoted(place: Place) -> str:
    """Return a gallery as one word of a command."""
    from shlex import quote

    return quote(str(place))


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter was written down, not left to its default or to the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def seconds(text: str) -> float:
    """Return the seconds of 90s, 20m, 1.5h or 600. Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if seconds < SHORTEST:
        raise BadInput(
            f"{text!r} is no time to train in.", f"Expected {SHORTEST:.0f}s or more, such as 90s, 20m or 1.5h."
        )
    return seconds
