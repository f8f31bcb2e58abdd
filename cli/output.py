"""Results to stdout, all else to stderr: tables for a person, JSON (an object a line) or CSV for a program."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from siamese_index import BadInput

if TYPE_CHECKING:
    from siamese_index.thresholds.suspects import Suspicion

Row = Mapping[str, Any]
AsJson = bool | None  # True: JSON. False: CSV. None: a table for a person, JSON for a pipe
LISTED = 10  # pairs that a person may want to read about


def for_a_person(as_json: AsJson) -> bool:
    """Whether results are read by a person, at a terminal, who did not ask for JSON or CSV."""
    return as_json is None and sys.stdout.isatty()


def emit(rows: Iterable[Row], as_json: AsJson, columns: Sequence[str] | None = None) -> None:
    """Print result rows as they come; a table of `columns` for a person, whole objects otherwise."""
    if for_a_person(as_json):
        table([dict(row) for row in rows], columns)
    elif as_json is False:
        _csv(rows)
    else:
        for row in rows:
            typer.echo(as_line(row))
            sys.stdout.flush()


def _csv(rows: Iterable[Row]) -> None:
    """Print comma-separated values: the keys, of a list those of all rows; then each row. What is nested is JSON."""
    import csv

    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            keys = dict.fromkeys(key for each in (rows if isinstance(rows, list) else [row]) for key in each)
            writer = csv.DictWriter(sys.stdout, list(keys), extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
        nested = {key: as_line(value) for key, value in row.items() if isinstance(value, (Mapping, list, tuple))}
        told = {**row, **nested}
        if sys.stdout.isatty():
            told = {key: printable(value) if isinstance(value, str) else value for key, value in told.items()}
        writer.writerow(told)
        sys.stdout.flush()


def table(rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
    """Print aligned columns, text to the left, numbers to the right; what is wider than the terminal as facts."""
    if not rows:
        return
    names = list(columns or rows[0])
    cells = [[_text(row.get(name)) for name in names] for row in rows]
    widths = [max(_columns(name), *(_columns(line[i]) for line in cells)) for i, name in enumerate(names)]
    if sum(widths) + 2 * (len(widths) - 1) > shutil.get_terminal_size().columns:
        for row in rows:
            _facts({name: row.get(name) for name in names})
            typer.echo()
        return
    right = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in names]
    for line in [[name.replace("_", " ") for name in names], *cells]:
        spaces = [" " * (w - _columns(c)) for c, w in zip(line, widths, strict=True)]
        padded = [s + c if r else c + s for c, s, r in zip(line, spaces, right, strict=True)]
        typer.echo("  ".join(padded).rstrip())


def facts(pairs: Row, as_json: AsJson) -> None:
    """Print one object: a fact a line for a person."""
    if not for_a_person(as_json):
        emit([pairs], as_json)
    else:
        _facts(pairs)


def _facts(pairs: Row) -> None:
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def note(text: str) -> None:
    """Say something that is neither a result nor an error, unless nothing but these was asked for."""
    if not quiet():
        complain(text)


def complain(text: str) -> None:
    """Say what went wrong, also with --quiet."""
    typer.echo(printable(text), err=True)


_told: list[str] = []  # what was said of an interruption


def interrupted(text: str = "") -> None:
    """Say what became of an interrupted command, once: what the first who knows says."""
    if not _told:
        _told.append(text)
        complain(text or "\nInterrupted. Nothing that was acknowledged is lost.")


def confirm(question: str, yes: bool) -> None:
    """Ask before something is done, unless it was said already. Raises BadInput where there is nobody to ask."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadInput("This asks before it is done.", "There is no terminal to ask at.", "Add --yes.")
    try:
        if typer.confirm(question, default=False, err=True):
            return
    except typer.Abort:  # Ctrl-C, or the end of what is typed
        interrupted("\nNothing was changed.")
        raise typer.Exit(130) from None
    interrupted("Nothing was changed.")
    raise typer.Exit(130)


def quiet() -> bool:
    """Whether --quiet is among the words of the command line."""
    return "--quiet" in sys.argv


def as_line(row: Row | Sequence[Any]) -> str:
    """Return JSON in one line, in characters that standard output can carry."""
    return json.dumps(row, ensure_ascii="utf" not in (sys.stdout.encoding or "").lower())


def printable(text: str) -> str:
    """Return text without what a terminal would obey: file names may hold escape sequences."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def tell_left_out(sentences: Sequence[str]) -> None:
    """Say what of the data was not taken, and why."""
    for sentence in sentences:
        note(sentence)


def tell_unboxed(frame: str, boxed: bool) -> None:
    """Say that a tower which knows parts of pictures was given whole ones."""
    if frame == "box" and not boxed:
        note(
            "This tower learned from parts of pictures. If these are not cut out: --box, a table with boxes, or .json."
        )


def tell_suspects(suspects: Sequence[Suspicion]) -> None:
    """Say which searches were set aside, the nearest pairs first."""
    from siamese_index import describe

    for pair in suspects[:LISTED]:
        note(describe.suspicion(pair))
    if len(suspects) > LISTED:
        note(f"And {len(suspects) - LISTED} more such pairs: sidx calibrate --json")


@contextlib.contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Yield what to call with how many more are done: says how far it is, on work of over two seconds.

    At a terminal it is one line, updated in place, that goes when all is done; elsewhere a line every ten seconds.
    """
    began = time.monotonic()
    in_place = sys.stderr.isatty()
    done, told = 0, began

    def tick(more: int) -> None:
        nonlocal done, told
        done += more
        now = time.monotonic()
        if now - began > 2 and not quiet() and now - told > (0.2 if in_place else 10):
            told = now
            left = (now - began) / max(1, done) * (length - done)
            line = f"{label}: {done:,} of {length:,}, {left:.0f} s left"
            typer.echo(f"\r\x1b[K{shortened(line)}" if in_place else line, err=True, nl=not in_place)
        if in_place and told > began and done >= length:
            typer.echo("\r\x1b[K", err=True, nl=False)

    yield tick


def shortened(line: str) -> str:
    """Return a line, cut where it is longer than one line of the terminal."""
    limit = shutil.get_terminal_size().columns - 1
    if _columns(line) <= limit:
        return line
    while line and _columns(line) >= limit:
        line = line[:-1]
    return f"{line}…"


def _columns(text: str) -> int:
    """Return how many columns a terminal takes for a text: two for each Chinese character."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return printable(str(value)).replace("\n", " ")
