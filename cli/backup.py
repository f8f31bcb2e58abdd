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
    without_removed: Annotated[
        bool, typer.Option("--without-removed", help="Leave out what was removed, and what was before.")
    ] = False,
    for_colleague: Annotated[
        bool,
        typer.Option("--for-colleague", help="Leave out pictures, answers on record and what was removed."),
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Write a complete copy of the gallery, also while it is in use."""
    with Gallery.open(gallery) as opened:
        opened.backup(file, removed=not (without_removed or for_colleague), pictures=not for_colleague)
        revision = opened.revision
    note(f"{file} holds {gallery} as of revision {revision}.")
