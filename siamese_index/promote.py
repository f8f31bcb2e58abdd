"""Towers come and go: a candidate is stored, embeds everything, and takes over in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from .errors import BadInput, Damaged, Locked, Missing
from .samples.images import Progress
from .session import Session
from .store.opening import creating
from .store.rows import NewSample, TowerRow
from .store.store import Store
from .store.tower_rows import NewTower
from .thresholds import statistics, strangers
from .thresholds.question import share
from .towers.card import Card
from .towers.embedding import Embedder
from .towers.tower_file import TowerFile
from .towers.tryout import try_out
from .towers.vector_embedder import VectorEmbedder
from .vectors import Vectors


class Told(TypedDict, total=False):
    """What a switch of embedders may be told beside."""

    report: dict[str, Any] | None  # what was measured
    given: tuple[Sequence[str], Vectors] | None  # strangers: names, and vectors by the new embedder
    progress: Progress | None


Mapped = Callable[[Vectors], Vectors]  # vectors (n, d) of the old embedder to (n, e) of the new one
CHUNK = 1024  # samples that are embedded per transaction


def new_gallery(
    path: str | Path,
    tower: TowerFile | str | Path | None,
    dimension: int | None,
    fpir: float,
    keep_pictures: bool,
    nodes: Sequence[str],
) -> None:
    """Make a gallery in its first generation: `Gallery.create`."""
    if (tower is None) == (dimension is None):
        raise BadInput("A gallery needs a tower, or the dimension of vectors from elsewhere.")
    if dimension is not None and not 1 <= dimension <= 65536:
        raise BadInput(f"{dimension} is no dimension.", "Expected 1 to 65,536.")
    content = _served(tower) if tower is not None else None
    with creating(path, share(fpir), keep_pictures, nodes) as store:
        event = store.record("init")
        if content is not None:
            row = insert_tower(store, event, content)
        else:
            row = store.towers.add(event, NewTower(f"vectors-{dimension}", Card.of_vectors(dimension or 0)))
        store.towers.begin_generation(event, row)


def _served(tower: TowerFile | str | Path) -> TowerFile:
    """Return a tower file, having seen its network embed: what cannot serve is not taken in."""
    content = TowerFile.read(tower) if isinstance(tower, (str, Path)) else tower
    try_out(content)
    return content


def add_tower(
    session: Session, tower: TowerFile | str | Path, report: dict[str, Any] | None, learned_at: int | None = None
) -> str:
    """Store a tower as an inactive candidate, with the figures it was judged by; return its id.

    `learned_at` is the revision of the gallery when it began to learn from it. Raises Locked after a purge since.
    """
    content = _served(tower)
    with session.changing("add tower") as change:
        if learned_at is not None and change.store.events.horizon() > learned_at:
            raise Locked(
                "Somebody was purged from the gallery while the tower was made.",
                "It may have learned from them, and is not stored.",
                "Run the same command again.",
            )
        if not change.state.active.has_network:
            raise BadInput(f"{session.store.path}: this gallery holds vectors; no tower can embed what they were of.")
        if all(row.sha256 != content.id for row in change.store.towers.all()):
            insert_tower(change.store, change.record(tower=content.id), content, report)
    return content.id


def tower_file(session: Session, row: TowerRow) -> TowerFile:
    """Return a stored tower as a tower file, without its strangers. Raises BadInput for one without a network."""
    if not row.has_network:
        raise BadInput(f"{session.store.path}: this gallery holds vectors; there is no tower to take out.")
    onnx, detector, keras = session.store.towers.network(row.id)
    return TowerFile(onnx, keras, row.card, detector=detector)


def insert_tower(store: Store, event: int, content: TowerFile, report: dict[str, Any] | None = None) -> int:
    """Store a tower with its strangers; return its row id. Call it inside a transaction."""
    again = store.towers.removed().get(content.id)
    if again is not None:  # its coming was undone
        store.towers.set_removed([again], None)
        return again
    cohort = content.cohort
    table, doubt = statistics.false_match_table(cohort.vectors, cohort.names)
    row = store.towers.add(
        event, NewTower(content.id, content.card, table, content.onnx, content.keras, content.detector, report)
    )
    store.towers.set_comparisons(row, doubt, statistics.mated_distances(cohort.vectors, cohort.names))
    held_out = zip(cohort.names, cohort.digests, strict=True)
    samples = [NewSample(name, bytes.fromhex(digest), "", None) for name, digest in held_out]
    strangers.admit(store, event, row, "tower", samples, cohort.vectors)
    return row


def find_tower(store: Store, tower: str) -> TowerRow:
    """Return the tower whose id begins so. Raises Missing when it is none, or not one alone."""
    with store.reading():
        found = [row for row in store.towers.all() if row.sha256.startswith(tower.lower())] if tower else []
    if len(found) != 1:
        what = "is not in this gallery" if not found else f"is the beginning of {len(found)} towers"
        raise Missing(f"Tower {tower!r} {what}.", remedy="See them: sidx towers list")
    return found[0]


def tower_record(session: Session, tower: str | None) -> tuple[TowerRow, bool]:
    """Return what is known of a tower (None: the active one), and whether it is active. Raises Missing."""
    active = session.active()
    row = active if tower is None else find_tower(session.store, tower)
    return row, row.id == active.id


def promote(session: Session, tower: str, progress: Progress | None = None) -> int:
    """Make a stored tower the active one, in a new generation; return how many samples it had to embed."""
    row, active = find_tower(session.store, tower), session.active()
    if row.id == active.id:
        raise BadInput(f"Tower {row.sha256[:12]} is the active one already.")
    return _switch(session, active.id, row, None, progress)


def switch(
    session: Session,
    to: TowerFile | int,
    mapped: Mapped,
    report: dict[str, Any] | None = None,
    given: tuple[Sequence[str], Vectors] | None = None,
    progress: Progress | None = None,
) -> str:
    """Make another embedder active: a tower, or one outside by the dimension of its vectors; return its id.

    What is enrolled without a picture gets the vectors that `mapped` makes of the active embedder's, as do strangers;
    unless others are `given`, with their names and vectors by the new embedder.
    """
    content = _served(to) if isinstance(to, TowerFile) else None
    active = session.active()
    with session.changing("switch") as change:
        if content is not None:
            there = {row.sha256: row.id for row in change.store.towers.all()}
            row = there.get(content.id) or insert_tower(change.store, change.record(tower=content.id), content, report)
        else:
            dimension = int(to) if isinstance(to, int) else 0
            name = f"vectors-{dimension}-{len(change.store.towers.all()) + len(change.store.towers.removed())}"
            made = NewTower(name, Card.of_vectors(dimension), report=report)
            row = change.store.towers.add(change.record(tower=name), made)
    with session.store.reading():
        new = session.store.towers.row(row)
    _switch(session, active.id, new, None, progress, mapped, given)
    return new.sha256


def rollback(session: Session, progress: Progress | None = None) -> str:
    """Go back to the generation before the active one; return its tower's id. Raises BadInput when there is none."""
    with session.reading() as state:
        generation = state.store.towers.active_generation()
        before = generation[1] if generation else None
        if before is None:
            raise BadInput("There is no earlier tower to go back to.", "This gallery has only had one tower.")
        row, active = state.store.towers.row(state.store.towers.generation_tower(before)), state.active.id
    _switch(session, active, row, before, progress)
    return row.sha256


