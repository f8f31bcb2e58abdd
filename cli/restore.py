"""`sidx restore`: make a gallery what a backup is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from siamese_index import Gallery

from .options import DEFAULT_GALLERY, GalleryOption
from .output import note

EXAMPLE = "sidx restore people.backup -g people.gallery --replace"


def restore(
    file: Annotated[Path, typer.Argument(help="A file that backup made.", readable=False)],
    gallery: GalleryOption = DEFAULT_GALLERY,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an existing gallery; its old content is moved beside it.")
    ] = False,
) -> None:
    """Make the gallery what a backup is."""
    former = Gallery.restore(file, gallery, replace=replace)
    note(f"{gallery} is what {file} was." + (f" Its former content is in {former}." if former else ""))
