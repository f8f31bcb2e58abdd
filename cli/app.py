"""The program: options that all commands share, and what an error looks like."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import __version__
from siamese_index.errors import BadInput, SiameseIndexError
from siamese_index.store.address import Address, place_of

Place = Path | Address  # of a gallery
GalleryOption = Annotated[
    Any,  # a Place
    typer.Option(
        "--gallery", "-g", envvar="SIDX_GALLERY", help="The gallery: a file, or postgresql://…", show_default=True,
        parser=place_of, metavar="PLACE",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, also at a terminal.")]
TagOption = Annotated[
    list[str] | None, typer.Option("--tag", help="KEY=VALUE; repeatable. Of identities.", metavar="KEY=VALUE")
]
FpirOption = Annotated[
    float | None, typer.Option("--fpir", help="Share of strangers that may be taken for somebody (0..1).")
]
DEFAULT_GALLERY = Path("main.gallery")


def pairs(given: list[str] | None, option: str, such_as: str) -> dict[str, str]:
    """Return keys and values of KEY=VALUE. Raises BadInput, also for two of one key."""
    found: dict[str, str] = {}
    for text in given or []:
        key, _, value = (part.strip() for part in text.partition("="))
        if not key or not value:
            raise BadInput(f"{option} {text!r} is not KEY=VALUE.", f"Such as {such_as}.")
        if key in found:
            raise BadInput(f"{option} {key} is given twice.", f"As {found[key]} and as {value}.")
        found[key] = value
    return found


def tags(given: list[str] | None) -> dict[str, str]:
    """Return what --tag gives. Raises BadInput."""
    return pairs(given, "--tag", "site=north")


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(epilog="Start here:  sidx demo")
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Who or what is this? Enroll one picture per identity, then ask."""
    del debug, version  # `run` looks for --debug: it must also work when parsing fails


# Which module registers which commands, in the order of the help. What is asked for is imported alone: to
# build all commands takes longer than to identify.
COMMANDS = {
    "asking": ("identify", "verify", "calibrate", "capacity"),
    "demo": ("demo",),
    "enrolling": ("enroll", "enrol", "identities", "samples"),
    "galleries": ("init", "doctor", "backup", "restore"),
    "indexing": ("index",),
    "measuring": ("evaluate", "log", "replay"),
    "towers": ("train", "retrain", "towers", "recipes"),
}


def register(wanted: str | None) -> None:
    """Import what has the command `wanted`; all commands when there is none of that name."""
    home = [module for module, commands in COMMANDS.items() if wanted in commands]
    for module in home or COMMANDS:
        import_module(f".{module}", __package__)
    if home:
        app.registered_commands[:] = [c for c in app.registered_commands if _name(c) == wanted]
        app.registered_groups[:] = [group for group in app.registered_groups if group.name == wanted]


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__)


def _refuse_empty(words: list[str]) -> None:
    """Raise BadInput for an empty argument: as a path it would be the working folder."""
    empty = next((word for word in words if not word.strip() or (word[:2] == "--" and word.endswith("="))), None)
    if empty is not None:
        what = f"{empty[:-1]} has an empty value." if empty.strip() else "One of the arguments is empty."
        raise BadInput(what, "Most often a variable in a script is not set.", "Give it a value, or leave it out.")


def run() -> None:
    """Be the program `sidx`. Exit codes: README."""
    debug = "--debug" in sys.argv
    try:
        _refuse_empty(sys.argv[1:])
        register(next((word for word in sys.argv[1:] if word != "--debug"), None))
        app()
    except SiameseIndexError as error:
        if debug:
            raise
        typer.echo(f"sidx: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)  # here while importing; later Typer does the same
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        sys.exit(1)
    except Exception as error:  # the last resort: a bug, told without a traceback
        if debug:
            raise
        typer.echo(
            f"sidx: this is a bug: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n"
            "Nothing that was acknowledged is lost.\n"
            "Run it again with sidx --debug and report what that prints.",
            err=True,
        )
        sys.exit(1)
