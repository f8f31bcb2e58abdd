"""What is taken along of a gallery: samples with their vectors, strangers, tags and settings, in whatever file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import Missing
from siamese_index.samples.images import Progress
from siamese_index.session import Session

Role = Literal["identity", "stranger", "cohort"]  # enrolled; a stranger that was given, or that the tower brought
FORMAT = "siamese-index export 1"
SETTINGS = ("target_fpir", "fusion", "confidence", "strict", "shift")


@dataclass(frozen=True)
class Record:
    """One sample."""

    role: Role
    name: str
    source: str
    digest: bytes | None  # SHA-256 of the sample as it came in, None where that is not known
    picture: bytes | None
    vector: NDArray[np.float32] | None  # by the tower that is named


@dataclass(frozen=True)
class Content:
    """All that is taken along; records are made as they are asked for."""

    records: Iterable[Record]
    tower: str | None = None  # id of the one that made the vectors
    dimension: int | None = None
    network: bool = True  # whether it embeds pictures; else vectors come from outside
    settings: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # by identity
    left_out: tuple[str, ...] = ()  # what of the file was not taken, and why

    def header(self) -> dict[str, Any]:
        """Return what is not a record, as a JSON object."""
        return {
            "format": FORMAT,
            "tower": self.tower,
            "dimension": self.dimension,
            "network": self.network,
            "settings": self.settings,
            "tags": self.tags,
        }


def counted(records: Iterable[Record], progress: Progress | None) -> Iterator[Record]:
    """Yield records, and tell of each enrolled one."""
    for record in records:
        yield record
        if progress and record.role == "identity":
            progress(1)


def content(session: Session, pictures: bool = True, samples: Collection[int] | None = None) -> Content:
    """Return what a gallery holds and uses: all of it, or these samples alone, without strangers."""
    if samples is not None:
        with session.reading() as state:
            there = {row.id for row in state.store.samples(ids=list(samples))}
        lost = next((sample for sample in samples if sample not in there), None)
        if lost is not None:
            raise Missing(f"There is no enrolled sample {lost}.", remedy="See: sidx samples list")
    with session.reading() as state:
        settings, row = state.settings, state.active
        tags = state.store.tags()
        names = {identity.id: identity.name for identity in state.store.identities()}
    told = {key: getattr(settings, key) for key in SETTINGS}
    by_name = {names[identity]: each for identity, each in sorted(tags.items()) if identity in names}
    records = _records(session, pictures, samples)
    if samples is not None:
        return Content(records, row.sha256, row.dimension, row.has_network)
    return Content(records, row.sha256, row.dimension, row.has_network, told, by_name)


def _records(session: Session, pictures: bool, samples: Collection[int] | None) -> Iterator[Record]:
    """Yield the enrolled samples by id, then the strangers that count, as of one state."""
    with session.reading() as state:
        row, store = state.active, state.store
        rows = store.samples() if samples is None else store.samples(ids=list(samples))
        strangers = store.impostors.strangers(row.id, row.dimension) if samples is None else None
    for first in range(0, len(rows), 256):
        part = rows[first : first + 256]
        with session.reading() as state:
            ids = np.array([each.id for each in part], np.int64)
            present, vectors = state.store.templates.of_samples(row.id, row.dimension, ids)
            kept = [state.store.picture(each.id) if pictures else None for each in part]
        of = dict(zip(ids[present].tolist(), vectors, strict=True))
        for each, picture in zip(part, kept, strict=True):
            yield Record("identity", each.identity, each.source, bytes.fromhex(each.digest), picture, of.get(each.id))
    if strangers is None:
        return
    for i, stranger in enumerate(strangers.ids.tolist()):
        with session.reading() as state:
            picture = state.store.impostors.picture(stranger) if pictures else None
        role: Role = "stranger" if strangers.sources[i] == "given" else "cohort"
        yield Record(role, strangers.names[i], "", strangers.digests[i], picture, strangers.vectors[i])
