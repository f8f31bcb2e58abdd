"""Forgetting: what is purged is nowhere in the gallery any more, nor beside it. It cannot be undone."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamese_index.describe import shell
from siamese_index.errors import BadInput, Missing
from siamese_index.samples.names import clean_name
from siamese_index.search.fusion import all_distances
from siamese_index.session import Change, Session
from siamese_index.store import backup
from siamese_index.store.opening import connect
from siamese_index.store.purge_rows import Purging, Whose
from siamese_index.store.rows import TowerRow
from siamese_index.store.store import PURGE
from siamese_index.store.template_rows import Renewed
from siamese_index.thresholds.strangers import compare

from .history import private_folder


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """A tower of the gallery that learned from somebody who was purged."""

    tower: str  # id
    active: bool
    samples: int  # of how many it is known, by their digests
    by_name: bool  # whether its card named them as those it learned from
    held_out: bool  # whether its card named them as those it was judged by

    @property
    def learned(self) -> bool:
        """Whether it learned from them, as far as is known."""
        return bool(self.samples or self.by_name)


@dataclass(frozen=True, slots=True)
class KnownBackup:
    """A copy that this gallery knows of, made before the purge: it may hold what was purged."""

    path: str
    revision: int | None  # None: what `restore` put aside
    exists: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a purge deleted, and what it could not reach. It is not stored: it names whom it was about."""

    names: tuple[str, ...]
    revision: int
    identities: int
    samples: int
    templates: int
    strangers: int
    answers: int
    towers: tuple[TrainedOn, ...]
    backups: tuple[KnownBackup, ...]
    retrain: str | None  # the command that trains a tower without them
    swept: bool  # whether the file was rewritten
    unswept: str | None  # why not; it is done when the gallery is next opened

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def purge(
    session: Session, names: Sequence[str] = (), strangers: bool = False, answers_before: str | None = None
) -> Receipt:
    """Delete everything of identities and strangers of these names, of all strangers, or of answers before a date.

    Pictures, vectors, names, tags, answers that name them or that lie within the threshold of them; free pages and
    caches too. Nothing earlier can be undone, nor asked. Raises Missing for a name that is nowhere, BadInput when
    nothing is named.
    """
    if isinstance(names, str):
        raise BadInput(f"names cannot be {names!r}.", "Expected a list of names.")
    wanted = tuple(dict.fromkeys(clean_name(name) for name in names))
    if not (wanted or strangers or answers_before is not None):
        raise BadInput("Nothing to purge is named.", remedy="Name identities, --strangers or --answers-before DATE.")
    since = None if answers_before is None else _moment(answers_before)
    with session.changing("purge") as change:
        rows = Purging(change.store.database, change.state.revision[0])
        if not wanted and not (strangers and rows.all_strangers()) and not (since and rows.answers_before(since)):
            return Receipt((), change.state.revision[0], 0, 0, 0, 0, 0, (), _backups(change), None, True, None)
        event = change.record()
        rows = Purging(change.store.database, event)
        whose = _whose(change, rows, wanted)
        pictures = list(rows.pictures(whose.samples))
        digests = {digest for digest, _ in pictures}
        kept = {picture for _, picture in pictures if picture is not None}
        every = tuple(dict.fromkeys((*wanted, *whose.names)))
        backups = _backups(change)
        gone = set(rows.all_strangers() if strangers else ())
        if wanted:
            gone |= {*rows.strangers(every, digests, whose.identities), *_suspected(change, wanted)}
        names, of_strangers = rows.named(gone)
        enrolled = {identity.name for identity in change.store.identities()} - set(every)
        every = tuple(dict.fromkeys((*every, *(name for name in names if name not in enrolled))))
        digests |= of_strangers
        towers = _trained_on(change, digests | {hashlib.sha256(p).digest() for p in kept}, every)
        whose = whose._replace(names=every)
        answers = set(rows.answers_before(since)) if since else set()
        if wanted:
            answers |= {*rows.answers_naming(whose.identities), *rows.answers_of(kept), *_near(change, rows, whose)}
        templates = _delete(change, rows, whose, gone, answers)
    return Receipt(
        names=wanted,
        revision=event,
        identities=len(whose.identities),
        samples=len(whose.samples),
        templates=len(templates),
        strangers=len(gone),
        answers=len(answers),
        towers=towers,
        backups=backups,
        retrain=_command(session, wanted) if any(tower.learned for tower in towers) else None,
        swept=(unswept := session.sweep()) is None,
        unswept=unswept,
    )


def write_backup(session: Session, path: Path, removed: bool, pictures: bool) -> None:
    """Write a copy to `path`, whole, or without what was removed or without pictures; the gallery knows of it."""
    if removed and pictures:
        backup.backup(session.store, path)
    else:
        _refuse_fuller(session, path, pictures)
        _backup_without(session, path, pictures)
    backup.remember(session.store, path)


def _refuse_fuller(session: Session, path: Path, pictures: bool) -> None:
    """Raise BadInput where a copy is that holds what the new one will not."""
    backup.refuse_other_galleries(session.store, path)
    if path.exists() and path.stat().st_size:
        with contextlib.closing(Session(connect(path))) as there, there.reading() as state:
            rows = Purging(state.store.database, 0)
            if rows.removed().samples or (not pictures and rows.holds_pictures()):
                raise BadInput(f"{path}: there is a copy that holds more.", remedy="Choose another name.")


