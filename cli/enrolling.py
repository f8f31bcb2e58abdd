"""Commands on what is enrolled: enroll, identities, samples."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Gallery, Outlook, TowerFile
from siamese_index.enrollment import Conflicts
from siamese_index.samples import sources

from .app import DEFAULT_GALLERY, GalleryOption, JsonOption, Place, TagOption, app, pairs, tags
from .output import emit, note, percent, progress

identities = typer.Typer(help="Who is enrolled: list, show, rename, tag, remove.", no_args_is_help=True)
samples = typer.Typer(help="What is enrolled of them: list.", no_args_is_help=True)
app.add_typer(identities, name="identities")
app.add_typer(samples, name="samples")

LISTED = 1000  # samples that a person may want to read about
NameArgument = Annotated[str, typer.Argument(help="The identity's name.")]


@app.command(epilog="Example:  sidx enroll ada ada.png -g people.gallery")
def enroll(
    name: Annotated[str | None, typer.Argument(help="The identity's name.")] = None,
    pictures: Annotated[list[Path] | None, typer.Argument(help="Its pictures, or folders of them.")] = None,
    data: Annotated[str | None, typer.Option("--from", help="Many at once: folder, .csv, .npz, keras:NAME.")] = None,
    names: Annotated[
        Path | None, typer.Option(help="For an .npy in --from: whose each row is, a .csv with a column name.")
    ] = None,
    tag: TagOption = None,
    tower: Annotated[Path | None, typer.Option(help="Makes the gallery with this tower if there is none.")] = None,
    allow_conflict: Annotated[
        bool, typer.Option("--allow-conflict", help="Also what looks like another enrolled identity.")
    ] = False,
    floor: Annotated[
        list[str] | None,
        typer.Option(help="The least quality, such as sharpness=0.3; also size, brightness, contrast. Repeatable."),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Embed on the workers of this Dask scheduler, such as tcp://host:8786.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of it.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Enroll an identity: NAME and its pictures, or everything in --from DATA."""
    if (data is None) == (name is None) or (name is not None and not pictures):
        raise BadInput("Enroll needs NAME and pictures, or --from DATA.", remedy="See: sidx enroll --help")
    if tower is not None and isinstance(gallery, Path) and not gallery.exists():
        Gallery.create(gallery, tower).close()
        note(f"Made {gallery}.")
    elif tower is not None:
        _refuse_other_tower(gallery, tower)
    least, told = _floor(floor), tags(tag)
    by_hand: Conflicts = "allow" if allow_conflict else "refuse"
    in_bulk: Conflicts = "allow" if allow_conflict else "refuse when sure"
    if data is None and (dask is not None or names is not None):
        option = "--dask" if dask is not None else "--names"
        raise BadInput(f"{option} is for many at once.", "It needs --from DATA.")
    with Gallery.open(gallery) as opened:
        before = opened.outlook()
        if opened.holds_vectors and (dry_run or least or dask):
            raise BadInput("Vectors have no quality, no dry run, no workers.", remedy="Leave these options out.")
        if name is not None:
            done = opened.enroll(
                name, sources.samples(pictures or []), conflicts=by_hand, floor=least, dry_run=dry_run, tags=told
            )
        elif opened.holds_vectors:
            whose, vectors = sources.vectors(data or "", names)
            if whose is None:
                raise BadInput(
                    f"{data}: vectors without names.", remedy="Add --names FILE.csv, or save both in an .npz."
                )
            with progress("enrolling", len(whose)) as tick:
                done = opened.enroll_many_vectors(whose, vectors, tick, conflicts=in_bulk, tags=told)
        else:
            if names is not None:
                raise BadInput("--names is for vectors in an .npy.", "These samples have their names from --from.")
            items = sources.items(data or "")
            with progress("enrolling", len(items)) as tick:
                done = opened.enroll_many(
                    items, tick, conflicts=in_bulk, floor=least, dry_run=dry_run, tags=told, dask=dask
                )
        after = done.outlook or opened.outlook()
    verb = "would be enrolled" if dry_run else "enrolled"
    rows: list[dict[str, Any]] = [{"identity": n, "sample": s, "result": verb} for n, s in done.enrolled]
    rows += [{"identity": n, "sample": s, "result": "already enrolled"} for n, s in done.already]
    rows += [{"identity": None, "sample": r.source, "result": str(r.error).replace("\n", " ")} for r in done.refused]
    if len(rows) <= LISTED or as_json or not sys.stdout.isatty():
        emit(rows, as_json)
    note(
        f"{len(done.enrolled)} {verb}, {len(done.already)} were already, {len(done.refused)} refused;"
        f" {gallery} {'would hold' if dry_run else 'holds'} {after.identities} identities."
    )
    changed = _changed(before, after)
    if changed:
        note(changed)
    if done.refused:
        raise typer.Exit(3)
    note("Nothing was kept." if dry_run else f"Next:  sidx identify PICTURE -g {gallery}")


