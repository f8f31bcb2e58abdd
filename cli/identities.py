"""`sidx identities`: who is enrolled: list, show, rename, tag, remove."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery, describe

from . import completion
from .options import DEFAULT_GALLERY, GalleryOption, JsonOption
from .output import emit, note

commands = typer.Typer(help="Who is enrolled: list, show, rename, tag, remove.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="The identity's name.", autocompletion=completion.identities)]


@commands.command("list", epilog="Example:  sidx identities list -g people.gallery")
def list_identities(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """List who is enrolled, by name."""
    with Gallery.open(gallery) as opened:
        rows = [{"identity": row.name, "samples": row.samples, "tags": row.tags} for row in opened.identities()]
    emit(rows, as_json)
    note(f"{len(rows)} identities.")


@commands.command("show", epilog="Example:  sidx identities show bob --page bob.html -g people.gallery")
def show_identity(
    name: NameArgument,
    page: Annotated[
        Path | None, typer.Option(help="Also write a page with its pictures to this file.", readable=False)
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Show an identity's samples, how near they are to each other, and who else is near."""
    from siamese_index.analysis import glance
    from siamese_index.files import replace_file

    with Gallery.open(gallery) as opened:
        samples = glance.glance(opened, name)
        if page is not None:
            replace_file(page, glance.page(opened, samples).encode(), "report")
    rows = [sample.to_dict() for sample in samples]
    emit(rows, as_json, ["id", "source", "kept", "enrolled", "own", "other", "other_distance"])
    again = f"sidx identities show {shlex.quote(name)} --page FILE.html -g {gallery}"
    note(f"Look at it:  {page}" if page else f"With its pictures:  {again}")


@commands.command("rename", epilog="Example:  sidx identities rename bob robert -g people.gallery")
def rename_identity(
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Give an identity another name."""
    with Gallery.open(gallery) as opened:
        opened.rename(name, new)
    note(f"{name} is now {new}.")


@commands.command("tag", epilog="Example:  sidx identities tag bob site=north shift -g people.gallery")
def tag_identity(
    name: NameArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="TAGS", help="KEY=VALUE sets a tag, KEY alone takes it away.")
    ],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Give an identity tags, by which `identify --tag` searches."""
    given: dict[str, str | None] = {}
    for text in changes:
        key, sign, value = text.partition("=")
        if sign and not value.strip():
            raise BadInput(f"{text!r} has no value.", f"{key} alone takes the tag away.")
        if key in given:
            raise BadInput(f"The tag {key} is given twice.")
        given[key] = value if sign else None
    with Gallery.open(gallery) as opened:
        opened.tag(name, given)
    note(f"{name} is tagged.")


@commands.command("remove", epilog="Example:  sidx identities remove carol -g people.gallery")
def remove_identity(name: NameArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Take an identity out of the gallery. Its samples stay in the file, out of use."""
    with Gallery.open(gallery) as opened:
        count = opened.remove(name)
    note(f"{name} and its {describe.counted(count, 'sample')} are no longer found. They stay in the file.")
