"""`sidx init`: make an empty gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery, describe

from .options import DEFAULT_GALLERY, GalleryOption, quoted
from .output import note

EXAMPLE = "sidx init --tower faces.tower -g people.gallery"


def init(
    gallery: GalleryOption = DEFAULT_GALLERY,
    tower: Annotated[
        Path | None, typer.Option(help="The tower that embeds this gallery's pictures.", readable=False)
    ] = None,
    dimension: Annotated[int | None, typer.Option(help="Instead: the length of vectors from elsewhere.")] = None,
    fpir: Annotated[float, typer.Option(help="Share of strangers that may be taken for somebody.")] = 0.01,
    node: Annotated[
        list[str] | None, typer.Option(help="On a server: another one for templates, postgresql://…; repeatable.")
    ] = None,
    keep_images: Annotated[bool, typer.Option(help="Keep pictures; without them no other tower can take over.")] = True,
) -> None:
    """Make an empty gallery."""
    if (tower is None) == (dimension is None):
        raise BadInput(
            "A gallery needs --tower FILE (or --dimension N for vectors from elsewhere).",
            remedy="Make a tower: sidx train DATA -o faces.tower",
        )
    if dimension is not None and not keep_images:
        raise BadInput("A gallery of vectors keeps no pictures anyway.", remedy="Leave --no-keep-images out.")
    with Gallery.create(
        gallery, tower, dimension=dimension, fpir=fpir, keep_pictures=keep_images, nodes=node or ()
    ) as made:
        strangers = sum(made.calibrate()[0].strangers.values())
    brings = f" Its tower brings {describe.counted(strangers, 'stranger')}; they count once somebody is enrolled."
    note(f"{gallery} is ready.{brings if strangers else ''}")
    note(f"Next:  sidx enroll NAME PICTURE -g {quoted(gallery)}")
