"""Samples that become somebody else's, are taken out, or come back. Each is one durable change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from siamese_index.errors import BadInput, Missing
from siamese_index.samples.names import clean_name
from siamese_index.session import Change, Session
from siamese_index.store.rows import SampleRow


@dataclass(frozen=True, slots=True)
class Moved:
    """What a change of samples did."""

    samples: int
    emptied: tuple[str, ...] = ()  # identities that have no sample any more, and are not enrolled now


def move(session: Session, samples: Sequence[int], name: str, new: bool = False) -> Moved:
    """Let samples be of the identity `name`, of one that is not enrolled yet if it is `new`. Raises Missing, BadInput.

    An identity that loses its last sample is removed.
    """
    name = clean_name(name)
    with session.changing("move") as change:
        rows = enrolled(change, samples)
        there = change.store.identity(name)
        if there is None and not new:
            raise Missing(
                f"{name!r} is not enrolled in {session.path}.",
                "Samples are moved to somebody who is.",
                "Check the name, or make a new identity of them: --new",
            )
        if new and there is not None:
            raise BadInput(f"{name!r} is enrolled already.", remedy="Move the samples there without --new.")
        rows = [row for row in rows if row.identity != name]
        if not rows:
            raise BadInput(f"These are samples of {name!r} already.", remedy="See: sidx samples list")
        event = change.record(samples=len(rows))
        to = change.store.add_identity(event, name) if there is None else there
        emptied = rearrange(change, dict.fromkeys((row.id for row in rows), to))
    return Moved(len(rows), emptied)


def remove(session: Session, samples: Sequence[int]) -> Moved:
    """Take samples out of use; they stay in the file until they are purged. Raises Missing.

    An identity that loses its last sample is removed.
    """
    with session.changing("remove samples") as change:
        rows = enrolled(change, samples)
        change.record(samples=len(rows))
        emptied = rearrange(change, set_aside(change, [row.id for row in rows]))
    return Moved(len(rows), emptied)


def restore(session: Session, samples: Sequence[int]) -> Moved:
    """Bring removed samples back to whom they were of, who is enrolled again if that was the last one.

    Raises Missing, or BadInput where that cannot be.
    """
    refuse_no_ids(samples)
    with session.changing("restore samples") as change:
        store = change.store
        of = store.removed.owners(samples)
        lost = next((sample for sample in samples if sample not in of), None)
        if lost is not None:
            raise Missing(f"There is no removed sample {lost}.", remedy="See: sidx samples list --removed")
        gone = {owner.identity: owner.name for owner in of.values() if not owner.enrolled}
        for identity, name in gone.items():
            if store.samples_of([identity]):
                raise BadInput(
                    f"{name!r}, whose sample it was, is not enrolled.", remedy="First: sidx identities restore NAME"
                )
            if store.identity(name) is not None:
                raise BadInput(
                    f"{name!r}, whose sample it was, is not enrolled; somebody else of that name is.",
                    remedy="Rename that one first: sidx identities rename",
                )
        change.record(samples=len(of))
        refuse_enrolled_again(change, list(of))
        embed_missing(change, list(of))
        rearrange(change, {sample: owner.identity for sample, owner in of.items()}, back=list(gone))
        change.impostors.renamed(*gone.values())
    return Moved(len(of))


def enrolled(change: Change, samples: Sequence[int]) -> list[SampleRow]:
    """Return the enrolled samples of these ids. Raises Missing, or BadInput when there is none or one twice."""
    refuse_no_ids(samples)
    found = {row.id: row for row in change.store.samples(ids=samples)}
    lost = next((sample for sample in samples if sample not in found), None)
    if lost is not None:
        raise Missing(f"There is no enrolled sample {lost}.", remedy="See: sidx samples list")
    return [found[sample] for sample in samples]


def refuse_no_ids(ids: Sequence[int]) -> None:
    """Raise BadInput unless these are ids, each once."""
    if not len(ids):
        raise BadInput("Nothing is named.", remedy="Ids of samples: sidx samples list")
    if any(isinstance(each, bool) or not isinstance(each, (int, np.integer)) for each in ids):
        raise BadInput("An id is no whole number.")
    if len(set(ids)) != len(ids):
        raise BadInput("An id is named twice.")


def embed_missing(change: Change, samples: Sequence[int]) -> None:
    """Embed by the active tower what only earlier ones have embedded. Raises BadInput where no picture was kept."""
    store, tower = change.store, change.state.active
    missing = store.templates.lacking(tower.id, samples)
    if any(picture is None for _, picture in missing) or (missing and not tower.has_network):
        raise BadInput(
            f"Sample {missing[0][0]} was enrolled by an earlier tower, and its picture was not kept.",
            "The active tower cannot embed it.",
            "Enroll it anew.",
        )
    if missing:
        vectors = change.session.embedder(tower).embed_samples(picture for _, picture in missing if picture is not None)
        store.templates.add(tower.id, [sample for sample, _ in missing], vectors)


def set_aside(change: Change, samples: Sequence[int]) -> dict[int, int]:
    """Return sample -> the identity that holds what was removed of its own one; made where there is none."""
    event, owners = change.store.events.current, change.store.templates.sample_identities(samples)
    holders = {owner: change.store.removed.holder(event, owner) for owner in sorted(set(owners.values()))}
    return {sample: holders[owner] for sample, owner in owners.items()}


def rearrange(change: Change, owners: Mapping[int, int], back: Collection[int] = ()) -> tuple[str, ...]:
    """Let samples (by id) be of other identities; those of the identities `back` are found again.

    Returns the names of identities that were left without a sample, which are removed.
    """
    store, event, tower = change.store, change.store.events.current, change.state.active
    before = store.templates.sample_identities(list(owners))
    moved = {sample: to for sample, to in owners.items() if before[sample] != to}
    store.events.change("sample.identity_id", moved)
    if back:
        store.set_removed(list(back), None)
    samples = sorted({*moved, *store.samples_of(back)})
    renewed = store.templates.renew(event, samples, tower.id, tower.dimension)
    empty = store.without_samples(sorted(set(before.values())))
    store.set_removed(list(empty), event)
    change.impostors.rearranged(renewed, sorted({*before.values(), *moved.values(), *back}))
    return tuple(empty.values())


def refuse_enrolled_again(change: Change, samples: Sequence[int]) -> None:
    """Raise BadInput if what is to come back was enrolled anew meanwhile."""
    digests = change.store.digests(samples)
    for digest, (_, name) in change.store.holders(list(digests.values())).items():
        sample = next(sample for sample, each in digests.items() if each == digest)
        raise BadInput(
            f"Sample {sample} is enrolled again meanwhile, as {name!r}.",
            "The same sample cannot be there twice.",
            "Leave it out, or remove that one first.",
        )
