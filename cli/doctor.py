"""`sidx doctor`: check a gallery, or what is enrolled in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery
from siamese_index.describe import percent

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, Place
from .output import AsJson, emit, facts, note, progress

EXAMPLE = "sidx doctor -g people.gallery"


def doctor(
    gallery: GalleryOption = DEFAULT_GALLERY,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be derived again.")] = False,
    content: Annotated[
        bool,
        typer.Option(
            "--content",
            help="Examine what is enrolled: wrong names, doubles, outliers, and who is often missed.",
        ),
    ] = False,
    as_json: JsonOption = None,
) -> None:
    """Check a gallery from its bytes to its threshold. Exit 6 when something is wrong.

    With --content: examine what is enrolled instead, each finding with how the error rates would
    move if it were corrected.
    """
    if content:
        if fix:
            raise BadInput(
                "--fix repairs what can be computed again.", "What --content finds is for you to judge.", "Give one."
            )
        _audit(gallery, as_json)
        return
    from siamese_index.analysis import doctor as checks

    found = checks.examine(gallery)
    if fix and any(finding.fixable for finding in found.findings):
        checks.fix(gallery)
        note(f"Fixed: {'; '.join(f.what for f in found.findings if f.fixable)}.")
        found = checks.examine(gallery)
    facts({"gallery": str(gallery), **found.facts, "problems": [f.what for f in found.findings]}, as_json)
    if found.findings:
        if any(finding.fixable for finding in found.findings):
            note(f"Fix what can be computed again:  sidx doctor --fix -g {gallery}")
        raise typer.Exit(6)
    note("Nothing is wrong.")


def _audit(gallery: Place, as_json: AsJson) -> None:
    with Gallery.open(gallery) as opened, progress("weighing findings", 60) as tick:
        found = opened.audit(tick)
    emit(
        [asdict(finding) for finding in found.findings],
        as_json,
        ["kind", "what", "remedy", "fnir_change", "fpir_change"],
    )
    if found.threshold is None:
        note("There is no threshold yet, so nothing can be judged: sidx calibrate --strangers FOLDER")
        return
    kinds = Counter(finding.kind for finding in found.findings)
    note("; ".join(f"{count} {kind}" for kind, count in kinds.items()) or "Nothing stands out.")
    note(
        f"At the threshold {found.threshold:.4g}: FNIR {percent(found.fnir)} of {found.mated} mated searches,"
        f" FPIR {percent(found.fpir)} of {found.strangers} searches with strangers. Each change says how FNIR and FPIR"
        " would move if this finding were corrected."
    )
