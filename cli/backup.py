"""`sidx backup`: write a complete copy of a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from siamese_index import Gallery

from .options import DEFAULT_GALLERY, GalleryOption
from .output import note

EXAMPLE = "sidx backup people.backup -g people.gallery"


def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes.", readable=False)],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Write a complete copy of the gallery, also while it is in use."""
    with Gallery.open(gallery) as opened:
        opened.backup(file)
        revision = opened.revision
    note(f"{file} holds {gallery} as of revision {revision}.")
