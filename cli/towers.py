"""`sidx towers`: the towers of a gallery: list, show, promote, rollback, optimize."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from siamese_index import Gallery, describe

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, Place
from .output import AsJson, emit, facts, for_a_person, note, progress, table

commands = typer.Typer(help="The gallery's towers: list, show, promote, rollback, optimize.", no_args_is_help=True)
TowerArgument = Annotated[str, typer.Argument(help="A tower's id, or the beginning of it.")]


@commands.command("list", epilog="Example:  sidx towers list -g people.gallery")
def list_towers(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """List the gallery's towers in the order they came."""
    with Gallery.open(gallery) as opened:
        rows = [
            {
                "tower": row.sha256[:12],
                "active": active,
                "made": row.card.made or None,
                "identities": len(row.card.training.identities),
                "rank1": row.card.held_out.get("rank1"),
                "fnir": row.card.held_out.get("fnir"),
                "verdict": (row.report or {}).get("verdict"),
            }
            for row, active in opened.towers()
        ]
    emit(rows, as_json)


@commands.command("show", epilog="Example:  sidx towers show -g people.gallery")
def show_tower(
    tower: Annotated[
        str | None, typer.Argument(help="A tower's id, or its beginning; default: the active one.")
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Show a tower's card, and the figures it was judged by."""
    with Gallery.open(gallery) as opened:
        row, active = opened.tower_record(tower)
    if not for_a_person(as_json):
        facts({"tower": row.sha256, "active": active, **row.card.to_dict(), "comparison": row.report}, as_json)
        return
    training = row.card.training
    facts(
        {
            "tower": row.sha256,
            "active": active,
            "made": row.card.made or None,
            "input": row.card.input.to_dict(),
            "dimension": row.card.dimension,
            "recipe": (training.recipe or {}).get("name"),
            "learned_from": f"{len(training.identities):,} identities, {training.samples:,} samples",
            "held_out": f"{len(training.held_out):,} identities, {len(training.chose):,} of which chose the moment",
            "steps": f"{training.steps:,}, kept from step {training.kept_from_step:,}. {training.ended}",
            "parameters": training.parameters or None,
            "optimized": row.card.optimized,
        },
        as_json,
    )
    typer.echo(describe.held_out(row.card.held_out))
    if row.report and "challenger" in row.report:
        typer.echo(describe.compared(row.report))
    note("All that is known of it:  sidx towers show --json")


@commands.command("promote", epilog="Example:  sidx towers promote CANDIDATE -g people.gallery")
def promote(tower: TowerArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Swap a candidate in. Searches go on with the active tower until one transaction switches."""
    promote_tower(gallery, tower)


@commands.command("rollback", epilog="Example:  sidx towers rollback -g people.gallery")
def rollback(gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Go back to the tower before the active one. Nothing enrolled since is lost."""
    with Gallery.open(gallery) as opened, progress("embedding", len(opened.samples())) as tick:
        tower = opened.rollback(tick)
    note(f"Tower {tower[:12]} is active again.")


@commands.command("optimize", epilog="Example:  sidx towers optimize --data probes -g people.gallery")
def optimize(
    data: Annotated[str | None, typer.Option(help="More pictures to measure it with, as for train.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Make an 8-bit candidate of the active tower. It is kept only if it is faster here, and as good."""
    from siamese_index.training.quantize import optimize as optimized

    result = optimized(gallery, data)
    print_comparison(result.tower, result.comparison, as_json)
    speed, size = result.comparison["speed"], result.comparison["size"]
    note(f"A batch takes {speed:.2f} times as long, and the tower is {size:.2f} times as large.")
    if result.accepted:
        note(f"It is stored as a candidate. Swap it in:  sidx towers promote {result.tower[:12]} -g {gallery}")
    else:
        note(f"It is not kept: {result.why}.")
        raise typer.Exit(10)


def print_comparison(tower: str, report: dict[str, Any], as_json: AsJson) -> None:
    """Print a candidate's figures beside the active tower's."""
    if not for_a_person(as_json):
        facts({"tower": tower, **report}, as_json)
    else:
        table(describe.comparison(report))
    note(describe.compared(report))


def promote_tower(gallery: Place, tower: str) -> None:
    with Gallery.open(gallery) as opened, progress("embedding", len(opened.samples())) as tick:
        embedded = opened.promote(tower, tick)
    note(f"Tower {tower[:12]} is active; {embedded} samples were embedded.")
    note(f"If that was wrong:  sidx towers rollback -g {gallery}")
