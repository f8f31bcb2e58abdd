"""`sidx import`: take in what another gallery, or another program, held."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from siamese_index import describe
from siamese_index.enrollment import Conflicts

from .enroll import opened_or_made
from .options import DEFAULT_GALLERY, ByFileNameOption, GalleryOption, JsonOption, quoted
from .output import emit, note, progress, tell_left_out, tell_suspects

EXAMPLE = "sidx import people.backup -g people.gallery"


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FROM",
            help="Export, gallery, dump (pg_dump) of CompreFace or DeepFace, or data as for enroll.",
        ),
    ],
    tower: Annotated[
        Path | None, typer.Option(help="Makes the gallery with this tower if there is none.", readable=False)
    ] = None,
    allow_conflict: Annotated[
        bool, typer.Option("--allow-conflict", help="Take samples in also if they look like another identity.")
    ] = False,
    by_file_name: ByFileNameOption = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Take in samples, strangers and tags; who has the same name is the same. Conflicts are listed, and refused.

    A folder of known people, BOB.jpg and ANN.jpg, is read by its file names. Vectors are kept where they are by the
    gallery's tower; else pictures are embedded. An empty gallery takes over target, fusion and strictness, too.
    """
    there = not isinstance(gallery, Path) or gallery.exists()
    with opened_or_made(gallery, tower, False) as opened:
        before, revision = opened.outlook(), opened.revision
        with progress("importing", 1) as tick:
            conflicts: Conflicts = "allow" if allow_conflict else "refuse when sure"
            done = opened.curation.take(source, conflicts=conflicts, by_file_name=by_file_name, progress=tick)
        after = opened.outlook()
        changes = sum(row.can_be_undone and row.revision > revision for row in opened.curation.history())
    samples, kept = done.samples, there or after.identities > 0
    rows = [
        {"identity": each.name, "sample": each.source, "code": each.code, "why": str(each.error).replace("\n", " ")}
        for each in samples.refused
    ]
    emit(rows, as_json, ["identity", "sample", "why"])
    note(
        f"{len(samples.enrolled)} enrolled, {len(samples.already)} already enrolled, {len(samples.refused)} refused;"
        f" {done.strangers} new of strangers, {describe.counted(done.tagged, 'identity')} tagged;"
        + (f" {gallery} holds {after.identities} identities." if kept else " No gallery was made.")
    )
    if done.settings and kept:
        note("The target, and how it is decided, were taken over.")
    tell_left_out(done.left_out)
    changed = describe.change(before, after)
    if changed:
        note(changed)
    tell_suspects([pair for pair in after.suspects if pair not in before.suspects])
    if samples.refused:
        raise typer.Exit(3)
    if changes:
        note(f"Take it back:  sidx undo{f' -n {changes}' if changes > 1 else ''} -g {quoted(gallery)}")
