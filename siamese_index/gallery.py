"""The gallery: enroll identities, identify probes, keep the threshold true, swap towers."""

from __future__ import annotations

import hashlib
import itertools
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import enrollment, promote
from .calibrate import Calibration, Stranger, calibrate, calibrated
from .enrollment import Conflicts, Enrolling, Enrollment, Terms
from .errors import BadInput, Missing, Refusal, SiameseIndexError
from .identify import Answering, Outlook, Question, Verification, share
from .samples import images
from .samples.images import Picture, Progress, picture_name
from .samples.sources import clean_name
from .search.fusion import all_distances, fused_by_identity, to_identity
from .store.backup import backup, restore
from .store.opening import connect, creating
from .store.rows import Fusion, IdentityRow, SampleRow, TowerRow
from .store.store import Store
from .thresholds.decision import Decision
from .thresholds.learning import DEFAULT_FPIR, Threshold
from .towers.embedding import ahead, local
from .towers.tower import BATCH, Taken, Tower
from .towers.tower_file import TowerFile
from .vectors import Vectors, distances, unit, unpack

if TYPE_CHECKING:
    from .analysis.audit import Audit
    from .analysis.index_status import IndexStatus
    from .analysis.replay import Replay
    from .thresholds.impostor_searches import Cohort
    from .thresholds.planning import Capacity, Plan, Planner


@dataclass(frozen=True, slots=True)
class _Probe:
    """A picture on its way to an answer."""

    name: str
    data: bytes
    tower: str  # the id of the tower that it was prepared for
    taken: Taken
    ms: float  # that reading and decoding took


def _probe(tower: Tower, numbered: tuple[int, Picture]) -> _Probe | Refusal:
    number, picture = numbered
    name, begin = picture_name(picture, number), time.perf_counter()
    try:
        data = images.read(picture)
        return _Probe(name, data, tower.id, tower.prepare(data), (time.perf_counter() - begin) * 1000)
    except SiameseIndexError as error:
        return Refusal(name, images.named(name, error))


