"""`sidx verify`: say whether two samples are the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery, describe

from .completion import identities
from .options import DEFAULT_GALLERY, EXIT, GalleryOption, JsonOption
from .output import facts, note

EXAMPLE = "sidx verify ada.png probe.png -g people.gallery"


def verify(
    a: Annotated[Path, typer.Argument(help="A picture.", readable=False)],
    b: Annotated[Path | None, typer.Argument(help="Another one.", readable=False)] = None,
    name: Annotated[
        str | None,
        typer.Option("--as", help="Instead of another picture: an enrolled identity.", autocompletion=identities),
    ] = None,
    fmr: Annotated[float | None, typer.Option(help="Share of comparisons between strangers that may match.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Say whether two pictures, or a picture and an identity, are the same. Exit 0 match, 10 unknown."""
    if (b is None) == (name is None):
        raise BadInput("Verify needs a second picture or --as NAME.", remedy="See: sidx verify --help")
    with Gallery.open(gallery) as opened:
        answer = opened.verify_as(a, name, fmr=fmr) if name is not None else opened.verify(a, b or a, fmr=fmr)
    facts(asdict(answer), as_json)
    note(describe.verification(answer.evidence))
    raise typer.Exit(EXIT[answer.verdict])
