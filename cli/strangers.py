"""`sidx strangers`: those whom the threshold is learned from: list, show, remove, restore."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from siamese_index import Gallery, Missing, describe

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, quoted
from .output import emit, note

commands = typer.Typer(
    help="Those whom the threshold is learned from: list, show, remove, restore.", no_args_is_help=True
)
StrangerArgument = Annotated[str, typer.Argument(help="A stranger's name, as `sidx strangers list` shows it.")]


@commands.command("list", epilog="Example:  sidx strangers list -g people.gallery")
def list_strangers(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """List the strangers, a line each, with whether they count and whom they are nearest to."""
    with Gallery.open(gallery) as opened:
        rows = opened.strangers()
    by_name: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        line = by_name.setdefault(
            (row.name, row.state), {"stranger": row.name, "samples": 0, "source": row.source, "state": row.state}
        )
        line["samples"] += 1
        if row.distance is not None and row.distance < line.get("distance", 3.0):
            line |= {"nearest": row.nearest, "distance": round(row.distance, 4)}
    for line in by_name.values():
        line.setdefault("nearest", None)
        line.setdefault("distance", None)
    emit(by_name.values(), as_json, ["stranger", "samples", "source", "state", "nearest", "distance"])
    if not rows:
        note(f"There are none. Give some:  sidx calibrate --strangers FOLDER -g {quoted(gallery)}")


@commands.command("show", epilog="Example:  sidx strangers show STRANGER -g people.gallery")
def show_stranger(name: StrangerArgument, gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """Show every sample of a stranger."""
    with Gallery.open(gallery) as opened:
        rows = [asdict(row) for row in opened.strangers() if row.name == name]
    if not rows:
        raise Missing(f"There is no stranger {name!r}.", remedy="See them: sidx strangers list")
    emit(rows, as_json, ["id", "name", "source", "added", "kept", "state", "nearest", "distance"])


@commands.command("remove", epilog="Example:  sidx strangers remove STRANGER -g people.gallery")
def remove_stranger(name: StrangerArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Take a stranger out of what the threshold is learned from. Its samples stay in the file, out of use."""
    _set(gallery, name, counts=False)


@commands.command("restore", epilog="Example:  sidx strangers restore STRANGER -g people.gallery")
def restore_stranger(name: StrangerArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Let a stranger count again who was removed."""
    _set(gallery, name, counts=True)


def _set(gallery: Any, name: str, counts: bool) -> None:
    with Gallery.open(gallery) as opened:
        before = opened.outlook()
        samples = opened.set_stranger(name, counts)
        after = opened.outlook()
    verb = "count again" if counts else "no longer count"
    note(f"{name} and its {describe.counted(samples, 'sample')} {verb}.")
    changed = describe.change(before, after)
    if changed:
        note(changed)
