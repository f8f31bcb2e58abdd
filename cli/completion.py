"""What a shell offers at the Tab key: commands and options by Typer, and names of identities."""

from __future__ import annotations

import os
import re

import typer


def asked() -> list[str] | None:
    """Return the words behind the program's name that a shell wants completed; None when the program is run."""
    if not any(name.endswith("_COMPLETE") and name.startswith(("_SIDX", "_SIAMESE_INDEX")) for name in os.environ):
        return None
    return (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]


def identities(context: typer.Context, incomplete: str) -> list[str]:
    """Return the enrolled names that begin so; none where there is no gallery to look into."""
    from siamese_index import Gallery, SiameseIndexError  # only a Tab key needs them
    from siamese_index.store.address import place_of

    place = context.params.get("gallery") or os.environ.get("SIDX_GALLERY") or "main.gallery"
    try:
        with Gallery.open(place_of(place) if isinstance(place, str) else place) as opened:
            names = [row.name for row in opened.identities() if row.name.startswith(incomplete)]
    except SiameseIndexError:
        return []
    in_bash = any(value == "complete_bash" for value in os.environ.values())  # which puts names in as they are
    return [re.sub(r"([^\w.,:/-])", r"\\\1", name) for name in names] if in_bash else names
