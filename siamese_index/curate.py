"""Changing who is enrolled: names, tags, removal. Each is one durable change."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import BadInput, Missing
from .samples.names import clean_name, clean_tags
from .session import Session
from .store.rows import StrangerRow
from .thresholds.strangers import compare


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


def strangers(session: Session) -> list[StrangerRow]:
    """Return the strangers' samples by name, with whether each counts."""
    with session.reading() as state:
        names = state.store.identity_names()
        aside = {pair.first: pair.second for pair in state.suspects if pair.cause == "stranger who was enrolled"}
        rows = state.store.impostors.listed(state.active.id)
    found = []
    for number, name, source, added, kept, removed, own, nearest, distance in rows:
        state_of = f"enrolled as {names.get(own)}" if own is not None else "counts"
        if own is None and name in aside:
            state_of = f"looks like {aside[name]}: set aside"
        row = StrangerRow(
            number, name, source, added, kept, "removed" if removed else state_of, names.get(nearest), distance
        )
        found.append(row)
    return found


def set_stranger(session: Session, name: str, counts: bool) -> int:
    """Take all samples of a stranger out of every search, or bring them back; return how many. Raises Missing."""
    with session.changing("restore stranger" if counts else "remove stranger") as change:
        row = change.state.active
        ids = change.store.impostors.named(row.id, clean_name(name))
        if not ids:
            raise Missing(f"There is no stranger {name!r}.", remedy="See them: sidx strangers list")
        event = change.record(strangers=len(ids))
        change.store.impostors.set_removed(ids, None if counts else event)
        compare(change.store, row.id, row.dimension)
        change.impostors.recompute()
    return len(ids)


def set_strict(session: Session, strict: bool) -> None:
    """Make matches that their evidence does not support unknown, always or only where it is asked for."""
    with session.changing("strict") as change:
        change.record(strict=strict)
        change.store.set_strict(strict)


def log(session: Session, on: bool | None, clear: bool) -> tuple[bool, int]:
    """Switch the decision log on or off, or empty it; return whether it is on, and how many answers it holds."""
    if on is not None and not isinstance(on, bool):
        raise BadInput(f"The log cannot be {on!r}.", "Expected True or False.")
    if on is not None or clear:
        with session.changing("log") as change:
            change.record(on=on, cleared=clear)
            if on is not None:
                change.store.set_log(on)
            if clear:
                change.store.log.clear()
    with session.reading() as state:
        return state.settings.log, state.store.log.count()
