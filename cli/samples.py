"""`sidx samples`: what is enrolled of them: list, show, move, remove, restore, export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Gallery, describe

from . import completion
from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, PageOption, PictureOption, quoted
from .output import emit, note
from .terminal_pictures import show_pictures

commands = typer.Typer(help="The enrolled samples: list, show, move, remove, restore, export.", no_args_is_help=True)
IdsArgument = Annotated[
    list[int], typer.Argument(metavar="ID...", help="The id of a sample, as `sidx samples list` shows it.", min=1)
]


@commands.command("list", epilog="Example:  sidx samples list -g people.gallery")
def list_samples(
    identity: Annotated[
        str | None, typer.Option(help="Only this identity's.", autocompletion=completion.identities)
    ] = None,
    removed: Annotated[bool, typer.Option("--removed", help="Those that were removed, instead.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """List the enrolled samples in the order of their enrollment."""
    if removed and identity is not None:
        raise BadInput("--removed lists those of everybody.", remedy="Leave --identity out.")
    with Gallery.open(gallery) as opened:
        rows: list[dict[str, Any]]
        if removed:
            rows = [row._asdict() for row in opened.curation.removed()[1]]
        else:
            rows = [asdict(row) for row in opened.samples(identity)]
    emit(rows, as_json, ["id", "identity", "source", "kept", "enrolled"])


@commands.command("show", epilog="Example:  sidx samples show 3 4 --page samples.html -g people.gallery")
def show_samples(
    ids: IdsArgument,
    page: PageOption = None,
    picture: PictureOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Show samples: whose they are, how near their own and others are, and what they look like."""
    from siamese_index.analysis import glance

    with Gallery.open(gallery) as opened:
        found = glance.samples(opened, ids)
        emit(
            [sample.to_dict() for sample in found],
            as_json,
            ["id", "identity", "source", "kept", "enrolled", "own", "other", "other_distance"],
        )
        show_pictures(opened, found, page, picture, as_json)


@commands.command("move", epilog="Example:  sidx samples move 3 --to bob -g people.gallery")
def move_samples(
    ids: IdsArgument,
    to: Annotated[str, typer.Option(help="Whose they are to be.", autocompletion=completion.identities)],
    new: Annotated[bool, typer.Option("--new", help="It is somebody who is not enrolled yet.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Let samples be somebody else's. Who loses the last one is not enrolled any more."""
    _change(gallery, lambda opened: opened.curation.move(ids, to, new=new), f"{{}} now of {to}.")


@commands.command("remove", epilog="Example:  sidx samples remove 3 -g people.gallery")
def remove_samples(ids: IdsArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Take samples out of use. They stay in the file until they are purged."""
    _change(gallery, lambda opened: opened.curation.remove_samples(ids), "{} out of use.")


@commands.command("restore", epilog="Example:  sidx samples restore 3 -g people.gallery")
def restore_samples(ids: IdsArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Bring removed samples back to whom they were of."""
    _change(gallery, lambda opened: opened.curation.restore_samples(ids), "{} back in use.")


@commands.command("export", epilog="Example:  sidx samples export 3 4 --to folder -g people.gallery")
def export_samples(
    ids: IdsArgument,
    to: Annotated[Path, typer.Option(help="A folder, new or empty, or a file as for sidx export.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Write samples as `sidx export` does: a folder of pictures for each identity, and metadata.csv."""
    from .export import write

    write(gallery, to, True, ids)


def _change(gallery: Any, change: Callable[[Gallery], Any], said: str) -> None:
    """Make a change of samples, and say what it did."""
    with Gallery.open(gallery) as opened:
        before = opened.outlook()
        done = change(opened)
        changed = describe.change(before, opened.outlook())
    samples = describe.counted(done.samples, "sample")
    sentences = [said.format(f"{samples} {'is' if done.samples == 1 else 'are'}")]
    sentences += [f"{name} has no sample any more, and is not enrolled." for name in done.emptied]
    note(" ".join([*sentences, changed]).rstrip())
    note(f"Take it back:  sidx undo -g {quoted(gallery)}")
