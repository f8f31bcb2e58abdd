"""`sidx index`: the index, which is a cache: status, rebuild."""

from __future__ import annotations

from dataclasses import asdict

import typer

from siamese_index import Gallery

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption
from .output import facts, note, progress

commands = typer.Typer(help="What finds the nearest templates: status, rebuild.", no_args_is_help=True)


@commands.command("status", epilog="Example:  sidx index status -g people.gallery")
def status(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """Show how the nearest are found and why so, what that takes, and how often it finds what an exact search does."""
    with Gallery.open(gallery) as opened:
        found = opened.index_status()
    facts(asdict(found), as_json)
    if found.searches:
        note(
            "Answers are those of an exact search: an unsure coarse look is repeated exactly."
            if found.scanned_after_all is not None and "coarse" in found.kind
            else "Every search is exact."
        )


@commands.command("rebuild", epilog="Example:  sidx index rebuild -g people.gallery")
def rebuild(gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Write the cached index anew. It is never needed for right answers, only for fast ones."""
    with Gallery.open(gallery) as opened:
        count = sum(row.samples for row in opened.identities())
        with progress("reading templates", count) as tick:
            opened.rebuild_index(tick)
    note(f"The index holds {count:,} templates.")
