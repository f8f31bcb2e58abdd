"""`sidx samples`: what is enrolled of them: list."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from siamese_index import Gallery

from . import completion
from .options import DEFAULT_GALLERY, GalleryOption, JsonOption
from .output import emit

commands = typer.Typer(help="The enrolled samples: list.", no_args_is_help=True)


@commands.command("list", epilog="Example:  sidx samples list -g people.gallery")
def list_samples(
    identity: Annotated[
        str | None, typer.Option(help="Only this identity's.", autocompletion=completion.identities)
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """List the enrolled samples in the order of their enrollment."""
    with Gallery.open(gallery) as opened:
        rows = [asdict(row) for row in opened.samples(identity)]
    emit(rows, as_json, ["id", "identity", "source", "kept", "enrolled"])
