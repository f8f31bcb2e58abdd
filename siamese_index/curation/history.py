"""What was changed, and taking it back: the last changes one by one, or the whole gallery as it was at a revision."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from siamese_index.errors import BadInput, Missing, Outdated
from siamese_index.files import folder_beside
from siamese_index.session import Change, Session
from siamese_index.store.backup import backup
from siamese_index.store.event_rows import CORRECTION, TAG, TOWER, EventRow
from siamese_index.store.opening import connect
from siamese_index.store.past import go_back
from siamese_index.store.store import Store
from siamese_index.thresholds.strangers import compare

from .samples import rearrange, set_aside

UNDO, REDO = "undo", "redo"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One change of the gallery: what was done, to whom, and whether it still holds."""

    revision: int
    at: str  # UTC time, for people
    verb: str
    identities: tuple[str, ...]  # as they were called then; some, if it was many
    others: int  # how many more it was
    samples: int
    strangers: int
    of: int | None  # of an undo or redo: which revision
    undone: bool
    can_be_undone: bool


class _Course:
    """Events, and which of them hold: an undone one does not, until its undo is redone."""

    def __init__(self, events: list[EventRow]) -> None:
        self.events = events  # the newest first
        self.redone: set[int] = set()  # undos
        self.undone: set[int] = set()
        for event in events:
            if event.verb == REDO:
                self.redone.add(int(event.detail["of"]))
            elif event.verb == UNDO and event.id not in self.redone:
                self.undone.add(int(event.detail["of"]))

    def effective(self) -> Iterator[EventRow]:
        """Yield what holds, the newest first."""
        return (e for e in self.events if e.verb not in (UNDO, REDO) and e.id not in self.undone)

    def last_undo(self) -> EventRow | None:
        """Return the undo that can be redone: nothing else was changed since."""
        for event in self.events:
            if event.verb == UNDO and event.id not in self.redone:
                return event
            if event.verb not in (UNDO, REDO):
                return None
        return None


def undo(session: Session, count: int = 1, newest: int | None = None) -> list[HistoryRow]:
    """Take back the newest changes that hold, one by one, each as a change of its own; return them.

    Raises Missing when there is none to begin with, and Outdated when it is not `newest` (a revision).
    """
    if count < 1:
        raise BadInput(f"{count} changes cannot be undone.", "Expected 1 or more.")
    taken: list[int] = []
    for _ in range(count):
        with session.changing(UNDO) as change:
            event = next(_undoable(change.store), None)
            if event is None:
                if taken:
                    break  # nothing was changed
                raise Missing(
                    f"{session.path}: there is nothing to undo.",
                    "What was before a purge, or before this program's version, cannot be undone.",
                    "See: sidx history",
                )
            if newest not in (None, event.id) and not taken:
                raise Outdated(
                    f"{session.path}: the newest change is not revision {newest} any more, but {event.id}.",
                    remedy="See: sidx history",
                )
            change.record(of=event.id)
            _take_back(change, event.id)
            taken.append(event.id)
    rows = {row.revision: row for row in history(session)}
    return [rows[event] for event in taken]


def redo(session: Session) -> HistoryRow:
    """Take back the last undo; return the change that holds again. Raises Missing when there is none."""
    with session.changing(REDO) as change:
        course = _Course(change.store.events.all())
        last = course.last_undo()
        if last is None:
            raise Missing(
                f"{session.path}: there is nothing to redo.",
                "Only an undo after which nothing else was changed can be taken back.",
                "See: sidx history",
            )
        change.record(of=last.id)
        _take_back(change, last.id)
    return next(row for row in history(session) if row.revision == int(last.detail["of"]))


def _undoable(store: Store) -> Iterator[EventRow]:
    horizon, effect = store.events.horizon(), store.events.with_effect()
    for event in _Course(store.events.all()).effective():
        if event.id <= horizon or event.verb == "init":
            return
        if event.id in effect:
            yield event