def _refuse_other_tower(gallery: Place, tower: Path) -> None:
    """Raise BadInput when the gallery that is there has another tower than the one asked for."""
    with Gallery.open(gallery) as opened:
        active, asked = opened.tower_record()[0].sha256, TowerFile.read(tower).id
    if asked != active:
        raise BadInput(
            f"{gallery} is there already, with the tower {active[:12]}, not {tower} ({asked[:12]}).",
            "--tower only makes a gallery.",
            "Leave it out to enroll with the gallery's own tower, or choose another gallery.",
        )


def _floor(given: list[str] | None) -> dict[str, float]:
    """Return measures and their least values. Raises BadInput."""
    floor = {}
    for measure, value in pairs(given, "--floor", "sharpness=0.3").items():
        try:
            floor[measure] = float(value)
        except ValueError:
            raise BadInput(f"--floor {measure}={value} is not a number.", "Such as sharpness=0.3.") from None
    return floor


def _changed(before: Outlook, after: Outlook) -> str:
    """Return how an enrollment moved the threshold and the misses, or nothing."""
    if before.threshold is None or after.threshold is None or before.threshold == after.threshold:
        return ""
    said = f"The threshold went from {before.threshold:.4g} to {after.threshold:.4g}"
    if after.mated:
        was, now = (percent(o.misses / o.mated if o.mated else None) for o in (before, after))
        said += f", FNIR from {was} to {now} ({after.misses} of {after.mated} mated searches)"
    return said + "."


app.command("enrol", hidden=True, epilog="Example:  sidx enrol ada ada.png -g people.gallery")(enroll)


@identities.command("list", epilog="Example:  sidx identities list -g people.gallery")
def list_identities(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """List who is enrolled, by name."""
    with Gallery.open(gallery) as opened:
        rows = [{"identity": row.name, "samples": row.samples, "tags": row.tags} for row in opened.identities()]
    emit(rows, as_json)
    note(f"{len(rows)} identities.")


@identities.command("show", epilog="Example:  sidx identities show bob -g people.gallery")
def show_identity(name: NameArgument, gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """Show one identity's samples."""
    _list_samples(gallery, name, as_json)


@identities.command("rename", epilog="Example:  sidx identities rename bob robert -g people.gallery")
def rename_identity(
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Give an identity another name."""
    with Gallery.open(gallery) as opened:
        opened.rename(name, new)
    note(f"{name} is now {new}.")


@identities.command("tag", epilog="Example:  sidx identities tag bob site=north shift -g people.gallery")
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


@identities.command("remove", epilog="Example:  sidx identities remove carol -g people.gallery")
def remove_identity(name: NameArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Take an identity out of the gallery. Its samples stay in the file, out of use."""
    with Gallery.open(gallery) as opened:
        count = opened.remove(name)
    note(f"{name} and its {count} samples are no longer found.")


@samples.command("list", epilog="Example:  sidx samples list -g people.gallery")
def list_samples(
    identity: Annotated[str | None, typer.Option(help="Only this identity's.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """List the enrolled samples in the order of their enrollment."""
    _list_samples(gallery, identity, as_json)


def _list_samples(gallery: Place, name: str | None, as_json: bool) -> None:
    with Gallery.open(gallery) as opened:
        rows = [asdict(row) for row in opened.samples(name)]
    emit(rows, as_json, ["id", "identity", "source", "kept", "enrolled"])
