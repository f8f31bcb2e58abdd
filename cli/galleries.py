"""Commands on whole galleries: init, doctor, backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery

from .app import DEFAULT_GALLERY, GalleryOption, JsonOption, app
from .output import facts, note


@app.command(epilog="Example:  sidx init --tower faces.tower -g people.gallery")
def init(
    gallery: GalleryOption = DEFAULT_GALLERY,
    tower: Annotated[Path | None, typer.Option(help="The tower that embeds this gallery's pictures.")] = None,
    dimension: Annotated[int | None, typer.Option(help="Instead: the length of vectors from elsewhere.")] = None,
    fpir: Annotated[float, typer.Option(help="Share of strangers that may be taken for somebody.")] = 0.01,
    keep_images: Annotated[bool, typer.Option(help="Keep pictures; without them no other tower can take over.")] = True,
) -> None:
    """Make an empty gallery."""
    if (tower is None) == (dimension is None):
        raise BadInput(
            "A gallery needs --tower FILE (or --dimension N for vectors from elsewhere).",
            remedy="Make a tower: sidx train DATA -o faces.tower",
        )
    with Gallery.create(gallery, tower, dimension=dimension, fpir=fpir, keep_pictures=keep_images) as made:
        searches = made.threshold().evidence.searches
    note(f"{gallery} is ready, with {searches} stranger searches from its tower.")
    note(f"Next:  sidx enroll NAME PICTURE -g {gallery}")


@app.command(epilog="Example:  sidx doctor -g people.gallery")
def doctor(
    gallery: GalleryOption = DEFAULT_GALLERY,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be derived again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a gallery from its bytes to its threshold. Exit 6 when something is wrong."""
    from siamese_index.doctor import examine, mend

    found = examine(gallery)
    if fix and any(finding.mendable for finding in found.findings):
        mend(gallery)
        note(f"Mended: {'; '.join(f.what for f in found.findings if f.mendable)}.")
        found = examine(gallery)
    facts({"gallery": str(gallery), **found.facts, "problems": [f.what for f in found.findings]}, as_json)
    if found.findings:
        if any(finding.mendable for finding in found.findings):
            note(f"Mend what can be derived again:  sidx doctor --fix -g {gallery}")
        raise typer.Exit(6)
    note("Nothing is wrong.")


@app.command(epilog="Example:  sidx backup people.backup -g people.gallery")
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Write a complete copy of the gallery, also while it is in use."""
    with Gallery.open(gallery) as opened:
        opened.backup(file)
        revision = opened.revision
    note(f"{file} holds {gallery} as of revision {revision}.")


@app.command(epilog="Example:  sidx restore people.backup -g people.gallery --replace")
def restore(
    file: Annotated[Path, typer.Argument(help="A file that backup made.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    replace: Annotated[bool, typer.Option("--replace", help="Also over a gallery; its content is put beside.")] = False,
) -> None:
    """Make the gallery what a backup is."""
    former = Gallery.restore(file, gallery, replace=replace)
    note(f"{gallery} is what {file} was." + (f" Its former content is in {former}." if former else ""))