def _switch(
    session: Session,
    active: int,
    row: TowerRow,
    back_to: int | None,
    progress: Progress | None,
    mapped: Mapped | None = None,
    given: tuple[Sequence[str], Vectors] | None = None,
) -> int:
    """Make the tower `row` active instead of the tower `active`; return how many samples it had to embed.

    Begins a new generation, or goes `back_to` one. Most samples are embedded before, in pieces, while
    others search and enroll; one transaction embeds the latest and switches.
    """
    embedder, store, embedded = session.opened(row), session.store, 0
    before = store.towers.row(active) if mapped is not None else None

    def vectors_of(kept: Sequence[tuple[int, bytes | None]]) -> Vectors:
        if mapped is None or before is None:
            return _embed_kept(embedder, kept)
        return _mapped_or_embedded(store, embedder, before, mapped, kept)

    while True:
        with store.reading():
            missing = store.templates.missing(row.id, CHUNK)
        if not missing:
            break
        vectors = vectors_of(missing)
        with session.changing("embed") as change:
            change.record(tower=row.sha256, samples=len(missing))
            store.templates.add(row.id, [sample for sample, _ in missing], vectors)
        embedded += len(missing)
        if progress:
            progress(len(missing))
    with session.changing("promote" if back_to is None else "rollback", active) as change:
        event = change.record(tower=row.sha256)
        late = store.templates.missing(row.id, -1)  # enrolled since the last look
        if late:
            store.templates.add(row.id, [sample for sample, _ in late], vectors_of(late))
        stored = store.impostors.to_embed(row.id)
        learned = row.card.training.has_learned_from(digest for _, _, digest in stored)
        fresh = [each[:2] for each in stored if each[2] not in learned]  # who was learned from is no stranger to it
        if fresh:
            store.impostors.add(row.id, [stranger for stranger, _ in fresh], _embed_kept(embedder, fresh))
        if mapped is not None and before is not None:
            if given is None:
                _map_strangers(store, before, row, mapped)
            else:
                samples = [
                    NewSample(n, hashlib.sha256(v.tobytes()).digest(), "", None) for n, v in zip(*given, strict=True)
                ]
                strangers.admit(store, event, row.id, "given", samples, given[1])
                strangers.compare(store, row.id, row.dimension)
        if back_to is None:
            store.towers.begin_generation(event, row.id)
        else:
            store.towers.activate(back_to)
        change.switched()
    return embedded + len(late)


