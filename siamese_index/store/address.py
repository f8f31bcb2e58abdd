"""What names a gallery: a file, or the address of a server, which is never shown with its password."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from siamese_index.files import path_of

if TYPE_CHECKING:
    pass


class Address(str):
    """The address of a server as it may be printed: without its password, which only `full` has."""

    full: str


def place_of(text: str | Path) -> Path | Address:
    """Return what names a gallery: the address of a PostgreSQL server, or a file."""
    if isinstance(text, Address):
        return text
    path_of(text)
    if not isinstance(text, str) or not text.startswith(("postgresql://", "postgres://")):
        return Path(text)
    before, at, after = text.partition("@")
    scheme, _, user = before.partition("://")
    shown, mark, options = (f"{scheme}://{user.partition(':')[0]}@{after}" if at else text).partition("?")
    options = "&".join(part for part in options.split("&") if not part.startswith("password="))
    address = Address(shown + (mark + options if options else ""))
    address.full = text
    return address
