"""Commands on towers: train, retrain, towers."""

from __future__ import annotations

import contextlib
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Gallery

from .app import DEFAULT_GALLERY, GalleryOption, JsonOption, Place, app
from .output import emit, facts, note, percent, progress, table
from .telling import Teller, held_out

towers = typer.Typer(help="The gallery's towers: list, show, promote, rollback.", no_args_is_help=True)
app.add_typer(towers, name="towers")
recipes = typer.Typer(help="Ways to train: list, show.", no_args_is_help=True)
app.add_typer(recipes, name="recipes")


class Promote(StrEnum):
    auto = "auto"
    ask = "ask"
    never = "never"


StepsOption = Annotated[int | None, typer.Option(help="How many batches to learn from; default: from the data.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Chooses the held-out identities and all randomness.", min=0)]
TowerArgument = Annotated[str, typer.Argument(help="A tower's id, or the beginning of it.")]


@app.command(epilog="Example:  sidx train faces -o faces.tower --steps 20")
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder per identity, .csv (path,label or path_a,path_b,label), .npz, .npy, keras:NAME, "
            "tfds:NAME, or a gallery."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The tower file to write.")],
    recipe: Annotated[
        str | None, typer.Option(help="A name (sidx recipes list) or a .toml file; default: from the data.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Longer side in pixels; default: from the data.", min=8, max=1024)
    ] = None,
    dimension: Annotated[int | None, typer.Option(help="Length of the vectors.", min=2, max=4096)] = None,
    holdout: Annotated[float, typer.Option(help="Share of identities to measure with, unseen.", min=0, max=0.9)] = 0.2,
    fpir: Annotated[
        float, typer.Option(help="The share of strangers at which misses are counted.", min=0.0001, max=0.5)
    ] = 0.01,
    steps: StepsOption = None,
    time_budget: Annotated[str | None, typer.Option(help="As many steps as fit into it: 90s, 20m, 1.5h.")] = None,
    seed: SeedOption = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed training was.")] = False,
    no_cohort: Annotated[
        bool, typer.Option("--no-cohort", help="Leave the held-out identities' vectors out of the tower.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a tower on your pictures. Needs Keras: pip install "siamese-index[train-cpu]".

    Beside OUT, OUT's name with .training holds the checkpoint, the log and a report to look at. Ctrl-C
    keeps the best tower so far.
    """
    from siamese_index.training import look
    from siamese_index.training import train as train_tower

    if not out.parent.is_dir():
        raise BadInput(f"{out}: there is no folder {out.parent}.", remedy="Make it first.")
    budget = None if time_budget is None else _seconds(time_budget)
    look(data, recipe)  # what is wrong with the data or the recipe is said before Keras starts
    made = train_tower(
        data, Teller(), recipe=recipe, out=out, size=size, dimension=dimension, holdout=holdout, fpir=fpir, steps=steps,
        time_budget=budget, seed=seed, resume=resume, cohort=not no_cohort, tensorboard=tensorboard,
    )  # fmt: skip
    note(held_out(made.card["held_out"]))
    facts({"tower": made.id, "file": str(out), **made.card["held_out"]}, as_json)
    if made.card["training"]["ended"] == "interrupted":
        note(f"Interrupted: {out} is the best tower so far, of step {made.card['training']['kept_from_step']}.")
        raise typer.Exit(130)
    if "numbers" in made.card["input"]:
        note(f"Next:  sidx enroll --from VECTORS.npz --tower {out} -g people.gallery")
    else:
        note(f"Next:  sidx enroll NAME PICTURE --tower {out} -g people.gallery")


def _seconds(text: str) -> float:
    """Return the seconds of 90s, 20m, 1.5h or 600. Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if seconds < SHORTEST:
        raise BadInput(
            f"{text!r} is no time to train in.", f"Expected {SHORTEST:.0f}s or more, such as 90s, 20m or 1.5h."
        )
    return seconds


SHORTEST = 30.0  # starting Keras and exporting take half of it


@recipes.command("list", epilog="Example:  sidx recipes list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with the program."""
    from siamese_index.training import recipe

    found = [recipe.named(name) for name in recipe.names()]
    emit(
        [{"recipe": r.name, "tower": r.tower["name"], "loss": r.loss["name"], "about": r.about} for r in found], as_json
    )
    note("Yours:  sidx recipes show drawings > mine.toml   and   sidx train DATA --recipe mine.toml -o mine.tower")


@recipes.command("show", epilog="Example:  sidx recipes show photos")
def show_recipe(
    name: Annotated[str, typer.Argument(help="A recipe's name, or a .toml file.")], as_json: JsonOption = False
) -> None:
    """Print a recipe's file: copy it to make your own."""
    from siamese_index.training import recipe

    found = recipe.named(name)
    if as_json:
        facts(found.to_dict(), as_json)
    else:
        typer.echo(recipe.path_of(name).read_text(encoding="utf-8"), nl=False)


@app.command(epilog="Example:  sidx retrain -g people.gallery --data faces --steps 20")
def retrain(
    data: Annotated[str | None, typer.Option(help="More pictures to learn from, as for train.")] = None,
    recipe: Annotated[str | None, typer.Option(help="As for train; default: the active tower's own.")] = None,
    promote: Annotated[Promote, typer.Option(help="auto: swap it in when it is proved to be better.")] = Promote.ask,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Train a better tower from what is enrolled, and compare it with the active one."""
    from siamese_index.training import retrain as retrain_gallery

    result = retrain_gallery(gallery, data, Teller(), recipe=recipe, steps=steps, seed=seed)
    print_comparison(result.tower, result.report, as_json)
    wanted = promote is Promote.auto and result.better
    if promote is Promote.ask:
        with contextlib.suppress(typer.Abort):  # no answer is a no: the candidate is stored anyway
            wanted = sys.stdin.isatty() and typer.confirm("Swap it in?", default=result.better, err=True)
    if wanted:
        _promote(gallery, result.tower)
    else:
        note(f"It is stored as a candidate. Swap it in:  sidx towers promote {result.tower[:12]} -g {gallery}")


@towers.command("optimize", epilog="Example:  sidx towers optimize --data probes -g people.gallery")
def optimize(
    data: Annotated[str | None, typer.Option(help="More pictures to measure it with, as for train.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Make an 8-bit candidate of the active tower. It is kept only if it is faster here, and as good."""
    from siamese_index.training.optimizing import optimize as optimized

    result = optimized(gallery, data)
    print_comparison(result.tower, result.report, as_json)
    speed, size = result.report["speed"], result.report["size"]
    note(f"A batch takes {speed:.2f} times as long, and the tower {size:.2f} times the room.")
    if result.accepted:
        note(f"It is stored as a candidate. Swap it in:  sidx towers promote {result.tower[:12]} -g {gallery}")
    else:
        note(f"It is not kept: {result.why}.")
        raise typer.Exit(10)


def print_comparison(tower: str, report: dict[str, Any], as_json: bool) -> None:
    """Print a candidate's figures beside the active tower's."""
    if as_json or not sys.stdout.isatty():
        facts({"tower": tower, **report}, as_json)
    else:
        table(comparison(report))
    figures = report["challenger"]
    if figures["searches"]:
        note(
            f"{figures['searches']} searches by {figures['identities']} identities that the candidate never saw"
            f" ({report['champion_has_seen']} of them the active tower was trained on): {report['verdict']}."
        )
    else:
        note("No enrolled identity with two pictures was held out: the two cannot be compared.")


def comparison(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of a comparison for people; none when nothing could be compared."""
    rows = []
    for name in ("rank1", "fnir", "eer") if "fnir_change" in report else ():
        low, high = report.get(f"{name}_interval", (None, None))
        rows.append(
            {
                "figure": name,
                "active": percent(report["champion"][name]),
                "candidate": percent(report["challenger"][name]),
                "95 % interval of the change": "–" if low is None else f"{percent(low)} … {percent(high)}",
            }
        )
    return rows


@towers.command("list", epilog="Example:  sidx towers list -g people.gallery")
def list_towers(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """List the gallery's towers in the order they came."""
    with Gallery.open(gallery) as opened:
        rows = [
            {
                "tower": row.sha256[:12],
                "active": active,
                "made": row.card.get("made"),
                "identities": len(row.card.get("training", {}).get("identities", [])),
                "rank1": row.card.get("held_out", {}).get("rank1"),
                "fnir": row.card.get("held_out", {}).get("fnir"),
                "verdict": (row.report or {}).get("verdict"),
            }
            for row, active in opened.towers()
        ]
    emit(rows, as_json)


@towers.command("show", epilog="Example:  sidx towers show -g people.gallery")
def show_tower(
    tower: Annotated[
        str | None, typer.Argument(help="A tower's id, or its beginning; default: the active one.")
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Show a tower's card, and the figures it was judged by."""
    with Gallery.open(gallery) as opened:
        row, active = opened.tower_record(tower)
    facts({"tower": row.sha256, "active": active, **row.card, "comparison": row.report}, as_json)


@towers.command("promote", epilog="Example:  sidx towers promote CANDIDATE -g people.gallery")
def promote(tower: TowerArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Swap a candidate in. Searches go on with the active tower until one transaction switches."""
    _promote(gallery, tower)


def _promote(gallery: Place, tower: str) -> None:
    with Gallery.open(gallery) as opened, progress("embedding", len(opened.samples())) as tick:
        embedded = opened.promote(tower, tick)
    note(f"Tower {tower[:12]} is active; {embedded} samples were embedded.")
    note(f"If that was wrong:  sidx towers rollback -g {gallery}")


@towers.command("rollback", epilog="Example:  sidx towers rollback -g people.gallery")
def rollback(gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Go back to the tower before the active one. Nothing enrolled since is lost."""
    with Gallery.open(gallery) as opened, progress("embedding", len(opened.samples())) as tick:
        tower = opened.rollback(tick)
    note(f"Tower {tower[:12]} is active again.")
