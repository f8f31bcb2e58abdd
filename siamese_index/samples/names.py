"""Names of identities, and their tags: one way to write each."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from siamese_index.errors import BadInput

NAME_LIMIT = 255
Tags = Mapping[str, str] | None  # of identities: keys and values


def hashed_share(what: str, name: str) -> float:
    """Return a number from 0 to below 1 by a name, for one purpose: the same in every run, whoever else there is."""
    return int.from_bytes(hashlib.sha256(f"{what}/{name}".encode()).digest()[:8], "big") / 2**64


def clean_name(name: str, what: str = "name") -> str:
    """Return the name as it is stored: NFC, without spaces around it. `what` it is, for errors.

    Raises BadInput for an empty name, one of more than NAME_LIMIT characters, or one with line
    breaks or other control characters.
    """
    if not isinstance(name, str):
        raise BadInput(f"The {what} is not text: {str(name)[:60]}.", "Expected a string.")
    if name.isascii() and name.isprintable() and 0 < len(name.strip()) == len(name) <= NAME_LIMIT:
        return name  # most are: a million names take their time
    cleaned = unicodedata.normalize("NFC", name).strip()
    if all(unicodedata.category(c) in ("Cf", "Zs", "Mn") for c in cleaned):  # nothing that can be seen
        raise BadInput(f"The {what} is empty.", remedy=f"Give the {what}, or leave it out.")
    if len(cleaned) > NAME_LIMIT:
        raise BadInput(f"The {what} has {len(cleaned):,} characters.", f"At most {NAME_LIMIT} are kept.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in cleaned):
        raise BadInput(f"The {what} {cleaned!r} contains line breaks or control characters.")
    return cleaned


def cleaned(names: Sequence[str]) -> list[str]:
    """Return names as they are stored; those that cannot be are left as they are, for whoever takes them to refuse."""

    def one(name: str) -> str:
        try:
            return clean_name(name)
        except BadInput:
            return name

    return [one(name) for name in names]


def clean_tags(tags: Mapping[str, str | None] | None) -> tuple[tuple[str, Any], ...]:
    """Return tags as they are stored, by key; a value of None takes a tag away.

    Raises BadInput for a key or value that is empty or not text of one line, and for two of one key.
    """
    if tags is not None and not isinstance(tags, Mapping):
        raise BadInput(f"These are no tags: {str(tags)[:60]!r}.", "Expected keys with values.")
    found = [
        (clean_name(key, "tag"), None if value is None else clean_name(value, f"value of the tag {key!r}"))
        for key, value in (tags or {}).items()
    ]
    if len(dict(found)) < len(found):
        raise BadInput("A tag is given twice.", f"Found {', '.join(f'{k}={v}' for k, v in found)}.")
    return tuple(sorted(found))
