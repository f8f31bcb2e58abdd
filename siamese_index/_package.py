"""What the package is: its version, and how its modules are loaded."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"


class Deferred:
    """A module of this package that is imported when something of it is first used.

    A command that needs none of it starts sooner.
    """

    def __init__(self, name: str) -> None:
        self._name = f"{__package__}.{name}"

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


def when_used(*names: str) -> list[Deferred]:
    """Return modules of this package by name, each imported when something of it is first used."""
    return [Deferred(name) for name in names]
