"""The command line: parse, call the library, print, exit."""

from .app import run

__all__ = ["run"]