def _backup_without(session: Session, path: Path, pictures: bool) -> None:
    """Write a copy without what is out of use to `path`; unless they are to be kept, without `pictures` and answers.

    It counts as the revision that it is a copy of: a later backup may replace it.
    """
    backup.refuse_other_galleries(session.store, path)
    with private_folder(session, "without") as folder:
        temporary = folder / "copy.gallery"
        backup.backup(session.store, temporary)
        with contextlib.closing(Session(connect(temporary))) as copy:
            with copy.changing("backup") as change:
                rows = Purging(change.store.database, change.state.revision[0])
                if not pictures:
                    rows.delete_pictures()
                whose = rows.removed()
                answers = {*rows.answers_naming(whose.identities), *_near(change, rows, whose)}
                _delete(change, rows, whose, set(rows.all_strangers(removed=True)), answers)
            copy.sweep()
            backup.backup(copy.store, path)


def _delete(
    change: Change, rows: Purging, whose: Whose, strangers: Collection[int], answers: Collection[int]
) -> list[int]:
    store, tower = change.store, change.state.active
    rows.delete_answers(answers)
    rows.delete_strangers(strangers)
    templates = rows.delete_identities(whose)
    rows.delete_former()
    rows.forget_names(whose.names)
    store.forget_lost_backups()
    store.set_pending(PURGE)
    if strangers:
        for row in store.towers.all():
            compare(store, row.id, row.dimension)
    nothing = np.zeros(0, np.int64)
    before = Renewed(
        np.array(templates, np.int64), nothing, nothing, nothing, np.zeros((0, tower.dimension), np.float32)
    )
    if strangers:
        change.impostors.recompute()
    else:
        change.impostors.rearranged(before, whose.identities)
    return templates


def _whose(change: Change, rows: Purging, names: Iterable[str]) -> Whose:
    """Return all that is of these names. Raises Missing for one that is nowhere."""
    found = [rows.whose(name) for name in names]
    for name, each in zip(names, found, strict=True):
        into = rows.merged_into(name) if not each.samples else None
        if into is not None:
            raise Missing(
                f"{name!r} was merged with {into!r}, whose samples its own are now.",
                "Nothing was purged.",
                f"sidx purge {shell(into)}",
            )
        if not each.identities and not rows.strangers([name], (), ()) and not _trained_on(change, (), [name]):
            now = rows.called_now(name)
            raise Missing(
                f"{name!r} is nowhere in {change.session.path}." if now is None else f"{name!r} is called {now!r} now.",
                "Nothing was purged.",
                "See: sidx identities list, sidx strangers list" if now is None else f"sidx purge {shell(now)}",
            )
    return Whose(
        tuple(dict.fromkeys(i for each in found for i in each.identities)),
        tuple(dict.fromkeys(s for each in found for s in each.samples)),
        tuple(dict.fromkeys([*names, *(name for each in found for name in each.names)])),
    )


def _suspected(change: Change, names: Collection[str]) -> list[int]:
    """Return strangers who are set aside since they look like one of these."""
    looks = {
        pair.first
        for pair in change.state.suspects
        if pair.cause == "stranger who was enrolled" and pair.second in names
    }
    tower = change.state.active
    return [stranger for name in looks for stranger in change.store.impostors.named(tower.id, str(name))]


def _near(change: Change, rows: Purging, whose: Whose) -> list[int]:
    """Return answers to probes that lie within their threshold, or today's, of a template of these."""
    of_tower, tau = rows.templates(whose.samples), change.state.threshold(None).tau
    found = []
    for answer in rows.answers() if of_tower else ():
        blobs = of_tower.get(answer.tower)
        if blobs:
            vectors = np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), -1)
            probe = np.frombuffer(answer.vector, np.float32)[None]
            limit = max(answer.threshold or 0.0, tau or 0.0)
            if float(all_distances(probe, vectors).min()) <= limit:
                found.append(answer.id)
    return found


def _trained_on(change: Change, digests: Collection[bytes], names: Collection[str]) -> tuple[TrainedOn, ...]:
    active = change.state.settings.tower

    def look(row: TowerRow) -> TrainedOn:
        record, known = row.card.training, set(names)
        named, judged = bool(known & set(record.identities)), bool(known & {*record.held_out, *record.chose})
        return TrainedOn(row.sha256, row.id == active, len(record.has_learned_from(digests)), named, judged)

    found = [look(row) for row in change.store.towers.all()]
    return tuple(each for each in found if each.learned or each.held_out)


def _backups(change: Change) -> tuple[KnownBackup, ...]:
    known = [KnownBackup(path, revision, Path(path).exists()) for revision, path in change.store.backups()]
    place = change.store.path
    if isinstance(place, Path):
        aside = sorted(place.parent.glob("*.before-restore-*"))
        known += [KnownBackup(str(p), None, True) for p in aside if p.name.startswith(f"{place.name}.before-restore-")]
    return tuple(known)


def _command(session: Session, names: Sequence[str]) -> str:
    without = [f"--without {shell(name)}" for name in names]
    return " ".join(["sidx retrain", *without, f"-g {shell(str(session.path))}"])


def _moment(date: str) -> str:
    """Return a date or time as the log writes it. Raises BadInput."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(date)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(f"{date!r} is no date.", "Expected such as 2026-01-31 or 2026-01-31T12:00:00Z.") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
