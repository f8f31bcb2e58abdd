"""`sidx replay`: ask logged answers again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from siamese_index import Gallery

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption
from .output import emit, note

EXAMPLE = "sidx replay -g people.gallery"


def replay(
    tower: Annotated[
        str | None, typer.Option(help="A candidate's id, or its beginning; default: the active one.")
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Ask every logged answer again, and list those that would differ. Nothing is changed."""
    with Gallery.open(gallery) as opened:
        result = opened.replay(tower)
    emit(
        [asdict(flip) for flip in result.flips],
        as_json,
        ["probe", "verdict", "identity", "new_verdict", "new_identity"],
    )
    asked = result.answers - result.skipped
    note(f"{len(result.flips)} of {asked} answers would be others with tower {result.tower[:12]}.")
    if result.skipped:
        note(f"{result.skipped} could not be asked again: another tower's vectors, without their pictures.")
