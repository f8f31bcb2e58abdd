"""Is this gallery what it should be? Checks only read; `fix` repairs what can be derived anew."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from siamese_index.errors import SiameseIndexError
from siamese_index.files import drop_cache, leftovers
from siamese_index.search.opening import index_of
from siamese_index.session import Session
from siamese_index.store.address import place_of
from siamese_index.store.opening import connect
from siamese_index.store.store import Store
from siamese_index.towers.tower_file import tower_id


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `fixable` if `doctor --fix` can put it right without loss."""

    what: str
    fixable: bool


@dataclass(frozen=True)
class Examination:
    """What was found, and the facts that a report of a problem should name."""

    findings: tuple[Finding, ...]
    facts: dict[str, str]


def examine(path: str | Path) -> Examination:
    """Check a gallery from the file's bytes to its threshold. Raises Missing or Damaged if it cannot be opened."""
    # Before it is opened: opening sweeps leftovers.
    place = place_of(path)
    found = _libraries() + (_files(place) if isinstance(place, Path) else [])
    store = connect(path)
    try:
        facts = store.facts()
        with store.still() as still:
            found += [Finding(f"database: {problem}", False) for problem in still.problems()]
            with still.reading():
                found += _content(still, [_towers, _templates, _counts, _strangers])
                facts["revision"] = str(still.revision()[0])
        found += _content(store, [_cache])
    finally:
        store.close()
    return Examination(tuple(found), facts)


def _libraries() -> list[Finding]:
    """Find what is installed twice: each of OpenCV's packages writes over the others' files."""
    found = []
    for name in ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    if len(found) < 2:
        return []
    names = " ".join(each.split()[0] for each in found)
    return [Finding(f"{' and '.join(found)} are both installed: pip uninstall {names}, then install one", False)]


def _files(gallery: Path) -> list[Finding]:
    found = [Finding(f"{p.name}: left behind by a killed write", True) for p in leftovers(gallery)]
    if stat.S_IMODE(gallery.stat().st_mode) & 0o077 if gallery.exists() else False:
        found.append(Finding("other users may read the gallery", True))
    return found


def fix(path: str | Path) -> None:
    """Repair what is derived: rights, leftovers, cache, the distances of impostor searches."""
    gallery = place_of(path)
    if isinstance(gallery, Path):
        for leftover in leftovers(gallery):
            leftover.unlink(missing_ok=True)
        os.chmod(gallery, 0o600)  # noqa: PTH101
        drop_cache(gallery)
    with contextlib.closing(connect(path)) as store:
        if store.settings().tower is None:
            return
        with Session(store).changing("fix") as change:
            if change.impostors.stale():
                change.record()
                change.impostors.recompute()


def _content(store: Store, checks: Sequence[Callable[[Store], list[Finding]]]) -> list[Finding]:
    found = []
    for check in checks:
        try:
            found += check(store)
        except SiameseIndexError as error:
            found.append(Finding(str(error).replace("\n", " "), False))
    return found


def _towers(store: Store) -> list[Finding]:
    if store.settings().tower is None:
        return [Finding("there is no active tower", False)]
    found = []
    for row in store.towers.all():
        onnx, detector = store.towers.served(row.id)
        if row.has_network and tower_id(onnx, row.card, detector) != row.sha256:
            found.append(Finding(f"tower {row.sha256[:12]} is not what was stored", False))
    return found


def _templates(store: Store) -> list[Finding]:
    active = store.settings().tower
    if active is None:
        return []
    found = []
    row = store.towers.row(active)
    _, _, vectors = store.templates.after(active, row.dimension, 0)
    bad = int(np.sum(~(np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-3)))
    if bad:
        found.append(Finding(f"{bad} templates are not unit vectors", False))
    missing = len(store.templates.missing(active, -1))
    if missing:
        found.append(Finding(f"{missing} samples have no template of the active tower", False))
    return found


def _counts(store: Store) -> list[Finding]:
    found = []
    if store.settings().identities != len(store.identity_names()):
        found.append(Finding("the number of identities is not that of those enrolled", False))
    for row in store.towers.all():
        if store.templates.total(row.id) != store.templates.stored(row.id):
            found.append(
                Finding(f"the number of templates of tower {row.sha256[:12]} is not that of those stored", False)
            )
    return found


def _strangers(store: Store) -> list[Finding]:
    if store.settings().tower is None:
        return []
    session = Session(store)
    impostors = session.impostors(session.state())
    impostors.read()
    wrong = impostors.stale()
    return [Finding(f"{wrong} stranger searches are not up to date", True)] if wrong else []


def _cache(store: Store) -> list[Finding]:
    active = store.settings().tower
    if active is None:
        return []
    row = store.towers.row(active)
    problem = index_of(store, row).problem()
    return [Finding(f"cache: {problem}; searches do without it", True)] if problem else []
