"""The program: which command is in which module, and what an error looks like."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from importlib import import_module
from typing import Annotated

import typer

from siamese_index import BadInput, SiameseIndexError, __version__
from siamese_index.files import refused

from . import completion, decoder_words
from .output import complain, interrupted

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
# In the order of the help. Each is a module of its own, imported when it is asked for: to import all of them takes
# longer than to identify.
COMMANDS = (
    "demo",
    "train",
    "init",
    "enroll",
    "identify",
    "watch",
    "serve",
    "keys",
    "verify",
    "calibrate",
    "capacity",
    "evaluate",
    "correct",
    "review",
    "log",
    "replay",
    "retrain",
    "towers",
    "recipes",
    "identities",
    "samples",
    "strangers",
    "history",
    "undo",
    "purge",
    "export",
    "import",
    "index",
    "settings",
    "glossary",
    "status",
    "doctor",
    "backup",
    "restore",
)
PIPE = 141  # nobody reads the output any more: as of a program that the signal SIGPIPE ends
ALIASES = {"enrol": "enroll"}
MODULES = {**ALIASES, "import": "import_"}  # of commands that are in a module of another name


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(epilog="Start here:  sidx demo      Words such as FPIR:  sidx glossary")
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only; also behind the command.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="<auto|cpu|cuda>",
            help="Where networks run; also behind the command. cuda wants onnxruntime-gpu.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Who or what is this? Enroll one picture per identity, then ask."""
    if device is not None:
        os.environ["SIDX_DEVICE"] = device  # also for the processes that are started
    del debug, quiet, version  # `run` and `output` look for them: they must also work when parsing fails


def register(wanted: str | None) -> None:
    """Import and add the command `wanted`; all commands when there is none of that name."""
    app.registered_commands.clear()
    app.registered_groups.clear()
    alone = [name for name in (*COMMANDS, *ALIASES) if name == wanted]
    for name in alone or (*COMMANDS, *ALIASES):
        module = import_module(f".{MODULES.get(name, name)}", __package__)
        if hasattr(module, "commands"):
            app.add_typer(module.commands, name=name)
        else:
            command = getattr(module, MODULES.get(name, name))
            example = module.EXAMPLE.replace(f"sidx {ALIASES.get(name, name)}", f"sidx {name}")
            app.command(name, epilog=f"Example:  {example}", hidden=name in ALIASES)(command)


def _refuse_empty(words: list[str]) -> None:
    """Raise BadInput for an empty argument: as a path it would be the working folder."""
    empty = next((word for word in words if not word.strip() or re.fullmatch(r"--[\w-]+=\s*", word)), None)
    if empty is not None:
        what = f"{empty[:-1]} has an empty value." if empty.strip() else "One of the arguments is empty."
        raise BadInput(what, "Most often a variable in a script is not set.", "Give it a value, or leave it out.")


def _in_order(words: list[str]) -> list[str]:
    """Return the words with -q in front, and with a gallery that stands before the command behind it."""
    end = words.index("--") if "--" in words else len(words)
    if "-q" in words[:end] or "--quiet" in words[:end]:
        words = [word for at, word in enumerate(words) if at >= end or word not in ("-q", "--quiet")]
        return ["--quiet", *_in_order(words)]
    device = next((i for i, word in enumerate(words[:end]) if re.match("--device(=|$)", word)), None)
    if device is not None:
        moved = words[device : device + (1 if "=" in words[device] else 2)]
        return [*moved, *_in_order(words[:device] + words[device + len(moved) :])]
    gallery = re.compile("-g|--gallery(=|$)")
    given: list[str] = []
    for at in (0, 1):  # before the command, or between a group and its command
        while len(words) > at and gallery.match(words[at]):
            taken = 2 if words[at] in ("-g", "--gallery") else 1
            given, words = words[at : at + taken], words[:at] + words[at + taken :]  # of two the later one counts
    end = words.index("--") if "--" in words else len(words)
    named = any(gallery.match(word) for word in words[:end])
    return words if named else [*words[:end], *given, *words[end:]]


def _command(words: list[str]) -> str | None:
    """Return the word that names the command, if there is one."""
    rest = iter(words)
    for word in rest:
        if word == "--device":
            next(rest, None)
        elif word not in ("--debug", "--quiet") and not word.startswith("--device="):
            return word
    return None


def run() -> None:
    """Be the program `sidx`. Exit codes: docs/exit-codes.md."""
    debug = "--debug" in sys.argv
    with contextlib.nullcontext() if debug else decoder_words.gathered():
        _run(debug)


def _run(debug: bool) -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot say is escaped, not lost
            stream.reconfigure(errors="backslashreplace")
    try:
        words = completion.asked()
        if words is None:
            _refuse_empty(sys.argv[1:])
            words = sys.argv[1:] = _in_order(sys.argv[1:])
        register(_command(words))
        app()
    except SiameseIndexError as error:
        if debug:
            raise
        complain(f"sidx: {error}")
        sys.exit(error.exit_code)
    except SystemExit as end:  # when nobody reads on, Typer puts a stream in place that is silent, and exits with 1
        if end.code == 130:
            interrupted()
        gone = end.code == 1 and type(sys.stdout).__name__ == "PacifyFlushWrapper"
        sys.exit(PIPE if gone else end.code)
    except KeyboardInterrupt:
        interrupted()
        sys.exit(130)  # here while importing; later Typer does the same
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        sys.exit(PIPE)
    except Exception as error:  # the last resort: a bug, told without a traceback
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EFBIG):
            complain(f"sidx: the output cannot be written.\n{error.strerror}.")
            with contextlib.suppress(OSError):  # else the interpreter complains at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(4)
        if isinstance(error, OSError) and error.filename is not None:  # of a file that nobody looked at before
            refusal = refused(os.fsdecode(error.filename), error, "used")
            complain(f"sidx: {refusal}")
            sys.exit(refusal.exit_code)
        complain(
            f"sidx: this is a bug: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n"
            "Nothing that was acknowledged is lost.\n"
            "Run it again with sidx --debug and report what that prints."
        )
        sys.exit(1)
