"""`sidx recipes`: ways to train: list, show."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import JsonOption
from .output import emit, facts, note

commands = typer.Typer(help="Ways to train: list, show.", no_args_is_help=True)


@commands.command("list", epilog="Example:  sidx recipes list")
def list_recipes(as_json: JsonOption = None) -> None:
    """List the recipes that come with the program."""
    from siamese_index.training import recipe

    found = [recipe.named(name) for name in recipe.names()]
    emit(
        [{"recipe": r.name, "tower": r.tower["name"], "loss": r.loss["name"], "about": r.about} for r in found], as_json
    )
    note("Yours:  sidx recipes show drawings > mine.toml   and   sidx train DATA --recipe mine.toml -o mine.tower")


@commands.command("show", epilog="Example:  sidx recipes show photos")
def show_recipe(
    name: Annotated[str, typer.Argument(help="A recipe's name, or a .toml file.")], as_json: JsonOption = None
) -> None:
    """Print a recipe's file: copy it to make your own."""
    from siamese_index.training import recipe

    found = recipe.named(name)
    if as_json is not None:
        facts(found.to_dict(), as_json)
    else:
        typer.echo(recipe.path_of(name).read_text(encoding="utf-8"), nl=False)
