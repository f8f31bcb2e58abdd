"""`sidx correct`: an answer was wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from siamese_index import Gallery, describe
from siamese_index.files import path_of

from . import completion
from .options import DEFAULT_GALLERY, GalleryOption, quoted
from .output import note

EXAMPLE = "sidx correct probe.png --is bob -g people.gallery"


def correct(
    what: Annotated[str, typer.Argument(metavar="ANSWER-ID|PICTURE", help="An answer of sidx log list, or a picture.")],
    name: Annotated[
        str | None,
        typer.Option("--is", help="Whom it shows; it becomes a sample.", autocompletion=completion.identities),
    ] = None,
    stranger: Annotated[
        bool, typer.Option("--stranger", help="Nobody who is enrolled; the threshold learns from it.")
    ] = False,
    ignore: Annotated[
        bool,
        typer.Option("--ignore", help="The answer was wrong, and that is all: an example for the next retraining."),
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Say what an answer, or a picture, shows in truth. Exit 0 when that is taken in."""
    by_id = what.isdecimal() and not Path(what).exists()
    with Gallery.open(gallery) as opened:
        done = opened.curation.correct(int(what) if by_id else path_of(what), name, stranger=stranger, ignore=ignore)
    said = {"identity": f"It is a sample of {done.name} now.", "stranger": f"It is the stranger {done.name} now."}
    already = {"identity": f"It was a sample of {done.name} already.", "stranger": "It was a stranger already."}
    if done.truth == "ignored":
        note("Noted: sidx retrain learns that it was wrong.")
    else:
        note((said if done.samples else already)[done.truth])
    if done.new:
        note(f"{done.name} was not enrolled before.")
    changed = describe.change(done.before, done.after)
    if changed:
        note(changed)
    if done.named:
        note(f"{describe.counted(done.named, 'other answer')} on record that named nobody would name {done.name} now.")
    note(f"Take it back:  sidx undo -g {quoted(gallery)}")
