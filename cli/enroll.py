"""`sidx enroll`: enroll an identity, or many."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Gallery, TowerFile, describe
from siamese_index.enrollment import Conflicts
from siamese_index.files import drop_cache
from siamese_index.samples import sources

from . import completion
from .options import (
    DEFAULT_GALLERY,
    ByFileNameOption,
    GalleryOption,
    JsonOption,
    NewTagOption,
    Place,
    SplitsOption,
    pairs,
    pixels_of,
    quoted,
    tags,
)
from .output import emit, for_a_person, interrupted, note, progress, tell_left_out, tell_suspects, tell_unboxed

EXAMPLE = "sidx enroll ada ada.png -g people.gallery"
LISTED = 24  # samples that a person may want to read about; of more only those that were refused


def enroll(
    name: Annotated[
        str | None, typer.Argument(help="The identity's name.", autocompletion=completion.identities)
    ] = None,
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Its pictures, or folders of them.", readable=False)
    ] = None,
    data: Annotated[str | None, typer.Option("--from", help="Many at once: folder, .csv, .npz, .npy, keras:…")] = None,
    names: Annotated[
        Path | None,
        typer.Option(help="For an .npy in --from: whose each row is, a .csv with a column name.", readable=False),
    ] = None,
    by_file_name: ByFileNameOption = False,
    splits_apart: SplitsOption = False,
    tag: NewTagOption = None,
    tower: Annotated[
        Path | None, typer.Option(help="Makes the gallery with this tower if there is none.", readable=False)
    ] = None,
    allow_conflict: Annotated[
        bool, typer.Option("--allow-conflict", help="Enroll pictures also if they look like another identity.")
    ] = False,
    floor: Annotated[
        list[str] | None,
        typer.Option(help="The least quality, such as sharpness=0.3; also size, brightness, contrast. Repeatable."),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(help="Only this part of the picture: X,Y,WIDTH,HEIGHT. Of several faces, the one there."),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Embed on the workers of this Dask scheduler, such as tcp://host:8786.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of it.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Enroll an identity: NAME and its pictures, or everything in --from DATA."""
    if (data is None) == (name is None) or (name is not None and not pictures):
        raise BadInput("Enroll needs NAME and pictures, or --from DATA.", remedy="See: sidx enroll --help")
    least, told = _floor(floor), tags(tag)
    by_hand: Conflicts = "allow" if allow_conflict else "refuse"
    in_bulk: Conflicts = "allow" if allow_conflict else "refuse when sure"
    of_many = {"--dask": dask, "--names": names, "--by-file-name": by_file_name, "--splits-apart": splits_apart}
    option = next((option for option, value in of_many.items() if value), None)
    if box is not None and (data is not None or len(pictures or []) != 1):
        raise BadInput("--box is for one picture.", "Enroll each by itself.")
    if data is None and option is not None:
        raise BadInput(f"{option} is for many at once.", "It needs --from DATA.")
    with opened_or_made(gallery, tower, dry_run) as opened:
        before = opened.outlook()
        if name is not None:
            found = sources.samples(pictures or [])
            left_out = found.left_out
            part = None if box is None else pixels_of(box)
            done = opened.enroll(name, found, conflicts=by_hand, floor=least, dry_run=dry_run, tags=told, box=part)
        else:
            items = sources.items(data or "", names, by_file_name=by_file_name, splits_apart=splits_apart)
            left_out = items.left_out
            with progress("enrolling", len(items)) as tick, _told_when_interrupted(opened):
                done = opened.enroll_many(
                    items, tick, conflicts=in_bulk, floor=least, dry_run=dry_run, tags=told, dask=dask
                )
        after = done.outlook or opened.outlook()
        cut = box is not None or (found.boxed if name is not None else items.boxed)
        tell_unboxed(opened.embedder().frame, cut)
    verb = "would be enrolled" if dry_run else "enrolled"
    rows: list[dict[str, Any]] = [{"identity": n, "sample": s, "result": verb} for n, s in done.enrolled]
    rows += [{"identity": n, "sample": s, "result": "already enrolled"} for n, s in done.already]
    rows += [
        {
            "identity": r.name,
            "sample": r.source,
            "result": "refused",
            "code": r.code,
            "why": str(r.error).replace("\n", " "),
        }
        for r in done.refused
    ]
    shown = rows if len(rows) <= LISTED or not for_a_person(as_json) else rows[len(rows) - len(done.refused) :]
    emit(shown, as_json, ["identity", "sample", "result", *(["why"] if done.refused else [])])
    note(
        f"{len(done.enrolled)} {verb}, {len(done.already)} already enrolled, {len(done.refused)} refused;"
        f" {gallery} {'would hold' if dry_run else 'holds'} {after.identities} identities."
    )
    tell_left_out(left_out)
    changed = describe.change(before, after, dry_run)
    if changed:
        note(changed)
    tell_suspects([pair for pair in after.suspects if pair not in before.suspects])
    if done.refused:
        raise typer.Exit(3)
    note("Nothing was kept." if dry_run else f"Next:  sidx identify PROBE -g {quoted(gallery)}")


@contextlib.contextmanager
def _told_when_interrupted(gallery: Gallery) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        interrupted(f"\nInterrupted: {len(gallery.samples()):,} samples are enrolled. Repeat the command to go on.")
        raise typer.Exit(130) from None


@contextlib.contextmanager
def opened_or_made(gallery: Place, tower: Path | None, dry_run: bool) -> Iterator[Gallery]:
    """Open the gallery, or make it with the tower when there is none; a new one goes if nobody gets into it."""
    if tower is None or not isinstance(gallery, Path) or gallery.exists():
        with Gallery.open(gallery) as opened:
            if tower is not None:
                _refuse_other_tower(gallery, opened, tower)
            yield opened
        return
    kept = False
    try:
        with Gallery.create(gallery, tower) as made:
            yield made
            kept = bool(made.identities()) and not dry_run
    finally:
        if kept:
            note(f"Made {gallery}.")
        else:
            drop_cache(gallery)
            for part in (gallery, *(gallery.with_name(f"{gallery.name}{end}") for end in (".lock", "-journal"))):
                part.unlink(missing_ok=True)


def _refuse_other_tower(gallery: Place, opened: Gallery, tower: Path) -> None:
    """Raise BadInput when the gallery that is there has another tower than the one asked for."""
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
