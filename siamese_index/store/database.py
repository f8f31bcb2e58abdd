"""What a database engine must do for a gallery. Imported for its types alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class Database(Protocol):
    """A database engine, as a gallery uses it. Statements have `?` for parameters."""

    among: str  # after a column: that it is one of many values, given as one parameter

    @property
    def in_use(self) -> bool:
        """Whether a transaction is open."""

    @property
    def path(self) -> Path | str:
        """Where it is: a file, or the address of a server, without a password."""

    def many(self, values: Collection[int] | Collection[str]) -> Any:
        """Return values as the parameter of `among`."""

    def vector(self, blob: bytes) -> Any:
        """Return the float32 numbers of a template as the parameter that a template's vector takes."""

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Run one statement; return its rows: fetchone, fetchmany, fetchall, or iterate."""

    def chunks(self, size: int, statement: str, parameters: Sequence[Any] = ()) -> Iterator[list[Any]]:
        """Yield the rows of one statement, `size` at a time: all may be more than memory holds."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None: ...

    def insert(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows, which may be many; `columns` are their names, after commas."""

    def reading(self) -> AbstractContextManager[None]:
        """One consistent state for everything that is read inside."""

    def writing(self, verb: str) -> AbstractContextManager[None]:
        """One transaction of the only writer, durable on leaving. Raises Locked when another does not finish."""

    def last(self, table: str) -> int:
        """Return the highest id of a table so far, about: it may have left some out."""

    def reserve(self, table: str, count: int) -> int:
        """Return the first of so many ids that no row ever had. The caller writes."""

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""

    def continue_ids(self) -> None:
        """Let new ids follow the highest that rows have, after rows were copied."""

    def understood(self) -> AbstractContextManager[None]:
        """Tell a gallery that contradicts itself from a mistake of ours, when something goes wrong inside."""

    def still(self) -> AbstractContextManager[Database]:
        """Yield the gallery as it is now, for a long look for which nobody waits."""

    def sweep(self, wait: float) -> None:
        """Write everything anew, so that nothing is left of what was deleted.

        Raises Locked when others hold it for so many seconds, Missing where it may not be done.
        """

    def problems(self) -> list[str]:
        """Return what the engine itself finds wrong."""

    def facts(self) -> dict[str, str]:
        """Return what a report of a problem should name."""

    def close(self) -> None: ...
