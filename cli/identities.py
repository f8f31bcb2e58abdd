"""`sidx identities`: who is enrolled: list, show, rename, tag, merge, split, remove, restore."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery, describe

from . import completion
from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, PageOption, PictureOption, Place, quoted
from .output import emit, note

commands = typer.Typer(
    help="Who is enrolled: list, show, rename, tag, merge, split, remove, restore.", no_args_is_help=True
)
NameArgument = Annotated[str, typer.Argument(help="The identity's name.", autocompletion=completion.identities)]


@commands.command("list", epilog="Example:  sidx identities list -g people.gallery")
def list_identities(
    removed: Annotated[bool, typer.Option("--removed", help="Those who were removed, instead.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """List who is enrolled, by name."""
    if removed:
        with Gallery.open(gallery) as opened:
            gone = opened.curation.removed()[0]
        emit([{"identity": row.name, "samples": row.samples, "removed": row.removed} for row in gone], as_json)
        note(f"Enroll one again:  sidx identities restore NAME -g {quoted(gallery)}" if gone else "Nobody was removed.")
        return
    with Gallery.open(gallery) as opened:
        rows = [{"identity": row.name, "samples": row.samples, "tags": row.tags} for row in opened.identities()]
    emit(rows, as_json)
    note(f"{len(rows)} identities.")


@commands.command("show", epilog="Example:  sidx identities show bob --page bob.html -g people.gallery")
def show_identity(
    name: NameArgument,
    page: PageOption = None,
    picture: PictureOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Show an identity's samples, how near they are to each other, and who else is near."""
    from siamese_index.analysis import glance

    from .terminal_pictures import show_pictures

    with Gallery.open(gallery) as opened:
        samples = glance.glance(opened, name)
        emit(
            [sample.to_dict() for sample in samples],
            as_json,
            ["id", "source", "kept", "enrolled", "own", "other", "other_distance"],
        )
        show_pictures(opened, samples, page, picture, as_json)
    if page is None:
        note(f"With its pictures:  sidx identities show {shlex.quote(name)} --page FILE.html -g {quoted(gallery)}")


@commands.command("rename", epilog="Example:  sidx identities rename bob robert -g people.gallery")
def rename_identity(
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="If the new name is somebody's already, make the two one.")
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Give an identity another name."""
    with _changing(gallery) as (opened, said):
        opened.rename(name, new, merge=merge)
        said.append(f"{name} is now {new}.")


@commands.command("merge", epilog="Example:  sidx identities merge carol bob -g people.gallery")
def merge_identities(
    name: NameArgument,
    into: Annotated[str, typer.Argument(help="Whose its samples are to be.", autocompletion=completion.identities)],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Make two identities one: all samples of the first become those of the second."""
    with _changing(gallery) as (opened, said):
        count = opened.curation.merge(name, into)
        said.append(f"{name} and its {describe.counted(count, 'sample')} are now {into}.")


@commands.command("split", epilog="Example:  sidx identities split bob robert 4 -g people.gallery")
def split_identity(
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="The name of the new identity.")],
    ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Its samples: ids of `sidx samples list`.", min=1)],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Make a new identity of some of the samples of another."""
    with _changing(gallery) as (opened, said):
        count = opened.curation.split(name, new, ids)
        said.append(f"{describe.counted(count, 'sample')} of {name} {'is' if count == 1 else 'are'} now {new}.")


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
    """Take an identity out of the gallery. Its samples stay in the file, out of use, until it is purged."""
    with _changing(gallery) as (opened, said):
        count = opened.remove(name)
        said.append(f"{name} and its {describe.counted(count, 'sample')} are no longer found. They stay in the file.")


@commands.command("restore", epilog="Example:  sidx identities restore carol -g people.gallery")
def restore_identity(
    name: Annotated[str, typer.Argument(help="The name of an identity that was removed.")],
    new: Annotated[str | None, typer.Option("--as", help="Enroll it under this name.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Enroll an identity again that was removed: the last of this name."""
    with _changing(gallery) as (opened, said):
        count = opened.curation.restore(name, new)
        said.append(f"{new or name} is enrolled again, with {describe.counted(count, 'sample')}.")


@contextlib.contextmanager
def _changing(gallery: Place) -> Iterator[tuple[Gallery, list[str]]]:
    """Yield an open gallery, and where to say what was done; what that did to the threshold is said, too."""
    said: list[str] = []
    with Gallery.open(gallery) as opened:
        before = opened.outlook()
        yield opened, said
        said.append(describe.change(before, opened.outlook()))
    note(" ".join(said).rstrip())
    note(f"Take it back:  sidx undo -g {quoted(gallery)}")
