"""Changing who is enrolled: names, tags, removal, two that are one, one that is two. Each is one durable change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from siamese_index.errors import BadInput, Missing
from siamese_index.samples.names import clean_name, clean_tags
from siamese_index.session import Change, Session
from siamese_index.store.rows import StrangerRow
from siamese_index.thresholds.strangers import compare

from .samples import embed_missing, enrolled, rearrange, refuse_enrolled_again


def rename(session: Session, name: str, new: str, merge_into: bool = False) -> None:
    """Give an identity another name. Raises Missing, or BadInput when `new` is taken and is not to be merged with."""
    new = clean_name(new)
    if merge_into and session.store.identity(new) not in (None, session.store.identity(clean_name(name))):
        merge(session, name, new)
        return
    with session.changing("rename") as change:
        identity = change.store.known(name)
        if change.store.identity(new) is not None:
            raise BadInput(
                f"{new!r} is enrolled already.", remedy="Choose another name. If they are one: sidx identities merge"
            )
        change.record(identity=identity)
        change.store.rename(identity, new)
        change.impostors.renamed(clean_name(name), new)


def tag(session: Session, name: str, tags: Mapping[str, str | None]) -> None:
    """Give an identity tags, in place of those with the same keys; None takes one away. Raises Missing or BadInput."""
    changes = clean_tags(tags)
    with session.changing("tag") as change:
        identity = change.store.known(name)
        there = change.store.tags().get(identity, {})
        if any(there.get(key) != value for key, value in changes):
            change.record(identity=identity)
            change.store.tag([identity], changes)


def remove(session: Session, name: str) -> int:
    """Take an identity out of the gallery; return how many samples it had. Raises Missing."""
    with session.changing("remove") as change:
        identity, samples = change.store.known(name), len(change.store.samples(clean_name(name)))
        change.store.set_removed([identity], change.record(identity=identity, samples=samples))
        change.impostors.removed(identity)
    return samples


def merge(session: Session, name: str, into: str) -> int:
    """Make two identities one: the samples of `name` become those of `into`; return how many. Raises Missing, BadInput.

    So do the tags that `into` has not.
    """
    with session.changing("merge") as change:
        identity, to = change.store.known(name), change.store.known(into)
        if identity == to:
            raise BadInput(f"{clean_name(name)!r} cannot be merged with itself.")
        change.record(identity=identity, into=to)
        return merge_two(change, identity, to)


def merge_two(change: Change, identity: int, to: int) -> int:
    """As `merge`, by ids, inside a change that has its event."""
    samples = change.store.samples_of([identity])
    tags = change.store.tags()
    change.store.tag([to], sorted((tags.get(identity, {}) | tags.get(to, {})).items()))
    rearrange(change, dict.fromkeys(samples, to))
    change.store.events.change("identity.removed_from", {identity: to})  # what was removed of it belongs there, too
    return len(samples)


def split(session: Session, name: str, new: str, samples: Sequence[int]) -> int:
    """Make a new identity of some of the samples of `name`; return how many. Raises Missing, or BadInput."""
    new = clean_name(new)
    with session.changing("split") as change:
        identity, rows = change.store.known(name), enrolled(change, samples)
        other = next((row for row in rows if row.identity != clean_name(name)), None)
        if other is not None:
            raise BadInput(f"Sample {other.id} is of {other.identity!r}, not of {clean_name(name)!r}.")
        if len(rows) == len(change.store.samples_of([identity])):
            raise BadInput("These are all its samples.", remedy="Give it another name: sidx identities rename")
        if change.store.identity(new) is not None:
            raise BadInput(f"{new!r} is enrolled already.", remedy="To move samples there: sidx samples move")
        event = change.record(identity=identity, samples=len(rows))
        rearrange(change, dict.fromkeys((row.id for row in rows), change.store.add_identity(event, new)))
    return len(rows)


def restore(session: Session, name: str, new: str | None = None) -> int:
    """Enroll an identity again that was removed, the last of this name; return how many samples it has.

    It gets the name `new`, if that is given. Raises Missing, or BadInput where that cannot be.
    """
    name, to = clean_name(name), clean_name(new or name)
    with session.changing("restore") as change:
        store = change.store
        identity = store.removed.identity(name)
        if identity is None:
            raise Missing(f"Nobody called {name!r} was removed.", remedy="See: sidx identities list --removed")
        if store.identity(to) is not None:
            raise BadInput(f"{to!r} is enrolled already.", remedy="Give it another name: --as NAME")
        change.record(identity=identity)
        refuse_enrolled_again(change, store.samples_of([identity]))
        store.rename(identity, to)
        embed_missing(change, store.samples_of([identity]))
        rearrange(change, {}, back=[identity])
        change.impostors.renamed(to)
        return len(store.samples_of([identity]))


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
        if removed:  # it is not searched any more
            state_of, nearest, distance = "removed", None, None
        found.append(StrangerRow(number, name, source, added, bool(kept), state_of, names.get(nearest), distance))
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
        if strict != change.state.settings.strict:
            change.record(strict=strict)
            change.store.set_strict(strict)


def log(session: Session, on: bool | None, clear: bool) -> tuple[bool, int]:
    """Switch the decision log on or off, or empty it; return whether it is on, and how many answers it holds."""
    if on is not None and not isinstance(on, bool):
        raise BadInput(f"The log cannot be {on!r}.", "Expected True or False.")
    if on is not None or clear:
        with session.changing("log") as change:
            if clear or on != change.state.settings.log:
                change.record(on=on, cleared=clear)
            if on is not None and on != change.state.settings.log:
                change.store.set_log(on)
            if clear:
                change.store.log.clear()
    with session.reading() as state:
        return state.settings.log, state.store.log.count()
