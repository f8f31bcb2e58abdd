"""Commands on whole galleries: init, doctor, backup, restore."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery

from .app import DEFAULT_GALLERY, GalleryOption, JsonOption, Place, app
from .output import emit, facts, note, percent, progress


@app.command(epilog="Example:  sidx init --tower faces.tower -g people.gallery")
def init(
    gallery: GalleryOption = DEFAULT_GALLERY,
    tower: Annotated[Path | None, typer.Option(help="The tower that embeds this gallery's pictures.")] = None,
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
    with Gallery.create(
        gallery, tower, dimension=dimension, fpir=fpir, keep_pictures=keep_images, nodes=node or ()
    ) as made:
        searches = made.threshold().evidence.searches
    note(f"{gallery} is ready, with {searches} stranger searches from its tower.")
    note(f"Next:  sidx enroll NAME PICTURE -g {gallery}")


@app.command(epilog="Example:  sidx doctor -g people.gallery")
def doctor(
    gallery: GalleryOption = DEFAULT_GALLERY,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be derived again.")] = False,
    content: Annotated[
        bool, typer.Option("--content", help="Examine who is enrolled: mistaken, doubled, outliers, lambs and goats.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a gallery from its bytes to its threshold. Exit 6 when something is wrong.

    With --content: examine what is enrolled instead, each finding with what mending it would change.
    """
    if content:
        if fix:
            raise BadInput("--fix repairs what is derived.", "What --content finds is for you to judge.", "Give one.")
        _audit(gallery, as_json)
        return
    from siamese_index.analysis.doctor import examine, mend

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


def _audit(gallery: Place, as_json: bool) -> None:
    with Gallery.open(gallery) as opened, progress("weighing findings", 60) as tick:
        found = opened.audit(tick)
    emit(
        [asdict(finding) for finding in found.findings], as_json, ["kind", "what", "mend", "fnir_change", "fpir_change"]
    )
    if found.threshold is None:
        note("There is no threshold yet, so nothing can be judged: sidx calibrate --strangers DATA")
        return
    kinds = Counter(finding.kind for finding in found.findings)
    note("; ".join(f"{count} {kind}" for kind, count in kinds.items()) or "Nothing stands out.")
    note(
        f"At the threshold {found.threshold:.4g}: FNIR {percent(found.fnir)} of {found.mated} mated searches,"
        f" FPIR {percent(found.fpir)} of {found.strangers} strangers'. Changes are of these, if that one were mended."
    )


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
