"""`sidx review`: whom nobody knew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery, Missing, describe
from siamese_index.files import refuse_to_replace, replace_file

from . import completion
from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, quoted
from .output import emit, note

EXAMPLE = "sidx review --page review.html -g people.gallery"


def review(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Groups, to say what they show.")] = None,
    name: Annotated[
        str | None, typer.Option("--is", help="They show this identity.", autocompletion=completion.identities)
    ] = None,
    stranger: Annotated[str | None, typer.Option("--stranger", metavar="NAME", help="They show this stranger.")] = None,
    ignore: Annotated[
        bool,
        typer.Option("--ignore", help="They show nobody we know: strangers that the threshold learns from."),
    ] = False,
    everyone: Annotated[bool, typer.Option("--all", help="All groups, with --ignore.")] = False,
    least: Annotated[int, typer.Option(help="Only groups of so many answers and more.", min=1)] = 1,
    page: Annotated[Path | None, typer.Option(help="Also write a page with the pictures.", readable=False)] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Group the unknown answers on record by whom they show, and name them or learn from them as strangers."""
    from siamese_index.analysis import review as reviewing

    told = (name is not None) + (stranger is not None) + ignore
    if told > 1 or (told == 1) != (bool(ids) or everyone) or (everyone and (ids or not ignore)):
        raise BadInput("What they show is not told.", "Expected groups, and --is NAME, --stranger NAME or --ignore.")
    if page is not None:
        refuse_to_replace(page, "report")
    with Gallery.open(gallery) as opened:
        found = reviewing.review(opened, least)
        if not told:
            if page is not None:
                say = f"Name one: sidx review ID --is NAME -g {quoted(gallery)}. Nobody we know: --ignore."
                replace_file(page, reviewing.page(opened, found, say).encode(), "report")
                note(f"Look at it:  {page}")
            rows = [cluster.to_dict() for cluster in found.clusters]
            emit(rows, as_json, ["id", "count", "first", "last", "nearest", "distance"])
            left = f" {found.left_out:,} older ones, or of another tower, were left out." if found.left_out else ""
            note(f"{describe.counted(found.answers, 'unknown answer')} in {len(rows):,} groups.{left}")
            if rows and page is None:
                note(f"With their pictures:  sidx review --page FILE.html -g {quoted(gallery)}")
            if rows:
                note(f"Name one:  sidx review ID --is NAME -g {quoted(gallery)}")
                note(f"Nobody we know:  sidx review ID --ignore -g {quoted(gallery)}")
            return
        groups = [cluster.answers for cluster in found.clusters if everyone or cluster.id in (ids or [])]
        lost = next((i for i in ids or [] if all(i != cluster.id for cluster in found.clusters)), None)
        if lost is not None or not groups:
            raise Missing(f"There is no group {lost or ''}.".replace(" .", "."), remedy="See: sidx review")
        done = opened.curation.settle(groups, name or stranger, stranger=name is None)
    what = f"of {done.name}" if done.truth == "identity" else "of strangers"
    note(f"{describe.counted(sum(map(len, groups)), 'answer')}: {describe.counted(done.samples, 'new sample')} {what}.")
    changed = describe.change(done.before, done.after)
    if changed:
        note(changed)
    if done.named:
        note(f"{describe.counted(done.named, 'other answer')} on record that named nobody would name {done.name} now.")
    note(f"Take it back:  sidx undo -g {quoted(gallery)}")
