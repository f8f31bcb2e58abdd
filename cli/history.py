"""`sidx history`: what was changed in a gallery."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from siamese_index import Gallery
from siamese_index.curation import words

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, quoted
from .output import emit, note

EXAMPLE = "sidx history -g people.gallery"


def history(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many, the newest first; 0 for all.", min=0)] = 20,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """List what was changed, the newest first: what, to whom, and whether it was undone."""
    with Gallery.open(gallery) as opened:
        found = opened.curation.history(limit or None)
    rows = [{**asdict(row), "what": words.event(row)} for row in found]
    emit(rows, as_json, ["revision", "at", "what", "undone"])
    if any(row.can_be_undone for row in found):
        note(f"Undo the last:  sidx undo -g {quoted(gallery)}")
        note(f"As it was:  sidx identify FILE --as-of REVISION -g {quoted(gallery)}")