def _mapped_or_embedded(
    store: Store, embedder: Embedder, before: TowerRow, mapped: Mapped, kept: Sequence[tuple[int, bytes | None]]
) -> Vectors:
    """Return the vectors of samples: of the picture where one was kept, else made of the old embedder's vector."""
    vectors = np.zeros((len(kept), embedder.dimension), np.float32)
    seen = np.array([picture is not None for _, picture in kept], np.bool_) & (not isinstance(embedder, VectorEmbedder))
    if seen.any():
        vectors[seen] = embedder.embed_samples(p for (_, p), s in zip(kept, seen.tolist(), strict=True) if s and p)
    ids = np.array([sample for sample, _ in kept], np.int64)[~seen]
    present, old = store.templates.of_samples(before.id, before.dimension, ids)
    if not present.all():
        raise Damaged(f"{store.path}: {int(np.sum(~present))} samples have no template of the active tower.")
    if len(ids):
        vectors[~seen] = mapped(old)
    return vectors


def _map_strangers(store: Store, before: TowerRow, row: TowerRow, mapped: Mapped) -> None:
    """Give the new embedder the strangers that it has not; those of the old tower's training where it brings none."""
    everyone = store.impostors.strangers(before.id, before.dimension)
    there = store.impostors.strangers(row.id, row.dimension)
    brings = "tower" in there.sources
    known = set(there.ids.tolist())
    wanted = [
        i
        for i, (stranger, source) in enumerate(zip(everyone.ids.tolist(), everyone.sources, strict=True))
        if stranger not in known and not (brings and source == "tower")
    ]
    if wanted:
        store.impostors.add(row.id, everyone.ids[wanted].tolist(), mapped(everyone.vectors[wanted]))
        strangers.compare(store, row.id, row.dimension)


def _embed_kept(embedder: Embedder, kept: Sequence[tuple[int, bytes | None]]) -> Vectors:
    without = [sample for sample, picture in kept if picture is None]
    if without:
        raise BadInput(
            f"{len(without)} samples have no picture in this gallery (first: sample {without[0]}).",
            "Another tower cannot embed what was not kept.",
            "Remove who was enrolled since, or go over by vectors of both: sidx towers switch --help",
        )
    return embedder.embed_samples(picture for _, picture in kept if picture is not None)
