"""`sidx keys`: who may use the service: add, list, revoke."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from siamese_index.server.keys import Keys, role_of

from .options import JsonOption, quoted
from .output import emit, note

commands = typer.Typer(help="Who may use the service: add, list, revoke.", no_args_is_help=True)
FileOption = Annotated[Path, typer.Option("--file", help="The file of keys.", readable=False)]
DEFAULT = Path("keys.json")


@commands.command("add", epilog="Example:  sidx keys add door --role ask --file keys.json")
def add(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    role: Annotated[str, typer.Option(help="ask, enroll (also changes), or admin (also deletes for good).")] = "ask",
    file: FileOption = DEFAULT,
) -> None:
    """Make a key, and print it: this once, since only its hash is stored."""
    key, secret = Keys(file).add(name, role_of(role))
    typer.echo(secret)
    note(
        f"Key {key.id} of {key.name}, role {key.role}. Send it in the header x-api-key. Revoke it:"
        f"  sidx keys revoke {key.id} --file {quoted(file)}"
    )


@commands.command("list", epilog="Example:  sidx keys list --file keys.json")
def list_keys(file: FileOption = DEFAULT, as_json: JsonOption = None) -> None:
    """List the keys, without what they are."""
    rows = [asdict(key) for key in Keys(file).all()]
    for row in rows:
        del row["sha256"]
    emit(rows, as_json, ["id", "name", "role", "created"])


@commands.command("revoke", epilog="Example:  sidx keys revoke 1a2b3c4d --file keys.json")
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, as `sidx keys list` shows it.")], file: FileOption = DEFAULT
) -> None:
    """Delete a key. A service that runs refuses it from then on."""
    gone = Keys(file).revoke(key)
    note(f"Key {gone.id} of {gone.name} is revoked.")
