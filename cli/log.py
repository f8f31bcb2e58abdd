"""`sidx log`: keep answers on record."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from siamese_index import Gallery

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption
from .output import facts, note

EXAMPLE = "sidx log on -g people.gallery"


class LogState(StrEnum):
    on = "on"
    off = "off"
    clear = "clear"


def log(
    state: Annotated[LogState | None, typer.Argument(help="on, off or clear; default: say how it is.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Keep answers in the gallery, with each probe's vector and picture, so that they can be asked again."""
    with Gallery.open(gallery) as opened:
        wanted = None if state in (None, LogState.clear) else state is LogState.on
        on, answers = opened.log(wanted, clear=state is LogState.clear)
    facts({"log": on, "answers": answers}, as_json)
    if answers:
        note(f"Ask them again of another tower:  sidx replay --tower ID -g {gallery}")
