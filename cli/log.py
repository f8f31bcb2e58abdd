"""`sidx log`: keep answers on record."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from siamese_index import Gallery, describe

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, Place, YesOption, quoted
from .output import AsJson, confirm, emit, facts, note

EXAMPLE = "sidx log on -g people.gallery"


class LogState(StrEnum):
    on = "on"
    off = "off"
    clear = "clear"
    check = "check"
    list = "list"


def log(
    state: Annotated[
        LogState | None, typer.Argument(help="on, off, clear, check, or list; default: say how it is.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many to list, the newest first.", min=1)] = 20,
    yes: YesOption = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Keep answers in the gallery, with each probe's vector and picture, so that they can be asked again.

    `list` shows the last ones, with what each rests on.

    `check` compares those who asked with the strangers that the threshold was learned from. Exit 6 when they differ.
    """
    if state is LogState.check:
        _check(gallery, as_json)
        return
    if state is LogState.list:
        _list(gallery, limit, as_json)
        return
    if state is LogState.clear:
        confirm("Delete all answers on record for good?", yes)
    with Gallery.open(gallery) as opened:
        wanted = None if state in (None, LogState.clear) else state is LogState.on
        on, answers = opened.log(wanted, clear=state is LogState.clear)
    facts({"log": on, "answers": answers}, as_json)
    if answers:
        note(f"Ask them again of another tower:  sidx replay --tower ID -g {quoted(gallery)}")


def _list(gallery: Place, limit: int, as_json: AsJson) -> None:
    with Gallery.open(gallery) as opened:
        rows = [asdict(row) for row in opened.curation.answers(limit)]
    emit(rows, as_json, ["id", "at", "probe", "verdict", "identity", "distance", "threshold", "corrected"])
    note(
        f"One was wrong?  sidx correct ID --is NAME -g {quoted(gallery)}" if rows else "None is on record: sidx log on"
    )


def _check(gallery: Place, as_json: AsJson) -> None:
    from siamese_index.analysis.log_check import check_log

    with Gallery.open(gallery) as opened:
        found = check_log(opened)
    facts(asdict(found), as_json)
    note(describe.drift(found))
    if found.alarm:
        raise typer.Exit(6)
