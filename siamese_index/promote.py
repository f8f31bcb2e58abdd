"""Towers come and go: a candidate is stored, embeds everything, and takes over in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siamese_index.thresholds import strangers

from .errors import BadInput, Missing
from .identify import Answering
from .samples.images import Progress
from .store.rows import TowerRow
from .store.store import Store
from .thresholds import statistics
from .towers.tower import Tower
from .towers.tower_file import TowerFile
from .vectors import Vectors

CHUNK = 1024  # samples that are embedded per transaction


def insert_tower(store: Store, event: int, content: TowerFile, report: dict[str, Any] | None) -> int:
    """Store a tower with its strangers; return its row id."""
    cohort = content.cohort
    table = statistics.false_match_table(cohort.vectors, cohort.names)
    row = store.add_tower(
        event, content.id, int(content.card["dimension"]), content.card, table, content.onnx, content.keras, report
    )
    rows = [(n, bytes.fromhex(d), None) for n, d in zip(cohort.names, cohort.digests, strict=True)]
    strangers.admit(store, event, row, "tower", rows, cohort.vectors)
    return row


def find_tower(store: Store, tower: str) -> TowerRow:
    """Return the tower whose id begins so. Raises Missing when it is none, or not one alone."""
    with store.reading():
        found = [row for row in store.towers() if row.sha256.startswith(tower.lower())] if tower else []
    if len(found) != 1:
        what = "is not in this gallery" if not found else f"is the beginning of {len(found)} towers"
        raise Missing(f"Tower {tower!r} {what}.", remedy="See them: sidx towers list")
    return found[0]


def switch(
    store: Store,
    answering: Answering,
    active: int,
    row: TowerRow,
    tower: Tower,
    back_to: int | None,
    progress: Progress | None,
) -> int:
    """Make `tower` active instead of the tower `active`; return how many samples it had to embed.

    Begins a new generation, or goes `back_to` one. Most samples are embedded before, in pieces, while
    others search and enroll; one transaction embeds the latest and switches.
    """
    embedded = 0
    while True:
        with store.reading():
            missing = store.without_template(row.id, CHUNK)
        if not missing:
            break
        vectors = _embed_kept(tower, missing)
        with store.writing("embed"):
            store.record("embed", tower=row.sha256, samples=len(missing))
            store.add_templates(row.id, [sample for sample, _ in missing], vectors)
        embedded += len(missing)
        if progress:
            progress(len(missing))
    verb = "promote" if back_to is None else "rollback"
    with store.writing(verb):
        answering.expect(active)
        event = store.record(verb, tower=row.sha256)
        late = store.without_template(row.id, -1)  # enrolled since the last look
        if late:
            store.add_templates(row.id, [sample for sample, _ in late], _embed_kept(tower, late))
        given = store.searches.to_embed(row.id)
        if given:
            store.searches.add(row.id, [stranger for stranger, _ in given], _embed_kept(tower, given))
        if back_to is None:
            store.begin_generation(event, row.id)
        else:
            store.activate(back_to)
        cohort = answering.cohort()
        cohort.catch_up(store.revision())
        cohort.recompute()
        cohort.seen()
    return embedded + len(late)


def _embed_kept(tower: Tower, kept: Sequence[tuple[int, bytes | None]]) -> Vectors:
    without = [sample for sample, picture in kept if picture is None]
    if without:
        raise BadInput(
            f"{len(without)} samples have no picture in this gallery (first: sample {without[0]}).",
            "Another tower cannot embed what was not kept.",
            "Enroll them again in a gallery that keeps pictures.",
        )
    return tower.embed_samples(picture for _, picture in kept if picture is not None)
