"""`sidx undo`: take back the last changes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from siamese_index import Gallery, describe
from siamese_index.curation import words

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, YesOption, quoted
from .output import confirm, emit, note

EXAMPLE = "sidx undo --yes -g people.gallery"


def undo(
    count: Annotated[int, typer.Option("-n", help="How many changes, the newest first.", min=1)] = 1,
    redo: Annotated[bool, typer.Option("--redo", help="Take back the last undo instead.")] = False,
    yes: YesOption = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Take back the last change, or the last ones, one by one. An undo is a change too, and can be redone."""
    with Gallery.open(gallery) as opened:
        before = opened.outlook()
        if redo:
            taken = [opened.curation.redo()]
        else:
            coming = [row for row in opened.curation.history() if row.can_be_undone][:count]
            for row in coming:
                note(f"{row.revision}: {words.event(row)}")
            if coming:
                confirm("Undo this?" if len(coming) == 1 else f"Undo these {len(coming)} changes?", yes)
            taken = opened.curation.undo(count)
        changed = describe.change(before, opened.outlook())
    emit([{**asdict(row), "what": words.event(row)} for row in taken], as_json, ["revision", "what"])
    note(f"{'Holds again' if redo else 'Undone'}: {describe.counted(len(taken), 'change')}. {changed}".rstrip())
    if len(taken) < count:
        note(f"There was nothing more that can be undone:  sidx history -g {quoted(gallery)}")
    if not redo:
        note(f"Take the undo back:  sidx undo --redo -g {quoted(gallery)}")
