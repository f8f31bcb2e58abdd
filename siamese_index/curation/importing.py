"""Taking in what another gallery, or another program, held: joined by name, conflicts listed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from siamese_index import calibrate, enrollment
from siamese_index.enrollment import Conflicts, Enrollment, Terms
from siamese_index.errors import BadInput, Refusal, SiameseIndexError
from siamese_index.files import kind_of
from siamese_index.samples import images, sources
from siamese_index.samples.images import NamedSample, Picture, Progress
from siamese_index.samples.names import clean_name, clean_tags
from siamese_index.session import Change, Session
from siamese_index.store.opening import connect
from siamese_index.store.rows import NewSample, TowerRow
from siamese_index.thresholds import strangers
from siamese_index.vectors import Vectors, unit

from . import dumps, formats
from .records import SETTINGS, Content, Record, content


@dataclass
class Taken:
    """What became of an import."""

    samples: Enrollment = field(default_factory=Enrollment)
    strangers: int = 0  # that are new
    tagged: int = 0  # identities that got tags
    settings: bool = False  # whether the target, and how it is decided, were taken over: into an empty gallery
    left_out: tuple[str, ...] = ()


def take_from(
    session: Session, path: Path, conflicts: Conflicts, by_file_name: bool, progress: Progress | None
) -> Taken:
    """Take in what a file or folder holds: an export, a gallery, a dump of CompreFace or DeepFace, or data to enroll.

    A folder of pictures without folders is one of known people, by their file names. Raises Missing, BadInput.
    """
    if path.is_file() and kind_of(path) == "gallery":
        with contextlib.closing(Session(connect(path))) as other:
            return take(session, content(other), conflicts, progress)
    found = formats.read(path) or dumps.read(path)
    if found is not None:
        return take(session, found, conflicts, progress)
    flat = path.is_dir() and not any(part.is_dir() and not part.name.startswith(".") for part in path.iterdir())
    items = sources.items(path, by_file_name=by_file_name or flat)
    enrolled = enrollment.enroll_many(session, items, Terms(conflicts), progress, None)
    return Taken(enrolled, left_out=items.left_out)


def take(
    session: Session, given: Content, conflicts: Conflicts = "refuse when sure", progress: Progress | None = None
) -> Taken:
    """Take in what is given: durable after every `enrollment.CHUNK` samples, so it can be repeated.

    A vector is kept where it is by the active tower, or where both are vectors of the same dimension from elsewhere;
    else the picture is embedded. Raises BadInput.
    """
    row, done = session.active(), Taken(left_out=given.left_out)
    outside = not row.has_network and not given.network
    same = given.tower == row.sha256 or outside
    if outside and given.dimension not in (None, row.dimension):
        raise BadInput(
            f"Its vectors have {given.dimension} numbers, those of this gallery {row.dimension}.",
            "They are of another embedder.",
        )
    chosen, tags = _checked(given)
    if given.settings:
        with session.changing("import", row.id) as change:
            if not change.state.settings.identities:  # before anything else: an import that is repeated finds them set
                change.record()
                _set(change, chosen, given.settings)
                change.impostors.recompute()
                done.settings = True
    others: list[Record] = []
    records = iter(given.records)
    while chunk := list(itertools.islice(records, enrollment.CHUNK)):
        others += [record for record in chunk if record.role != "identity"]
        samples, vectors = _usable(session, row, [r for r in chunk if r.role == "identity"], same, done)
        if samples:
            terms, counted = Terms(conflicts), len(done.samples.already)
            if not session.store.settings().keep_pictures:
                samples = [sample._replace(kept=None) for sample in samples]
            enrollment.in_one_transaction(session, row, samples, vectors, done.samples, terms, counted)
        if progress:
            progress(len(chunk))
    _finish(session, row, others, tags, same, done)
    return done


def _checked(given: Content) -> tuple[calibrate.Chosen, dict[str, dict[str, str]]]:
    """Return what is to be set, and tags, before anything is taken in. Raises BadInput for what cannot be."""
    settings = given.settings
    numbers = [settings.get(key) for key in ("target_fpir", "confidence")]
    flags = [settings.get(key, False) for key in ("strict", "shift")]
    good = all(n is None or (isinstance(n, (int, float)) and not isinstance(n, bool)) for n in numbers)
    if set(settings) - set(SETTINGS) or not good or not all(isinstance(flag, bool) for flag in flags):
        raise BadInput(
            "It has settings that this program does not know.",
            f"Found {str(settings)[:200]}.",
            "Export it again, with this version of the program.",
        )
    tags: dict[str, dict[str, str]] = {}
    for name, each in given.tags.items():
        if not isinstance(each, dict):
            raise BadInput(f"The tags of {name[:40]!r} in this export are none.")
        tags[clean_name(name)] = {key: value for key, value in clean_tags(each) if value is not None}
    return calibrate.Chosen(numbers[0], settings.get("fusion"), numbers[1]), tags


def _usable(
    session: Session, row: TowerRow, records: list[Record], same: bool, done: Taken
) -> tuple[list[NewSample], Vectors]:
    """Return the samples of records with their vectors; what has none that can be used is noted as refused."""
    samples: list[NewSample] = []
    vectors: list[Vectors] = []
    pictures: list[tuple[str, Picture]] = []
    digests: dict[bytes, bytes] = {}  # of a picture: that of the sample as it came in
    for record in records:
        try:
            name = clean_name(record.name)
            if record.vector is not None and same:
                vector = unit(record.vector[None], row.dimension)
                if np.allclose(vector[0], record.vector, rtol=0, atol=1e-6):
                    vector = record.vector[None]  # to the last bit as it was
                digest = record.digest or hashlib.sha256(vector.tobytes()).digest()
                picture = record.picture if row.has_network else None
                if picture is not None:
                    images.decode(picture, 1)  # what nobody can look at is not kept
                samples.append(NewSample(name, digest, record.source, picture))
                vectors.append(vector)
            elif record.picture is not None and row.has_network:
                if record.digest is not None:
                    digests[session.embedder(row).digest(record.picture)] = record.digest
                pictures.append((name, NamedSample(record.picture, record.source)))
            elif record.picture is not None:
                raise BadInput(
                    f"{record.source or name}: it has no vector that this gallery can use, and pictures are not"
                    " embedded here.",
                    remedy="Export it from a gallery whose vectors are of the same embedder.",
                )
            else:
                raise BadInput(
                    f"{record.source or name}: no picture was kept of it, and its vector is of another tower.",
                    remedy="Import it into a gallery with its tower.",
                )
        except SiameseIndexError as error:
            done.samples.refused.append(Refusal(record.source or record.name[:80], error, record.name[:255]))
    if pictures:
        found, embedded, refused = enrollment.taken(session, pictures)
        done.samples.refused += refused
        samples += [sample._replace(digest=digests.get(sample.digest, sample.digest)) for sample in found]
        vectors.append(embedded)
    return samples, np.concatenate(vectors) if vectors else np.zeros((0, row.dimension), np.float32)


def _finish(
    session: Session, row: TowerRow, others: list[Record], tags: dict[str, dict[str, str]], same: bool, done: Taken
) -> None:
    """Take in strangers and tags that are new, as one change."""
    kinds = ("stranger", "cohort") if same else ("stranger",)  # another tower has strangers of its own
    groups = {role: [record for record in others if record.role == role] for role in kinds}
    taken = {role: _usable(session, row, found, same, done) for role, found in groups.items() if found}
    with session.changing("import", row.id) as change:
        store = change.store
        there = store.impostors.digests(row.id)
        fresh = [s.digest for samples, _ in taken.values() for s in samples if there.get(s.digest, 0) is not None]
        known, had = store.identities_named(list(tags)), store.tags()
        new = {
            identity: {key: value for key, value in tags[name].items() if key not in had.get(identity, {})}
            for name, identity in known.items()
        }
        if not fresh and not any(new.values()):
            return
        event = change.record(strangers=len(set(fresh)))
        for role, (samples, vectors) in taken.items():
            source = "given" if role == "stranger" else "tower"
            done.strangers += strangers.admit(store, event, row.id, source, samples, vectors)
        for identity, each in new.items():
            store.tag([identity], sorted(each.items()))
            done.tagged += bool(each)
        if fresh:
            strangers.compare(store, row.id, row.dimension)
            change.impostors.recompute()
        done.samples.revision = event


def _set(change: Change, chosen: calibrate.Chosen, settings: dict[str, Any]) -> None:
    """Take over the target and how it is decided."""
    store = change.store
    if chosen.fpir is not None:
        store.set_target(chosen.fpir)
    if chosen.fusion is not None and chosen.fusion != "auto":
        store.set_fusion(chosen.fusion)
    store.set_confidence(chosen.confidence or None)
    store.set_strict(settings.get("strict", False))
    store.set_shift(settings.get("shift", False))
