"""Changing who is enrolled: names, tags, removal. Each is one durable change."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import BadInput
from .samples.names import clean_name, clean_tags
from .session import Session


def rename(session: Session, name: str, new: str) -> None:
    """Give an identity another name. Raises Missing, or BadInput when `new` is taken."""
    new = clean_name(new)
    with session.changing("rename") as change:
        identity = change.store.known(name)
        if change.store.identity(new) is not None:
            raise BadInput(f"{new!r} is enrolled already.", remedy="Choose another name.")
        change.record(identity=identity)
        change.store.rename(identity, new)
        change.impostors.renamed(clean_name(name), new)


def tag(session: Session, name: str, tags: Mapping[str, str | None]) -> None:
    """Give an identity tags, in place of those with the same keys; None takes one away. Raises Missing or BadInput."""
    changes = clean_tags(tags)
    with session.changing("tag") as change:
        identity = change.store.known(name)
        change.record(identity=identity)
        change.store.tag([identity], changes)


def remove(session: Session, name: str) -> int:
    """Take an identity out of the gallery; return how many samples it had. Raises Missing."""
    with session.changing("remove") as change:
        identity, samples = change.store.known(name), len(change.store.samples(clean_name(name)))
        change.store.remove(identity, change.record(identity=identity, samples=samples))
        change.impostors.removed(identity)
    return samples


def log(session: Session, on: bool | None, clear: bool) -> tuple[bool, int]:
    """Switch the decision log on or off, or empty it; return whether it is on, and how many answers it holds."""
    if on is not None or clear:
        with session.changing("log") as change:
            change.record(on=on, cleared=clear)
            if on is not None:
                change.store.set_log(on)
            if clear:
                change.store.log.clear()
    with session.reading() as state:
        return state.settings.log, state.store.log.count()
