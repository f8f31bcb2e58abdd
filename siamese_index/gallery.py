"""The gallery: enroll identities, identify probes, keep the threshold true, swap towers."""

from __future__ import annotations

import hashlib
import math
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import calibration, images, strangers
from .calibration import DEFAULT_FPIR, Threshold
from .decision import Candidate, Decision, Evidence, decide
from .errors import BadInput, Damaged, Locked, Missing, SiameseIndexError
from .store import IdentityRow, SampleRow, Store, TowerRow, creating
from .tower import Tower, TowerFile
from .vectors import Vectors, distances, unit

if TYPE_CHECKING:
    from .index import Index

NAME_LIMIT = 255
CHUNK = 1024  # pictures per transaction when enrolling many
Progress = Callable[[int], None]  # called with how many more items are done


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sample or probe that was not taken, and why."""

    source: str
    error: SiameseIndexError


@dataclass(slots=True)
class Enrollment:
    """What became of each sample of an enrollment."""

    enrolled: list[tuple[str, str]] = field(default_factory=list)  # (identity, source)
    already: list[tuple[str, str]] = field(default_factory=list)  # the same bytes, under the same identity
    refused: list[Refusal] = field(default_factory=list)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to "are these two the same?"."""

    verdict: str  # match | unknown
    distance: float
    threshold: float | None  # the distance at which `target_fmr` of strangers' comparisons match
    target_fmr: float
    tower: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold, with what it costs: mated searches that it turns away."""

    threshold: float | None
    fpir_interval: tuple[float, float] | None  # 95 %
    evidence: Evidence
    strangers: dict[str, int]  # searches by source: "tower" (its held-out identities), "given"
    enrolled_strangers: int  # searched among the others, since they are enrolled
    set_aside: int  # searches that met nobody, or only the same picture
    misses: int  # mated searches (leave one out) that did not return their identity
    mated: int
    fnir: float | None
    fnir_interval: tuple[float, float]
    identities: int
    revision: int


@dataclass(frozen=True)
class _State:
    """What answers rest on, read once per revision."""

    revision: tuple[int, bytes]
    tower: TowerRow | None
    target: float
    identities: int
    thresholds: dict[float, Threshold]
    false_matches: NDArray[np.float32]


class Gallery:
    """One gallery file. `Gallery.open` and `Gallery.create` make it; close it, or use it with `with`.

    Pictures are given as paths or as the bytes of a picture file, vectors as arrays (n, dimension).
    Every method that changes something is one durable transaction, and returns when it is on disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state: _State | None = None
        self._index: Index | None = None
        self._tower: Tower | None = None

    # -- opening ------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        tower: TowerFile | str | Path | None = None,
        *,
        dimension: int | None = None,
        fpir: float = DEFAULT_FPIR,
        keep_pictures: bool = True,
    ) -> Gallery:
        """Make a new gallery, of a tower or of vectors with `dimension` numbers from elsewhere.

        `fpir` is the share of strangers that may be taken for somebody (0..1). Raises BadInput when
        `path` exists, Missing or Damaged for the tower.
        """
        if (tower is None) == (dimension is None):
            raise BadInput("A gallery needs a tower, or the dimension of vectors from elsewhere.")
        if dimension is not None and not 1 <= dimension <= 65536:
            raise BadInput(f"{dimension} is no dimension.", "Expected 1 to 65,536.")
        content = TowerFile.read(tower) if isinstance(tower, (str, Path)) else tower
        if content is not None:
            Tower(content.onnx, content.card, content.id)  # what cannot serve is not taken in
        with creating(Path(path), _share(fpir), keep_pictures) as store, store.writing("init"):
            event = store.record("init")
            if content is not None:
                row = _insert_tower(store, event, content, None)
            else:
                nothing = np.zeros((2, 0), np.float32)
                row = store.add_tower(event, f"vectors-{dimension}", dimension or 0, {}, nothing, None, None, None)
            store.begin_generation(event, row)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Open a gallery. Raises Missing, Damaged, or BadInput for one of a newer program."""
        return cls(Store(Path(path)))

    def close(self) -> None:
        """Close the file. Nothing is written: what was acknowledged is on disk already."""
        self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self._store.path

    @property
    def revision(self) -> int:
        """The number of changes that this gallery has seen."""
        return self._store.revision()[0]

    def _refresh(self) -> _State:
        """Return the state of the current revision. Call it inside `reading()`."""
        revision = self._store.revision()
        if self._state is None or self._state.revision != revision:
            tower, target, _ = self._store.settings()
            row = self._store.tower(tower) if tower is not None else None
            if (
                self._state is None
                or self._state.tower is None
                or row is None
                or row.sha256 != self._state.tower.sha256
            ):
                from .index import Index  # brings FAISS, which only searching needs

                self._index = Index(self.path, row.id, row.sha256, row.dimension) if row else None
                self._tower = None
            false_matches = self._store.false_matches(row.id) if row else np.zeros((2, 0), np.float32)
            self._state = _State(revision, row, target, self._store.identity_count(), {}, false_matches)
        return self._state

    def _active(self) -> TowerRow:
        with self._store.reading():
            state = self._refresh()
        if state.tower is None:
            raise Damaged(
                f"{self.path}: this gallery has no active tower.", remedy="Restore a backup: sidx restore FILE"
            )
        return state.tower

    @property
    def tower(self) -> Tower:
        """The active tower, opened when first used. Raises BadInput in a gallery of vectors."""
        row = self._active()
        if self._tower is None or self._tower.id != row.sha256:
            self._tower = self._open_tower(row)
        return self._tower

    @property
    def holds_vectors(self) -> bool:
        """Whether this gallery takes vectors of an outside embedder instead of pictures."""
        return not self._active().has_network

    def _open_tower(self, row: TowerRow) -> Tower:
        if not row.has_network:
            raise BadInput(
                f"{self.path}: this gallery holds vectors, not pictures.", f"Expected .npy of {row.dimension} columns."
            )
        return Tower(self._store.onnx(row.id), row.card, row.sha256)

    # -- enrolling ----------------------------------------------------------------------------

    def enroll(self, name: str, pictures: Sequence[str | Path | bytes]) -> Enrollment:
        """Enroll pictures under `name`, all of them or none: any refusal is raised as an error.

        Enrolling the same bytes under the same name again changes nothing and is reported in
        `already`; under another name it raises BadInput. Unreadable pictures raise Unreadable.
        """
        return self._enroll([(name, picture) for picture in pictures], strict=True)

    def enroll_many(
        self, items: Iterable[tuple[str, str | Path | bytes]], progress: Progress | None = None
    ) -> Enrollment:
        """Enroll (name, picture) items; the good ones are enrolled, the others listed in `refused`.

        Durable after every CHUNK pictures, so an interrupted run can simply be repeated.
        """
        total, chunk = Enrollment(), []
        for item in items:
            chunk.append(item)
            if len(chunk) == CHUNK:
                self._enroll(chunk, strict=False, total=total, progress=progress)
                chunk = []
        if chunk:
            self._enroll(chunk, strict=False, total=total, progress=progress)
        return total

    def enroll_vectors(self, names: Sequence[str], vectors: Any) -> Enrollment:
        """Enroll vectors (n, dimension) of an outside embedder under `names` (n,), in one transaction.

        Raises BadInput, and enrolls nothing, for any name or vector that is not acceptable.
        """
        row = self._active()
        if row.has_network:
            raise BadInput(f"{self.path}: this gallery embeds pictures itself.", remedy="Enroll pictures, not vectors.")
        rows = unit(vectors, row.dimension)
        if len(names) != len(rows):
            raise BadInput(f"{len(names)} names for {len(rows)} vectors.", "Each vector needs its name.")
        accepted = {name: clean_name(name) for name in set(names)}
        samples = [
            (accepted[n], hashlib.sha256(v.tobytes()).digest(), f"row {i}", None)
            for i, (n, v) in enumerate(zip(names, rows, strict=True))
        ]
        return self._write(row, samples, rows, strict=True, total=Enrollment())

    def _enroll(
        self,
        items: Sequence[tuple[str, str | Path | bytes]],
        strict: bool,
        total: Enrollment | None = None,
        progress: Progress | None = None,
    ) -> Enrollment:
        total = total or Enrollment()
        row, tower = self._active(), self.tower
        keep = self._store.settings()[2]
        samples, pixels = [], []
        for number, (name, picture) in enumerate(items):
            source = picture_name(picture, number)
            try:
                accepted = clean_name(name)
                data = picture if isinstance(picture, bytes) else images.read(picture)
                kept = images.bounded(data)
                pixels.append(tower.prepare(kept))  # of what is kept, so that embedding it again gives the same
            except SiameseIndexError as error:
                if strict:
                    raise images.named(source, error) from None
                total.refused.append(Refusal(source, error))
                continue
            finally:
                if progress:
                    progress(1)
            samples.append((accepted, hashlib.sha256(data).digest(), source, kept if keep else None))
        return self._write(row, samples, tower.embed(pixels), strict, total)

    def _write(
        self,
        tower: TowerRow,
        samples: Sequence[tuple[str, bytes, str, bytes | None]],
        vectors: Vectors,
        strict: bool,
        total: Enrollment,
    ) -> Enrollment:
        with self._store.writing("enroll"):
            if self._store.settings()[0] != tower.id:
                raise Locked(f"{self.path}: the tower was swapped meanwhile.", remedy="Run the same command again.")
            holders = self._store.holders([sample[1] for sample in samples])
            fresh: list[int] = []
            for i, (name, digest, source, _) in enumerate(samples):
                if digest not in holders:
                    holders[digest] = name
                    fresh.append(i)
                elif holders[digest] == name:
                    total.already.append((name, source))
                else:
                    error = BadInput(
                        f"{source}: already enrolled as {holders[digest]!r}, not {name!r}.",
                        "The same picture cannot be two identities.",
                        f"Rename or remove {holders[digest]!r}, or leave this picture out.",
                    )
                    if strict:
                        raise error
                    total.refused.append(Refusal(source, error))
            if fresh:
                rows, new = [samples[i] for i in fresh], vectors[fresh]
                event = self._store.record("enroll", samples=len(fresh))
                identities, templates = self._store.add_samples(event, tower.id, rows, new)
                names, digests = [row[0] for row in rows], [row[1] for row in rows]
                strangers.tighten(self._store, tower.id, names, digests, identities, templates, new)
                total.enrolled += [(row[0], row[2]) for row in rows]
        total.revision = self.revision
        return total

    # -- identities ---------------------------------------------------------------------------

    def identities(self) -> list[IdentityRow]:
        """Return the enrolled identities by name, each with its number of samples."""
        with self._store.reading():
            return self._store.identities()

    def samples(self, name: str | None = None) -> list[SampleRow]:
        """Return the enrolled samples (of one identity) in the order of their enrollment. Raises Missing."""
        with self._store.reading():
            if name is not None:
                self._known(name)
            return self._store.samples(name)

    def rename(self, name: str, new: str) -> None:
        """Give an identity another name. Raises Missing, or BadInput when `new` is taken."""
        new = clean_name(new)
        row = self._active()
        with self._store.writing("rename"):
            identity = self._known(name)
            if self._store.identity(new) is not None:
                raise BadInput(f"{new!r} is enrolled already.", remedy="Choose another name.")
            self._store.record("rename", identity=identity)
            self._store.rename(identity, new)
            strangers.recompute(self._store, row.id, row.dimension)

    def remove(self, name: str) -> int:
        """Take an identity out of the gallery; return how many samples it had. Raises Missing."""
        row = self._active()
        with self._store.writing("remove"):
            identity = self._known(name)
            samples = len(self._store.samples(name))
            self._store.remove(identity, self._store.record("remove", identity=identity, samples=samples))
            strangers.recompute(self._store, row.id, row.dimension)
        return samples

    def _known(self, name: str) -> int:
        identity = self._store.identity(unicodedata.normalize("NFC", name))
        if identity is None:
            raise Missing(f"{name!r} is not enrolled in {self.path}.", remedy="See who is: sidx identities list")
        return identity

    # -- identifying --------------------------------------------------------------------------

    def identify(
        self, picture: str | Path | bytes, *, k: int = 5, fpir: float | None = None, threshold: float | None = None
    ) -> Decision:
        """Return who the picture shows, or that it is unknown.

        `k` candidates are listed. `fpir` is the share of strangers that may match, instead of the
        gallery's; `threshold` is a distance (0..2) instead of a learned one. Raises Unreadable.
        """
        answer = next(self.identify_many([picture], k=k, fpir=fpir, threshold=threshold))
        if isinstance(answer, Refusal):
            raise answer.error
        return answer

    def identify_many(
        self,
        pictures: Iterable[str | Path | bytes],
        *,
        k: int = 5,
        fpir: float | None = None,
        threshold: float | None = None,
    ) -> Iterator[Decision | Refusal]:
        """Yield an answer per picture, in order; a Refusal for one that cannot be read."""
        from .tower import BATCH

        _limits(k, fpir, threshold)
        batch: list[str | Path | bytes] = []
        number = 0
        for picture in pictures:
            batch.append(picture)
            if len(batch) == BATCH:
                yield from self._identify_batch(batch, number, k, fpir, threshold)
                number += len(batch)
                batch = []
        if batch:
            yield from self._identify_batch(batch, number, k, fpir, threshold)

    def _identify_batch(
        self,
        pictures: Sequence[str | Path | bytes],
        number: int,
        k: int,
        fpir: float | None,
        threshold: float | None,
    ) -> Iterator[Decision | Refusal]:
        tower = self._tower or self.tower  # if it was swapped meanwhile, _decide sees it
        begin = time.perf_counter()
        names, pixels, refusals = [], [], {}
        for i, picture in enumerate(pictures):
            name = picture_name(picture, number + i)
            try:
                pixels.append(tower.prepare(picture if isinstance(picture, bytes) else images.read(picture)))
                names.append(name)
            except SiameseIndexError as error:
                refusals[i] = Refusal(name, images.named(name, error))
        decoded = time.perf_counter()
        vectors = tower.embed(pixels)
        embedded = time.perf_counter()
        share = 1000 / max(1, len(names))
        ms = {"decode": (decoded - begin) * share, "embed": (embedded - decoded) * share}
        decided = self._decide(tower.id, names, vectors, k, fpir, threshold, ms)
        if decided is None:  # the tower was swapped meanwhile
            self._tower = None
            yield from self._identify_batch(pictures, number, k, fpir, threshold)
            return
        answers = iter(decided)
        for i in range(len(pictures)):
            yield refusals[i] if i in refusals else next(answers)

    def identify_vectors(
        self, vectors: Any, *, k: int = 5, fpir: float | None = None, threshold: float | None = None
    ) -> list[Decision]:
        """Return one answer per vector (n, dimension) of the embedder that this gallery was filled with."""
        _limits(k, fpir, threshold)
        row = self._active()
        rows = unit(vectors, row.dimension)
        names = [f"row {i}" for i in range(len(rows))]
        return self._decide(row.sha256, names, rows, k, fpir, threshold, {"decode": 0.0, "embed": 0.0}) or []

    def _decide(
        self,
        tower: str,
        names: Sequence[str],
        vectors: Vectors,
        k: int,
        fpir: float | None,
        given: float | None,
        ms: dict[str, float],
    ) -> list[Decision] | None:
        """Answer for vectors of `tower`, or return None when another tower is active by now."""
        if not names:
            return []
        begin = time.perf_counter()
        with self._store.reading():
            state = self._refresh()
            if state.tower is None or state.tower.sha256 != tower or self._index is None:
                return None
            self._index.refresh(self._store, state.revision)
            found = self._candidates(vectors, k, state.identities)
            searched = time.perf_counter()
            learned = self._threshold(state, fpir) if given is None else Threshold(given, _GIVEN)
        each = {**ms, "search": (searched - begin) * 1000 / len(names)}
        decisions = []
        for name, candidates in zip(names, found, strict=True):
            start = time.perf_counter()
            verdict, margin = decide(candidates, learned.tau)
            first = candidates[0] if candidates else None
            alarms = (
                calibration.expected_false_alarms(state.false_matches, first.distance, state.identities)
                if first
                else None
            )
            decisions.append(
                Decision(
                    probe=name,
                    verdict=verdict,
                    identity=first.identity if first and verdict == "match" else None,
                    distance=first.distance if first else None,
                    threshold=learned.tau,
                    margin=margin,
                    expected_false_alarms=alarms,
                    candidates=tuple(candidates[:k]),
                    evidence=learned.evidence,
                    tower=tower,
                    revision=state.revision[0],
                    ms={key: round(v, 3) for key, v in each.items()}
                    | {"decide": round((time.perf_counter() - start) * 1000, 3)},
                )
            )
        return decisions

    def _candidates(self, vectors: Vectors, k: int, identities: int) -> list[list[Candidate]]:
        """Return the nearest identities per probe: k of them, at least two for the margin, or all there are."""
        assert self._index is not None  # _decide has seen to it
        wanted = min(max(k, 2), identities)
        each = len(self._index) / max(1, identities)  # templates per identity
        fetch = min(len(self._index), math.ceil(wanted * each) + 3)
        ids, distance = self._index.search(vectors, fetch) if fetch else (np.zeros((len(vectors), 0), np.int64),) * 2
        owners = self._store.owners(set(ids.ravel().tolist()))
        found = []
        for i in range(len(vectors)):
            candidates = _first_of_each(ids[i], distance[i], owners, wanted)
            more = fetch
            while len(candidates) < wanted and more < len(self._index):  # many templates of one, or removed ones
                more = min(len(self._index), 4 * more)
                near, far = self._index.search(vectors[i : i + 1], more)
                candidates = _first_of_each(near[0], far[0], self._store.owners(near[0].tolist()), wanted)
            found.append(candidates)
        return found

    def verify(self, a: str | Path | bytes, b: str | Path | bytes, *, fmr: float | None = None) -> Verification:
        """Say whether two pictures show the same identity, enrolled or not. Raises Unreadable.

        `fmr` is the share of comparisons between strangers that may match (the gallery's target when
        None). Without strangers in the gallery the answer is unknown.
        """
        pair = []
        for number, picture in enumerate((a, b)):
            try:
                pair.append(self.tower.prepare(picture if isinstance(picture, bytes) else images.read(picture)))
            except SiameseIndexError as error:
                raise images.named(picture_name(picture, number), error) from None
        first, second = self.tower.embed(pair)
        return self._verified(float(distances(first, second)), fmr)

    def verify_as(self, picture: str | Path | bytes, name: str, *, fmr: float | None = None) -> Verification:
        """Say whether the picture shows the enrolled identity `name`, by its nearest template. Raises Missing."""
        row, tower = self._active(), self.tower
        try:
            pixels = tower.prepare(picture if isinstance(picture, bytes) else images.read(picture))
        except SiameseIndexError as error:
            raise images.named(picture_name(picture, 0), error) from None
        probe = tower.embed([pixels])
        with self._store.reading():
            vectors = self._store.templates_of(row.id, row.dimension, self._known(name))
        return self._verified(float(distances(vectors, probe).min()), fmr)

    def _verified(self, distance: float, fmr: float | None) -> Verification:
        with self._store.reading():
            state = self._refresh()
        target = state.target if fmr is None else _share(fmr)
        ends, shares = state.false_matches
        within = np.flatnonzero(shares <= target)
        tau = float(ends[within[-1]]) if within.size else None
        verdict = "match" if tau is not None and distance <= tau else "unknown"
        return Verification(verdict, distance, tau, target, state.tower.sha256 if state.tower else "")

    # -- the threshold ------------------------------------------------------------------------

    def threshold(self, fpir: float | None = None) -> Threshold:
        """Return the learned threshold for this FPIR (the gallery's target when None) and its evidence."""
        with self._store.reading():
            return self._threshold(self._refresh(), fpir)

    def _threshold(self, state: _State, fpir: float | None) -> Threshold:
        target = state.target if fpir is None else _share(fpir)
        if target not in state.thresholds:
            nearest, names = self._store.stranger_distances(state.tower.id if state.tower else 0)
            state.thresholds[target] = calibration.threshold(nearest, names, target)
        return state.thresholds[target]

    def calibrate(
        self,
        *,
        fpir: float | None = None,
        strangers_given: Iterable[tuple[str, str | Path | bytes]] = (),
        progress: Progress | None = None,
    ) -> tuple[Calibration, list[Refusal]]:
        """Set the target FPIR, add strangers (name, picture), and report the threshold with what it costs.

        Strangers are people or things that are not enrolled; their pictures are kept with the gallery.
        Returns the calibration and the strangers that could not be read.
        """
        refused: list[Refusal] = []
        rows, pixels = [], []
        for number, (name, picture) in enumerate(strangers_given):
            source = picture_name(picture, number)
            try:
                data = picture if isinstance(picture, bytes) else images.read(picture)
                kept = images.bounded(data)
                pixels.append(self.tower.prepare(kept))
                rows.append((clean_name(name), hashlib.sha256(data).digest(), kept))
            except SiameseIndexError as error:
                refused.append(Refusal(source, images.named(source, error)))
            if progress:
                progress(1)
        vectors = self.tower.embed(pixels) if rows else None
        self._calibrate(fpir, rows, vectors)
        return self._calibration(), refused

    def calibrate_vectors(
        self, *, fpir: float | None = None, names: Sequence[str] = (), vectors: Any = None
    ) -> Calibration:
        """As `calibrate`, for a gallery of vectors: strangers `vectors` (n, dimension) and whose they are."""
        tower = self._active()
        array = None if vectors is None else unit(vectors, tower.dimension)
        if len(names) != (0 if array is None else len(array)):
            raise BadInput(f"{len(names)} names for {0 if array is None else len(array)} vectors.")
        digests = [] if array is None else [hashlib.sha256(v.tobytes()).digest() for v in array]
        rows = [(clean_name(n), digest, None) for n, digest in zip(names, digests, strict=True)]
        self._calibrate(fpir, rows, array)
        return self._calibration()

    def _calibrate(
        self, fpir: float | None, rows: Sequence[tuple[str, bytes, bytes | None]], vectors: Vectors | None
    ) -> None:
        tower = self._active()
        if fpir is None and vectors is None:
            return
        with self._store.writing("calibrate"):
            if self._store.settings()[0] != tower.id:
                raise Locked(f"{self.path}: the tower was swapped meanwhile.", remedy="Run the same command again.")
            event = self._store.record("calibrate", fpir=fpir, strangers=len(rows))
            if fpir is not None:
                self._store.set_target(_share(fpir))
            if vectors is not None:
                strangers.admit(self._store, event, tower.id, "given", rows, vectors)

    def _calibration(self) -> Calibration:
        with self._store.reading():
            state = self._refresh()
            tower = self._active()
            learned = self._threshold(state, None)
            searches = self._store.strangers(tower.id, tower.dimension)
            _, identities, vectors = self._store.all_templates(tower.id, tower.dimension)
        misses, mated = calibration.mated_misses(vectors, identities, learned.tau)
        met = np.isfinite(searches.distances)
        return Calibration(
            threshold=learned.tau,
            fpir_interval=learned.interval(),
            evidence=learned.evidence,
            strangers={s: searches.sources.count(s) for s in sorted(set(searches.sources))},
            enrolled_strangers=int(np.sum(searches.own >= 0)),
            set_aside=int(np.sum(~met)),
            misses=misses,
            mated=mated,
            fnir=misses / mated if mated else None,
            fnir_interval=calibration.share_interval(misses, mated),
            identities=state.identities,
            revision=state.revision[0],
        )

    # -- towers -------------------------------------------------------------------------------

    def towers(self) -> list[tuple[TowerRow, bool]]:
        """Return the gallery's towers in the order they came, each with whether it is active."""
        with self._store.reading():
            active = self._store.settings()[0]
            return [(row, row.id == active) for row in self._store.towers()]

    def tower_record(self, tower: str | None = None) -> tuple[TowerRow, bool]:
        """Return what is known of a tower (None: the active one), and whether it is active. Raises Missing."""
        active = self._active()
        row = active if tower is None else self._find_tower(tower)
        return row, row.id == active.id

    def tower_file(self, tower: str | None = None) -> TowerFile:
        """Return a tower of this gallery as a tower file, without its strangers. None means the active one."""
        row, _ = self.tower_record(tower)
        if not row.has_network:
            raise BadInput(f"{self.path}: this gallery holds vectors; there is no tower to take out.")
        onnx, keras = self._store.network(row.id)
        return TowerFile(onnx, keras, row.card)

    def add_tower(self, tower: TowerFile | str | Path, report: dict[str, Any] | None = None) -> str:
        """Store a tower as an inactive candidate, with the figures it was judged by; return its id."""
        content = TowerFile.read(tower) if isinstance(tower, (str, Path)) else tower
        Tower(content.onnx, content.card, content.id)
        with self._store.writing("add tower"):
            if all(row.sha256 != content.id for row in self._store.towers()):
                _insert_tower(self._store, self._store.record("add tower", tower=content.id), content, report)
        return content.id

    def promote(self, tower: str, progress: Progress | None = None) -> int:
        """Make a stored tower the active one; return how many samples it had to embed.

        `tower` is its id, or the beginning of it. Searches go on with the old tower until one
        transaction switches. Interrupted, it can be repeated and goes on where it was.
        """
        row = self._find_tower(tower)
        if row.id == self._active().id:
            raise BadInput(f"Tower {row.sha256[:12]} is the active one already.")
        return self._activate(row, None, progress)

    def rollback(self, progress: Progress | None = None) -> str:
        """Go back to the generation before the active one; return its tower's id.

        Samples enrolled since are embedded with it first. Raises BadInput when there is none.
        """
        with self._store.reading():
            active = self._store.active_generation()
            before = active[1] if active else None
            if before is None:
                raise BadInput("There is no generation to go back to.", "This gallery has only had one tower.")
            row = self._store.tower(self._store.generation_tower(before))
        self._activate(row, before, progress)
        return row.sha256

    def _activate(self, row: TowerRow, generation: int | None, progress: Progress | None) -> int:
        tower = self._open_tower(row)
        expected = self._active().id
        embedded = 0
        while True:  # in pieces, while others search and enroll
            with self._store.reading():
                missing = self._store.without_template(row.id, CHUNK)
            if not missing:
                break
            vectors = self._embed_kept(tower, missing)
            with self._store.writing("embed"):
                self._store.record("embed", tower=row.sha256, samples=len(missing))
                self._store.add_templates(row.id, [sample for sample, _ in missing], vectors)
            embedded += len(missing)
            if progress:
                progress(len(missing))
        verb = "promote" if generation is None else "rollback"
        with self._store.writing(verb):
            if self._store.settings()[0] != expected:
                raise Locked(f"{self.path}: the tower was swapped meanwhile.", remedy="Look again: sidx towers list")
            event = self._store.record(verb, tower=row.sha256)
            late = self._store.without_template(row.id, -1)  # enrolled since the last look
            if late:
                self._store.add_templates(row.id, [s for s, _ in late], self._embed_kept(tower, late))
            given = self._store.strangers_to_embed(row.id)
            if given:
                vectors = self._embed_kept(tower, given)
                self._store.add_searches(row.id, [s for s, _ in given], vectors)
            strangers.recompute(self._store, row.id, row.dimension)
            if generation is None:
                self._store.begin_generation(event, row.id)
            else:
                self._store.activate(generation)
        return embedded + len(late)

    def _embed_kept(self, tower: Tower, kept: Sequence[tuple[int, bytes | None]]) -> Vectors:
        without = [sample for sample, picture in kept if picture is None]
        if without:
            raise BadInput(
                f"{len(without)} samples have no picture in this gallery (first: sample {without[0]}).",
                "Another tower cannot embed what was not kept.",
                "Enroll them again in a gallery that keeps pictures.",
            )
        return tower.embed([tower.prepare(picture) for _, picture in kept if picture is not None])

    def _find_tower(self, tower: str) -> TowerRow:
        with self._store.reading():
            found = [row for row in self._store.towers() if row.sha256.startswith(tower.lower())] if tower else []
        if len(found) != 1:
            what = "is not in this gallery" if not found else f"is the beginning of {len(found)} towers"
            raise Missing(f"Tower {tower!r} {what}.", remedy="See them: sidx towers list")
        return found[0]

    # -- whole galleries ----------------------------------------------------------------------

    def kept_pictures(self) -> tuple[list[tuple[str, bytes]], int]:
        """Return ((identity, picture), ...) in the order of enrollment, and how many samples have no picture."""
        with self._store.reading():
            rows = self._store.pictures()
        kept = [(name, picture) for name, picture in rows if picture is not None]
        return kept, len(rows) - len(kept)

    def backup(self, path: str | Path) -> None:
        """Write a complete, consistent copy of the gallery to `path`, durably, while it is in use."""
        if Path(path).exists() and Path(path).samefile(self.path):
            raise BadInput(f"{path} is the gallery itself.", remedy="Choose another file.")
        self._store.backup(Path(path))

    @staticmethod
    def restore(backup: str | Path, path: str | Path, *, replace: bool = False) -> Path | None:
        """Make the gallery `path` what `backup` is; return where its former content was put, if it had any.

        Raises BadInput when `path` exists and `replace` is false, Missing or Damaged for the backup.
        """
        source, target = Store(Path(backup)), Path(path)
        try:
            problems = source.problems()
            if problems:
                raise Damaged(f"{backup}: this backup is damaged.", problems[0], "Use another backup.")
            if not target.exists():
                source.backup(target)
                return None
            if not replace:
                raise BadInput(
                    f"{path}: exists already.", remedy="Add --replace; its present content is put beside it."
                )
            gallery = Store(target)
            try:
                former = target.with_name(f"{target.name}.before-restore-{gallery.revision()[0]}")
                gallery.backup(former)
                gallery.restore(source)
            finally:
                gallery.close()
            return former
        finally:
            source.close()


def clean_name(name: str) -> str:
    """Return the name as it is stored: NFC, without spaces around it.

    Raises BadInput for an empty name, one of more than NAME_LIMIT characters, or one with line
    breaks or other control characters.
    """
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not cleaned:
        raise BadInput("The name is empty.", remedy="Give the identity a name.")
    if len(cleaned) > NAME_LIMIT:
        raise BadInput(f"The name has {len(cleaned):,} characters.", f"At most {NAME_LIMIT} are kept.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in cleaned):
        raise BadInput(f"The name {cleaned!r} contains line breaks or control characters.")
    return cleaned


def picture_name(picture: str | Path | bytes, number: int) -> str:
    """Return what to call a picture in answers: its path, or its number."""
    return f"picture {number}" if isinstance(picture, bytes) else str(picture)


_GIVEN = Evidence("given", None, 0, 0.0, 0, None, 0)


def _first_of_each(
    ids: NDArray[np.int64], distance: NDArray[np.float64], owners: dict[int, tuple[str, int]], wanted: int
) -> list[Candidate]:
    candidates: dict[str, Candidate] = {}
    for template, d in zip(ids.tolist(), distance.tolist(), strict=True):
        owner = owners.get(template)
        if owner is not None and owner[0] not in candidates:
            candidates[owner[0]] = Candidate(len(candidates) + 1, owner[0], d, owner[1])
            if len(candidates) == wanted:
                break
    return list(candidates.values())


def _insert_tower(store: Store, event: int, content: TowerFile, report: dict[str, Any] | None) -> int:
    cohort = content.cohort
    table = calibration.false_match_table(cohort.vectors, cohort.names)
    row = store.add_tower(
        event, content.id, int(content.card["dimension"]), content.card, table, content.onnx, content.keras, report
    )
    rows = [(n, bytes.fromhex(d), None) for n, d in zip(cohort.names, cohort.digests, strict=True)]
    strangers.admit(store, event, row, "tower", rows, cohort.vectors)
    return row


def _share(value: float) -> float:
    if not 0 < value < 1:
        raise BadInput(f"{value} is not a share of strangers.", "Expected a number between 0 and 1, such as 0.01.")
    return float(value)


def _limits(k: int, fpir: float | None, threshold: float | None) -> None:
    if not 1 <= k <= 1000:
        raise BadInput(f"{k} candidates cannot be listed.", "Expected 1 to 1000.")
    if fpir is not None and threshold is not None:
        raise BadInput("--fpir and --threshold exclude each other.", "One derives the distance, the other sets it.")
    if fpir is not None:
        _share(fpir)
    if threshold is not None and not 0 <= threshold <= 2:
        raise BadInput(f"{threshold} is not a distance between unit vectors.", "Expected 0 to 2.")