def _tags(tags: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Return tags as they are stored, by key.

    Raises BadInput for a key or value that is empty or not text of one line, and for two of one key.
    """
    given = (tags or {}).items()
    found = [(clean_name(key, "tag"), clean_name(value, f"value of the tag {key!r}")) for key, value in given]
    if len(dict(found)) < len(found):
        raise BadInput("A tag is given twice.", f"Found {', '.join(f'{k}={v}' for k, v in found)}.")
    return tuple(sorted(found))


class Gallery:
    """One gallery file. `Gallery.open` and `Gallery.create` make it; close it, or use it with `with`.

    Pictures are given as paths or as the bytes of a picture file, vectors as arrays (n, dimension).
    Every method that changes something is one durable transaction, and returns when it is on disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answering = Answering(store)
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
        nodes: Sequence[str] = (),
    ) -> Gallery:
        """Make a new gallery, of a tower or of vectors with `dimension` numbers from elsewhere.

        It is a file, or at a postgresql:// address in that database; then its templates may be spread over
        `nodes`, addresses of further servers.
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
        with creating(path, share(fpir), keep_pictures, nodes) as store:
            event = store.record("init")
            if content is not None:
                row = promote.insert_tower(store, event, content, None)
            else:
                nothing = np.zeros((2, 0), np.float32)
                row = store.add_tower(event, f"vectors-{dimension}", dimension or 0, {}, nothing, None, None, None)
            store.begin_generation(event, row)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Open a gallery, a file or at a postgresql:// address.

        Raises Missing, Damaged, or BadInput for one of a newer program.
        """
        return cls(connect(path))

    def close(self) -> None:
        """Close the file. Nothing is written: what was acknowledged is on disk already."""
        self._answering.close()
        self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def path(self) -> Path | str:
        """Where it is: a file, or the address of a server, without a password."""
        return self._store.path

    @property
    def revision(self) -> int:
        """The number of changes that this gallery has seen."""
        with self._store.reading():
            return self._store.revision()[0]

    def _active(self) -> TowerRow:
        with self._store.reading():
            return self._answering.state().active

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

    def enroll(
        self,
        name: str,
        pictures: Sequence[Picture],
        *,
        conflicts: Conflicts = "refuse",
        floor: Mapping[str, float] | None = None,
        dry_run: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Enrollment:
        """Enroll pictures under `name`, all of them or none: any refusal is raised as an error.

        Enrolling the same picture under the same name again changes nothing and is reported in
        `already`; under another name it raises BadInput. A picture that looks like another enrolled
        identity, by a threshold that strangers set, raises Conflict unless `conflicts` is "allow"; one below a
        `floor` of quality (see `quality.quality`), or unreadable, raises Unreadable. With `dry_run`
        nothing is kept, and the answer says what would become of it. The identity gets the `tags`, beside
        those it has.
        """
        items = [(name, picture) for picture in pictures]
        enrolling = self._enrolling(Terms(conflicts, floor or {}, dry_run, _tags(tags)))
        return enrolling.pictures(items, lambda: local(self.tower), strict=True)

    def enroll_many(
        self,
        items: Iterable[tuple[str, Picture]],
        progress: Progress | None = None,
        *,
        conflicts: Conflicts = "refuse when sure",
        floor: Mapping[str, float] | None = None,
        dry_run: bool = False,
        tags: Mapping[str, str] | None = None,
        dask: str | None = None,
    ) -> Enrollment:
        """Enroll (name, picture) items; the good ones are enrolled, the others listed in `refused`.

        Durable after every `enrolling.CHUNK` pictures, so an interrupted run can simply be repeated. Conflicts are
        refused when the threshold promises an FPIR of at most 2 %: a weak one would accuse too many. The
        rest is as for `enroll`; a dry run is one transaction. `dask` is the address of a Dask scheduler whose
        workers embed (docs/workers.md); the result is the same.
        """
        enrolling = self._enrolling(Terms(conflicts, floor or {}, dry_run, _tags(tags)))
        if dask is None:
            return enrolling.pictures(items, lambda: local(self.tower), progress)
        from .towers.workers import Workers

        with Workers(dask, self.tower_file(), self.tower) as workers:
            return enrolling.pictures(items, lambda: workers.embed, progress)

    def enroll_vectors(
        self,
        names: Sequence[str],
        vectors: Any,
        *,
        conflicts: Conflicts = "refuse when sure",
        tags: Mapping[str, str] | None = None,
    ) -> Enrollment:
        """Enroll vectors (n, dimension) of an outside embedder under `names` (n,), in one transaction.

        For some thousands at most: `enroll_many_vectors` takes any number. Raises BadInput, and enrolls
        nothing, for any name or vector that is not acceptable; Conflict for one that looks like another
        identity, as for `enroll_many`.
        """
        return self._enrolling(Terms(conflicts, tags=_tags(tags))).vectors(names, vectors, strict=True)

    def enroll_many_vectors(
        self,
        names: Sequence[str],
        vectors: Any,
        progress: Progress | None = None,
        *,
        conflicts: Conflicts = "refuse when sure",
        tags: Mapping[str, str] | None = None,
    ) -> Enrollment:
        """As `enroll_vectors`, for any number of them, which may be memory-mapped; conflicts are listed in `refused`.

        All names and vectors are checked before the first is enrolled; then every `enrolling.VECTOR_CHUNK` are durable,
        so an interrupted call can simply be repeated.
        """
        return self._enrolling(Terms(conflicts, tags=_tags(tags))).vectors(names, vectors, progress)

    def _enrolling(self, terms: Terms) -> Enrolling:
        return Enrolling(self._store, self._answering, self._active, terms)

    def outlook(self) -> Outlook:
        """Return what the gallery promises now, and what it costs."""
        with self._store.reading():
            return self._answering.outlook()

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
        with self._store.writing("rename"):
            identity = self._known(name)
            if self._store.identity(new) is not None:
                raise BadInput(f"{new!r} is enrolled already.", remedy="Choose another name.")
            cohort = self._caught_up()
            self._store.record("rename", identity=identity)
            self._store.rename(identity, new)
            if cohort:
                cohort.renamed(unicodedata.normalize("NFC", name), new)
                cohort.seen()

    def tag(self, name: str, tags: Mapping[str, str | None]) -> None:
        """Give an identity tags, in place of those with the same keys; None takes one away. Raises Missing."""
        removed = {clean_name(key) for key, value in tags.items() if value is None}
        given = _tags({key: value for key, value in tags.items() if value is not None})
        twice = removed & {key for key, _ in given}
        if twice:
            raise BadInput(f"The tag {min(twice)!r} is both set and taken away.")
        with self._store.writing("tag"):
            identity = self._known(name)
            cohort = self._caught_up()
            self._store.record("tag", identity=identity)
            self._store.tag([identity], [*given, *((key, None) for key in sorted(removed))])
            if cohort:
                cohort.seen()

    def remove(self, name: str) -> int:
        """Take an identity out of the gallery; return how many samples it had. Raises Missing."""
        with self._store.writing("remove"):
            identity = self._known(name)
            samples = len(self._store.samples(name))
            cohort = self._caught_up()
            self._store.remove(identity, self._store.record("remove", identity=identity, samples=samples))
            if cohort:
                cohort.removed(identity)
                cohort.seen()
        return samples

    def _caught_up(self) -> Cohort | None:
        """Return the non-mated searches, as they are before this transaction changes something."""
        tower = self._answering.state().tower
        return self._answering.before_change(tower.id) if tower else None

    def _known(self, name: str) -> int:
        identity = self._store.identity(unicodedata.normalize("NFC", name))
        if identity is None:
            raise Missing(f"{name!r} is not enrolled in {self.path}.", remedy="See who is: sidx identities list")
        return identity

    # -- identifying --------------------------------------------------------------------------

    def identify(
        self,
        picture: Picture,
        *,
        k: int = 5,
        fpir: float | None = None,
        threshold: float | None = None,
        exact: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Decision:
        """Return who the picture shows, or that it is unknown.

        `k` candidates are listed. `fpir` is the share of strangers that may match, instead of the
        gallery's; `threshold` is a distance (0..2) instead of a learned one. Verdict and identity are
        always those of an exact search; `exact` makes the candidates behind them so too, in a gallery so
        large that they are found in a coarse image. Only identities with all of `tags` are searched, at
        the threshold of the whole gallery: of fewer, fewer strangers are taken for somebody. Raises
        Unreadable.
        """
        question = Question(k, fpir, threshold, exact, _tags(tags))
        answer = next(self._identify([picture], question))
        if isinstance(answer, Refusal):
            raise answer.error
        return answer

    def identify_many(
        self,
        pictures: Iterable[Picture],
        *,
        k: int = 5,
        fpir: float | None = None,
        threshold: float | None = None,
        exact: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[Decision | Refusal]:
        """Yield an answer per picture, in order; a Refusal for one that cannot be read. As `identify`."""
        return self._identify(pictures, Question(k, fpir, threshold, exact, _tags(tags)))

    def _identify(self, pictures: Iterable[Picture], question: Question) -> Iterator[Decision | Refusal]:
        tower = self._tower or self.tower  # if another is active by now, `_answer` sees it
        probes = ahead(partial(_probe, tower), enumerate(pictures))
        while batch := list(itertools.islice(probes, BATCH)):
            yield from self._answer(batch, question)

    def _answer(self, batch: Sequence[_Probe | Refusal], question: Question) -> Iterator[Decision | Refusal]:
        decided = None
        while decided is None:
            tower = self._tower or self.tower  # if another is active by now, `decide` sees it
            probes = [each for each in batch if isinstance(each, _Probe)]
            begin = time.perf_counter()
            vectors = tower.embed([p.taken if p.tower == tower.id else tower.prepare(p.data) for p in probes])
            each = 1000 / max(1, len(probes))
            ms = {"decode": sum(p.ms for p in probes) * each / 1000, "embed": (time.perf_counter() - begin) * each}
            decided = self._answering.decide(tower.id, [p.name for p in probes], vectors, question, ms)
            if decided is None:
                self._tower = None
        if self._answering.logs:
            self._log(decided, vectors, [tower.bounded(probe.data) for probe in probes])
        answers = iter(decided)
        for one in batch:
            yield one if isinstance(one, Refusal) else next(answers)

    def identify_vectors(
        self,
        vectors: Any,
        *,
        k: int = 5,
        fpir: float | None = None,
        threshold: float | None = None,
        exact: bool = False,
        tags: Mapping[str, str] | None = None,
        log: bool = True,
    ) -> list[Decision]:
        """Return one answer per vector (n, dimension) of the embedder that this gallery was filled with.

        `log` False keeps them out of the decision log: a test is no decision. The rest is as for `identify`.
        """
        question = Question(k, fpir, threshold, exact, _tags(tags))
        ms = {"decode": 0.0, "embed": 0.0}
        row, decided = self._answering.tower or self._active(), None
        while decided is None:
            rows = unit(vectors, row.dimension)
            names = [f"row {i}" for i in range(len(rows))]
            decided = self._answering.decide(row.sha256, names, rows, question, ms)
            row = self._active() if decided is None else row
        if log and decided and self._answering.logs:
            self._log(decided, rows, [None] * len(rows))
        return decided

    def _log(self, decided: Sequence[Decision], vectors: Vectors, pictures: Sequence[bytes | None]) -> None:
        """Log answers durably before they are given. An answer that cannot be logged is not given."""
        keep, row = self._store.settings().keep_pictures, self._active()
        rows = [(d, v.tobytes(), p if keep else None) for d, v, p in zip(decided, vectors, pictures, strict=True)]
        with self._store.writing("log"):
            self._store.log.add(row.id, rows)

    def log(self, on: bool | None = None, *, clear: bool = False) -> tuple[bool, int]:
        """Switch the decision log on or off, or empty it; return whether it is on, and how many answers it holds.

        It keeps each probe's vector, its picture where the gallery keeps pictures, and the answer with
        tower, threshold and revision: what `replay` asks again. It is in the gallery, nowhere else.
        """
        if on is not None or clear:
            with self._store.writing("log"):
                self._store.record("log", on=on, cleared=clear)
                if on is not None:
                    self._store.set_log(on)
                if clear:
                    self._store.log.clear()
        with self._store.reading():
            return self._store.settings().log, self._store.log.count()

    def replay(self, tower: str | None = None) -> Replay:
        """Ask every logged answer again, of a stored tower (its id or the beginning of it; None: the active one)."""
        from .analysis.replay import replay

        row, _ = self.tower_record(tower)
        return replay(self._store, self._answering, row, self._open_tower(row) if row.has_network else None)

    def verify(self, a: Picture, b: Picture, *, fmr: float | None = None) -> Verification:
        """Say whether two pictures show the same identity, enrolled or not. Raises Unreadable.

        `fmr` is the share of comparisons between strangers that may match (the gallery's target when
        None). Without strangers in the gallery the answer is unknown.
        """
        first, second = self._embedded(a, b)
        return self._answering.verified(float(distances(first, second)), fmr)

    def verification_threshold(self, fmr: float | None = None) -> float | None:
        """Return the distance at which `fmr` of strangers' comparisons match; None without any."""
        with self._store.reading():
            return self._answering.verification_threshold(fmr)[0]

    def verify_as(self, picture: Picture, name: str, *, fmr: float | None = None) -> Verification:
        """Say whether the picture shows the enrolled identity `name`, by its fused distance. Raises Missing."""
        row, probe = self._active(), self._embedded(picture)
        with self._store.reading():
            _, vectors = self._store.templates_of(row.id, row.dimension, self._known(name))
            fusion = self._store.settings().fusion
        return self._answering.verified(to_identity(probe, vectors, fusion), fmr)

    def _embedded(self, *pictures: Picture) -> Vectors:
        pixels = []
        for number, picture in enumerate(pictures):
            try:
                pixels.append(self.tower.prepare(images.read(picture)))
            except SiameseIndexError as error:
                raise images.named(picture_name(picture, number), error) from None
        return self.tower.embed(pixels)

    # -- the index ----------------------------------------------------------------------------

    def rebuild_index(self, progress: Progress | None = None) -> None:
        """Write the cached index anew, of everything enrolled. Raises Missing when it cannot be written."""
        with self._store.reading():
            self._answering.searcher(self._answering.state()).index.rebuild(progress)

    def index_status(self) -> IndexStatus:
        """Return what finds the nearest templates, why, and how often it finds what an exact search does."""
        from .analysis.index_status import measured

        with self._store.reading():
            state = self._answering.state()
            return measured(self._store, self._answering.searcher(state).index, self._active(), state)

    # -- the threshold ------------------------------------------------------------------------

    def threshold(self, fpir: float | None = None) -> Threshold:
        """Return the learned threshold for this FPIR (the gallery's target when None) and its evidence."""
        with self._store.reading():
            return self._answering.state().threshold(fpir)

    def calibrate(
        self,
        *,
        fpir: float | None = None,
        strangers_given: Iterable[tuple[str, Picture]] = (),
        fusion: Fusion | Literal["auto"] | None = None,
        progress: Progress | None = None,
    ) -> tuple[Calibration, list[Refusal]]:
        """Set the target FPIR, add strangers (name, picture), choose the fusion; report the threshold and its cost.

        Strangers are people or things that are not enrolled; their pictures are kept with the gallery.
        `fusion` "auto" is the rule with the fewest misses at the target. Returns the calibration and the
        strangers that could not be read.
        """
        row, taken, given = self._active(), Enrollment(), list(strangers_given)
        rows: list[Stranger] = []
        vectors: Vectors = np.zeros((0, 0), np.float32)
        if given:
            tower = self.tower
            samples, vectors = enrollment.take(given, local(tower), tower.dimension, taken, False, progress=progress)
            rows = [(name, digest, kept) for name, digest, _, kept in samples]
        calibrate(self._store, self._answering, row.id, fpir, rows, vectors, fusion)
        return calibrated(self._store, self._answering), taken.refused

    def calibrate_vectors(
        self,
        *,
        fpir: float | None = None,
        names: Sequence[str] = (),
        vectors: Any = None,
        fusion: Fusion | Literal["auto"] | None = None,
    ) -> Calibration:
        """As `calibrate`, for a gallery of vectors: strangers `vectors` (n, dimension) and whose they are."""
        tower = self._active()
        rows = np.zeros((0, tower.dimension), np.float32) if vectors is None else unit(vectors, tower.dimension)
        if len(names) != len(rows):
            raise BadInput(f"{len(names)} names for {len(rows)} vectors.", "Each vector needs its name.")
        digests = [hashlib.sha256(row.tobytes()).digest() for row in rows]
        named = [(clean_name(n), d, None) for n, d in zip(names, digests, strict=True)]
        calibrate(self._store, self._answering, tower.id, fpir, named, rows, fusion)
        return calibrated(self._store, self._answering)

    def planner(self) -> Planner:
        """Return what plans sizes that the gallery does not have, from its strangers. Raises BadInput with too few."""
        from .thresholds.planning import Planner

        with self._store.reading():
            tower = self._active()
            rows = self._store.searches.strangers(tower.id, tower.dimension)
        return Planner(rows.vectors, rows.names)

    def plan(self, identities: int, *, fpir: float | None = None) -> Plan:
        """Return what the tower promises and costs with so many `identities`, from one picture each."""
        return self.planner().plan(identities, self._target(fpir))

    def capacity(self, *, fpir: float | None = None, fnir: float = 0.1) -> Capacity:
        """Return how many identities the tower can hold at the target before more than `fnir` of searches miss."""
        return self.planner().capacity(self._target(fpir), share(fnir))

    def audit(self, progress: Progress | None = None) -> Audit:
        """Examine what is enrolled: what is mistaken, doubled, unlike the rest, hit by strangers or missed."""
        from .analysis.audit import audit

        return audit(self._store, self._answering, progress)

    def embed(self, pictures: Sequence[Picture]) -> tuple[Vectors, dict[int, Refusal]]:
        """Return vectors (m, dimension) of the pictures that can be read, in order, and by position the others.

        A gallery of vectors takes the bytes of .npy files.
        """
        row, ready, refusals = self._active(), [], {}
        for i, picture in enumerate(pictures):
            try:
                data = images.read(picture)
                ready.append(self.tower.prepare(data) if row.has_network else unit(unpack(data), row.dimension)[0])
            except SiameseIndexError as error:
                name = picture_name(picture, i)
                refusals[i] = Refusal(name, images.named(name, error))
        if row.has_network:
            return self.tower.embed(ready), refusals
        return np.array(ready, np.float32).reshape(-1, row.dimension), refusals

    def distances(self, vectors: Vectors) -> tuple[list[str], NDArray[np.float32]]:
        """Return the enrolled names, and the fused distance of each vector (n, dimension) to each: float32 (n, N)."""
        with self._store.reading():
            row, fusion = self._active(), self._store.settings().fusion
            _, identities, templates = self._store.templates_after(row.id, row.dimension, 0)
            names = self._store.identity_names()
        order = np.argsort(identities, kind="stable")
        groups, starts = np.unique(identities[order], return_index=True)
        out = np.empty((len(vectors), len(groups)), np.float32)
        for first in range(0, len(vectors) if len(groups) else 0, 256):
            block = all_distances(vectors[first : first + 256], templates[order])
            out[first : first + 256] = fused_by_identity(block, starts, fusion)
        return [names[i] for i in groups.tolist()], out

    def nearest_sample(self, vector: NDArray[np.float32], name: str) -> int:
        """Return the id of the identity's sample that is nearest to a vector (dimension,). Raises Missing."""
        with self._store.reading():
            row = self._active()
            ids, templates = self._store.templates_of(row.id, row.dimension, self._known(name))
            nearest = int(ids[distances(templates, vector).argmin()])
            return self._store.owners([nearest])[nearest][1]

    def template(self, sample: int) -> NDArray[np.float32]:
        """Return the vector (dimension,) of an enrolled sample by the active tower. Raises Missing."""
        with self._store.reading():
            row = self._active()
            vector = self._store.template(row.id, row.dimension, sample)
        if vector is None:
            raise Missing(f"There is no sample {sample}.", remedy="See: sidx samples list")
        return vector

    def picture(self, sample: int) -> bytes | None:
        """Return a sample as it was kept, None when it was not."""
        return self._store.picture(sample)

    def _target(self, fpir: float | None) -> float:
        return self._store.settings().target_fpir if fpir is None else share(fpir)

    # -- towers -------------------------------------------------------------------------------

    def towers(self) -> list[tuple[TowerRow, bool]]:
        """Return the gallery's towers in the order they came, each with whether it is active."""
        with self._store.reading():
            active = self._store.settings().tower
            return [(row, row.id == active) for row in self._store.towers()]

    def tower_record(self, tower: str | None = None) -> tuple[TowerRow, bool]:
        """Return what is known of a tower (None: the active one), and whether it is active. Raises Missing."""
        active = self._active()
        row = active if tower is None else promote.find_tower(self._store, tower)
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
                promote.insert_tower(self._store, self._store.record("add tower", tower=content.id), content, report)
        return content.id

    def promote(self, tower: str, progress: Progress | None = None) -> int:
        """Make a stored tower the active one; return how many samples it had to embed.

        `tower` is its id, or the beginning of it. Searches go on with the old tower until one
        transaction switches. Interrupted, it can be repeated and goes on where it was.
        """
        row = promote.find_tower(self._store, tower)
        active = self._active()
        if row.id == active.id:
            raise BadInput(f"Tower {row.sha256[:12]} is the active one already.")
        return promote.switch(self._store, self._answering, active.id, row, self._open_tower(row), None, progress)

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
        promote.switch(self._store, self._answering, self._active().id, row, self._open_tower(row), before, progress)
        return row.sha256

    # -- whole galleries ----------------------------------------------------------------------

    def pictures(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield (identity, sample as it was kept) in the order of enrollment; None where none was kept."""
        with self._store.reading():
            yield from self._store.pictures()

    def backup(self, path: str | Path) -> None:
        """Write a complete, consistent copy of the gallery to `path`, durably, while it is in use."""
        backup(self._store, Path(path))

    @staticmethod
    def restore(backup: str | Path, path: str | Path, *, replace: bool = False) -> Path | None:
        """Make the gallery `path` what `backup` is; return where its former content was put, if it had any.

        `path` may be a file, or a postgresql:// address without a gallery. Raises BadInput when it is there
        already and `replace` is false, Missing or Damaged for the backup.
        """
        return restore(Path(backup), path, replace)