def _take_back(change: Change, event: int) -> None:
    """Make what an event changed what it was before; what it added is out of use."""
    store, now = change.store, change.store.events.current
    former, created = store.events.former(event), store.events.created(event)
    was = {item: {f.row: f.value for f in former if f.item == item} for item in {f.item for f in former}}
    new = set(created["identity"])
    owners = was.pop("sample.identity_id", {})
    added = store.templates.sample_identities(created["sample"])
    owners |= set_aside(change, [sample for sample, identity in added.items() if identity not in new])
    going = {identity for identity, value in was.get("identity.removed", {}).items() if value is not None} | new
    coming = {identity for identity, value in was.pop("identity.removed", {}).items() if value is None}
    store.set_removed(sorted(going), now)
    for item in ("identity.name", "identity.removed_from"):
        store.events.change(item, was.pop(item, {}))
    strangers: dict[int, int | None] = dict.fromkeys(store.impostors.given(created["stranger"]), now)
    strangers |= {s: None if value is None else now for s, value in was.pop("stranger.removed", {}).items()}
    store.events.change("stranger.removed", strangers)
    for each in former:
        if each.item == TAG:
            store.tag([each.row], [(each.key, each.value)])
    store.towers.set_removed(created["tower"], now)
    for row, value in was.pop(TOWER, {}).items():
        store.towers.set_removed([row], None if value is None else now)
    store.log.set_corrections(was.pop(CORRECTION, {}))
    switched = "setting.generation_id" in was
    for item in [item for item in was if item.startswith("setting.")]:
        store.events.change(item, was[item])
    rearrange(change, owners, coming)
    tower = change.state.active
    if strangers:
        compare(store, tower.id, tower.dimension)
    if switched:
        change.switched()
    else:
        change.impostors.recompute()


# -- what was -------------------------------------------------------------------------------------


def history(session: Session, limit: int | None = None) -> list[HistoryRow]:
    """Return the changes of the gallery, the newest first."""
    with session.reading() as state:
        store = state.store
        course = _Course(store.events.all())
        undoable = {event.id for event in _undoable(store)}
        shown = course.events[:limit]
        names = store.events.names_at([event.id for event in shown])
        rows = []
        for event in shown:
            whom = names.get(event.id, [])
            of = event.detail.get("of")
            rows.append(
                HistoryRow(
                    event.id,
                    event.at,
                    event.verb,
                    tuple(whom[:3]),
                    max(0, len(whom) - 3),
                    int(event.detail.get("samples") or 0),
                    int(event.detail.get("strangers") or 0),
                    int(of) if of is not None else None,
                    event.id in course.undone or event.id in course.redone,
                    event.id in undoable,
                )
            )
    return rows


def private_folder(session: Session, what: str) -> contextlib.AbstractContextManager[Path]:
    """Return a folder for a copy: beside a file, where whoever opens that next sweeps what a kill left."""
    place = session.path if isinstance(session.path, Path) else Path(tempfile.gettempdir()) / "server.gallery"
    return folder_beside(place, f".{what}-{os.urandom(4).hex()}")


@contextlib.contextmanager
def past(session: Session, revision: int) -> Iterator[Path]:
    """Yield a copy of the gallery, in a folder of its own, as it was at a revision; it is deleted on leaving.

    Raises BadInput for a revision that never was, or that a purge ended.
    """
    with session.reading() as state:
        newest, oldest = state.revision[0], max(1, state.store.events.horizon())
    if not oldest <= revision <= newest:
        raise BadInput(
            f"{session.path}: it cannot be asked as of revision {revision}.",
            f"Its revisions are {oldest} to {newest}: what was before a purge, or by an older program, is not known.",
            "See: sidx history",
        )
    with private_folder(session, "past") as folder:
        path = folder / "past.gallery"
        backup(session.store, path)
        with contextlib.closing(Session(connect(path))) as copy, copy.store.writing("as of"):
            go_back(copy.store.database, revision)
            state = copy.state()
            searches = copy.impostors(state)
            searches.catch_up(state.revision)
            compare(copy.store, state.active.id, state.active.dimension)
            searches.recompute()
        yield path
