"""The gallery: enroll identities, identify probes, keep the threshold true, swap towers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from . import identify
from ._package import when_used
from .errors import Refusal
from .files import path_of
from .identify import Verification
from .samples.images import Picture, Progress, each, several
from .session import Session, State
from .store.opening import connect
from .store.rows import IdentityRow, SampleRow, StrangerRow, TowerRow
from .store.store import Store
from .store.turns import Turn, in_turns, takes_its_turns
from .thresholds.decision import Decision
from .thresholds.learning import DEFAULT_FPIR, Outlook, Threshold
from .thresholds.question import Asked, Question, share
from .towers.embedding import Embedder
from .towers.tower import Tower
from .vectors import Vectors

if TYPE_CHECKING:
    from . import calibrate, enrollment, promote
    from .analysis import audit, index_status, replay
    from .analysis.audit import Audit
    from .analysis.index_status import IndexStatus
    from .analysis.replay import Replay
    from .calibrate import Choices
    from .curation import curation, history, identities, purge
    from .curation.curation import Curation
    from .enrollment import Enrollment, SampleTerms, VectorTerms
    from .promote import Told
    from .store import backup
    from .thresholds.calibration import Calibration
    from .thresholds.planning import Capacity, Plan
    from .towers.mapping import VectorMap
    from .towers.tower_file import TowerFile
else:  # most commands need none of them
    calibrate, enrollment, promote, backup, audit, index_status, replay = when_used(
        "calibrate", "enrollment", "promote", "store.backup", "analysis.audit", "analysis.index_status",
        "analysis.replay",
    )  # fmt: skip
    identities, curation, history, purge = when_used(
        "curation.identities", "curation.curation", "curation.history", "curation.purge"
    )


@in_turns
class Gallery:
    """One gallery. `Gallery.open` and `Gallery.create` make it; close it, or use it with `with`.

    Samples are pictures: paths, bytes of picture files, open files, uint8 pixels in RGB, PIL images; in a gallery of
    vectors .npy of one row. A method that changes something is one durable transaction. Threads take turns.
    """

    def __init__(self, store: Store) -> None:
        self._session, self._turn = Session(store), Turn(store)
        self._session.finish()

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
        """Make a new gallery, of a tower or of vectors with `dimension` numbers from elsewhere; `fpir` is its target.

        `path` may be a postgresql:// address, `nodes` those of further servers. Raises BadInput, Missing, Damaged.
        """
        promote.new_gallery(path, tower, dimension, fpir, keep_pictures, nodes)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Open a file, or a postgresql:// address. Raises Missing, Damaged, or BadInput for one of a newer program."""
        return cls(connect(path))

    def close(self) -> None:
        """Close the file. Nothing is written: what was acknowledged is on disk already."""
        self._session.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Gallery {self.path}{', closed' if self._session.closed else ''}>"

    @property
    def path(self) -> Path | str:
        """Where it is: a file, or the address of a server, without a password."""
        return self._session.path

    @property
    def revision(self) -> int:
        """The number of changes that this gallery has seen."""
        with self.reading() as state:
            return state.revision[0]

    @property
    def tower(self) -> Tower:
        """The active tower, opened when first used. Raises BadInput in a gallery of vectors."""
        return self._session.network(self._session.active())

    @property
    def holds_vectors(self) -> bool:
        """Whether this gallery takes vectors of an outside embedder instead of pictures."""
        return not self._session.active().has_network

    def reading(self) -> AbstractContextManager[State]:
        """One consistent state of the gallery for everything that is asked of it inside."""
        return self._session.reading()

    def embedder(self, tower: str | None = None) -> Embedder:
        """Return what turns samples into vectors as a stored tower does (None: the active one)."""
        return self._session.embedder(None if tower is None else self.tower_record(tower)[0])

    def enroll(self, name: str, pictures: Sequence[Picture], **terms: Unpack[SampleTerms]) -> Enrollment:
        """Enroll pictures under `name`, all of them or none: any refusal is raised as an error.

        Options are `conflicts` ("refuse", "refuse when sure", "allow"), `floor`, `dry_run`, `tags` and `box` (x, y,
        width, height): only this part of each picture, or the face that is there.

        The same picture under the same name again changes nothing and is reported in `already`; under another
        name it raises BadInput. A picture that looks like another enrolled identity, by a threshold that
        strangers set, raises Conflict unless `conflicts` is "allow"; one below a `floor` of quality (see
        `quality.quality`), or unreadable, raises Unreadable. With `dry_run` nothing is kept, and the answer says
        what would become of it. The identity gets the `tags`, beside those it has.
        """
        given = enrollment.Terms.of({"conflicts": "refuse", **terms}, strict=True, kind=enrollment.SampleTerms)
        return enrollment.enroll(self._session, [(name, picture) for picture in several(pictures)], given)

    def enroll_many(
        self,
        items: Iterable[tuple[str, Picture]],
        progress: Progress | None = None,
        *,
        dask: str | None = None,
        **terms: Unpack[SampleTerms],
    ) -> Enrollment:
        """Enroll (name, picture) items; the good ones are enrolled, the others listed in `refused`.

        Durable after every `enrollment.CHUNK`, so an interrupted run can simply be repeated. Conflicts are refused when
        the threshold promises an FPIR of at most 2 %: a weaker one would refuse too many. A dry run is one transaction.
        `dask` is the address of a Dask scheduler whose workers embed. The rest is as for `enroll`.
        """
        given = enrollment.Terms.of(terms, kind=enrollment.SampleTerms)
        return enrollment.enroll_many(self._session, self._turn.outside(items), given, progress, dask)

    def enroll_vectors(self, names: Sequence[str], vectors: Any, **terms: Unpack[VectorTerms]) -> Enrollment:
        """Enroll some thousand vectors (n, dimension) of an outside embedder under `names` (n,), in one transaction.

        Raises BadInput, or Conflict for one that looks like another identity, and then enrolls nothing.
        """
        return enrollment.enroll_vectors(self._session, names, vectors, enrollment.Terms.of(terms, strict=True))

    def enroll_many_vectors(
        self, names: Sequence[str], vectors: Any, progress: Progress | None = None, **terms: Unpack[VectorTerms]
    ) -> Enrollment:
        """As `enroll_vectors`, for any number of them, which may be memory-mapped; conflicts are listed in `refused`.

        All are checked first; then every `enrollment.VECTOR_CHUNK` are durable: an interrupted call can be repeated.
        """
        return enrollment.enroll_vectors(self._session, names, vectors, enrollment.Terms.of(terms), progress)

    def outlook(self) -> Outlook:
        """Return what the gallery promises now, and what it costs."""
        with self.reading() as state:
            return state.outlook()

    def identities(self) -> list[IdentityRow]:
        """Return the enrolled identities by name, each with its number of samples."""
        with self.reading() as state:
            return state.store.identities()

    def samples(self, name: str | None = None) -> list[SampleRow]:
        """Return the enrolled samples (of one identity) in the order of their enrollment. Raises Missing."""
        with self.reading() as state:
            return state.store.samples(name)

    def rename(self, name: str, new: str, *, merge: bool = False) -> None:
        """Give an identity another name. Raises Missing, or BadInput if `new` is taken and not to be merged with."""
        identities.rename(self._session, name, new, merge)

    def tag(self, name: str, tags: Mapping[str, str | None]) -> None:
        """Give an identity tags, in place of those with the same keys; None takes one away. Raises as `rename`."""
        identities.tag(self._session, name, tags)

    def remove(self, name: str) -> int:
        """Take an identity out of the gallery; return how many samples it had. Raises Missing."""
        return identities.remove(self._session, name)

    def identify(self, picture: Picture, **asked: Unpack[Asked]) -> Decision:
        """Return who the picture shows, or that it is unknown.

        `k` candidates are listed (5). `fpir` is the share of strangers that may match, instead of the gallery's;
        `threshold` is a distance (0..2) instead of a learned one. Verdict and identity are always those of an
        exact search; `exact` makes the candidates behind them so too, in a very large gallery. Only identities
        with all of `tags`, and none of those to `exclude`, are searched, at the threshold of the whole gallery.
        `strict` makes a match unknown while too few strangers support it (`evidence.promised`). Raises Unreadable;
        SeveralSubjects unless `largest`.
        """
        return identify.identify_one(self._session, picture, Question.of(asked))

    @takes_its_turns
    def identify_many(self, pictures: Iterable[Picture], **asked: Unpack[Asked]) -> Iterator[Decision | Refusal]:
        """Yield an answer per picture, in order; a Refusal for one that cannot be read. As `identify`."""
        return identify.identify(self._session, each(pictures), Question.of(asked), self._turn)

    @takes_its_turns
    def identify_each(self, pictures: Iterable[Picture], **asked: Unpack[Asked]) -> Iterator[list[Decision | Refusal]]:
        """As `identify_many`, with the answers of each picture together: several where it shows several faces."""
        return identify.identify_each(self._session, each(pictures), Question.of(asked), self._turn)

    def identify_vectors(self, vectors: Any, *, log: bool = True, **asked: Unpack[Asked]) -> list[Decision]:
        """As `identify`, for vectors (n, dimension) of an embedder outside; `log` False keeps a test out of the log."""
        return identify.identify_vectors(self._session, vectors, Question.of(asked), log)

    def log(self, on: bool | None = None, *, clear: bool = False) -> tuple[bool, int]:
        """Switch the log of answers (with vectors and pictures) on or off, or empty it; return (is on, how many)."""
        return identities.log(self._session, on, clear)

    def verify(self, a: Picture, b: Picture, *, fmr: float | None = None) -> Verification:
        """Say whether two pictures show the same identity, enrolled or not. Raises Unreadable.

        `fmr` is the share of comparisons between strangers that may match (None: the gallery's target). While the
        gallery's strangers are too few to support it the answer is unknown, and `evidence` says how many are missing.
        """
        return identify.verify(self._session, a, b, fmr)

    def verify_as(self, picture: Picture, name: str, *, fmr: float | None = None) -> Verification:
        """Say whether the picture shows the enrolled identity `name`, by its fused distance. Raises Missing."""
        return identify.verify_as(self._session, picture, name, fmr)

    def verification_threshold(self, fmr: float | None = None) -> float | None:
        """Return the distance at which `fmr` of strangers' comparisons match; None without any."""
        with self.reading() as state:
            return identify.verification_threshold(state, calibrate.target(self._session, fmr)).tau

    def embed(self, pictures: Sequence[Picture]) -> tuple[Vectors, dict[int, Refusal]]:
        """Return vectors (m, dimension) of the pictures that can be read, in order, and by position the others."""
        return identify.embed(self._session, list(each(pictures)))

    def distances(self, vectors: Vectors) -> tuple[list[str], NDArray[np.float32]]:
        """Return the enrolled names, and the fused distance of each vector (n, dimension) to each: float32 (n, N)."""
        return identify.all_distances_to(self._session, vectors)

    def nearest_sample(self, vector: NDArray[np.float32], name: str) -> int:
        """Return the id of the identity's sample that is nearest to a vector (dimension,). Raises Missing."""
        return identify.nearest_sample(self._session, vector, name)

    def template(self, sample: int) -> NDArray[np.float32]:
        """Return the vector (dimension,) of an enrolled sample by the active tower. Raises Missing."""
        with self.reading() as state:
            return state.store.templates.vector(state.active.id, state.active.dimension, sample)

    def picture(self, sample: int) -> bytes | None:
        """Return a sample as it was kept, None when it was not."""
        return self._session.store.picture(sample)

    def pictures(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield (identity, sample as it was kept) in the order of enrollment; None where none was kept."""
        yield from ((name, picture) for _, name, picture in self._session.store.pictures())

    def threshold(self, fpir: float | None = None) -> Threshold:
        """Return the learned threshold for this FPIR (the gallery's target when None) and its evidence."""
        with self.reading() as state:
            return state.threshold(fpir)

    def calibrate(
        self,
        *,
        strangers_given: Iterable[tuple[str, Picture]] = (),
        progress: Progress | None = None,
        **choices: Unpack[Choices],
    ) -> tuple[Calibration, list[Refusal]]:
        """Set the target FPIR, add strangers (name, picture), and choose how to decide: `calibrate.Chosen`.

        Strangers are not enrolled; their pictures are kept. Returns also the strangers that could not be read.
        """
        chosen, given = calibrate.Chosen(**choices), self._turn.outside(strangers_given)
        return calibrate.calibrate_samples(self._session, chosen, given, progress)

    def calibrate_vectors(
        self, *, names: Sequence[str] = (), vectors: Any = None, **choices: Unpack[Choices]
    ) -> Calibration:
        """As `calibrate`, with strangers as `vectors` (n, dimension) of the active tower, and whose they are."""
        return calibrate.calibrate_vectors(self._session, calibrate.Chosen(**choices), names, vectors)

    def strangers(self) -> list[StrangerRow]:
        """Return the strangers' samples by name, with whether each counts."""
        return identities.strangers(self._session)

    def set_stranger(self, name: str, counts: bool) -> int:
        """Take a stranger out of every search, or bring it back; return how many samples. Raises Missing."""
        return identities.set_stranger(self._session, name, counts)

    def set_strict(self, strict: bool) -> None:
        """Make every answer as `identify` with `strict`, or only those that ask."""
        identities.set_strict(self._session, strict)

    def plan(self, identities: int, *, fpir: float | None = None) -> Plan:
        """Return what the tower promises and costs with so many `identities`, from one picture each."""
        return calibrate.planner(self._session).plan(identities, calibrate.target(self._session, fpir))

    def capacity(self, *, fpir: float | None = None, fnir: float = 0.1) -> Capacity:
        """Return how many identities the tower can hold at the target before more than `fnir` of searches miss."""
        return calibrate.planner(self._session).capacity(calibrate.target(self._session, fpir), share(fnir))

    def towers(self) -> list[tuple[TowerRow, bool]]:
        """Return the gallery's towers in the order they came, each with whether it is active."""
        with self.reading() as state:
            return [(row, row.id == state.settings.tower) for row in state.store.towers.all()]

    def tower_record(self, tower: str | None = None) -> tuple[TowerRow, bool]:
        """Return what is known of a tower (None: the active one), and whether it is active. Raises Missing."""
        return promote.tower_record(self._session, tower)

    def tower_file(self, tower: str | None = None) -> TowerFile:
        """Return a tower of this gallery as a tower file, without its strangers. None means the active one."""
        return promote.tower_file(self._session, self.tower_record(tower)[0])

    def add_tower(self, tower: TowerFile | str | Path, report: Any = None, learned_at: int | None = None) -> str:
        """Store a tower as an inactive candidate, with the figures it was judged by; return its id: `promote`."""
        return promote.add_tower(self._session, tower, report, learned_at)

    def promote(self, tower: str, progress: Progress | None = None) -> int:
        """Make a stored tower (the beginning of its id) active, in one transaction; return how many it had to embed."""
        return promote.promote(self._session, tower, progress)

    def switch(self, to: TowerFile | int, mapped: VectorMap, **told: Unpack[Told]) -> str:
        """Make another embedder active, by vectors `mapped` where no picture is kept: `promote.switch`."""
        return promote.switch(self._session, to, mapped, **told)

    def rollback(self, progress: Progress | None = None) -> str:
        """Go back to the generation before; return its tower's id. Raises BadInput when there is none."""
        return promote.rollback(self._session, progress)

    @property
    def curation(self) -> Curation:
        """What mends who is enrolled: move, merge, split, restore, undo, purge and more."""
        return curation.Curation(self._session, self._turn)

    @contextlib.contextmanager
    def past(self, revision: int) -> Iterator[Gallery]:
        """Yield the gallery as it was at a revision: a copy, deleted on leaving. Raises BadInput for one not known."""
        with history.past(self._session, revision) as path, Gallery.open(path) as copy:
            yield copy

    def audit(self, progress: Progress | None = None) -> Audit:
        """Examine what is enrolled: `analysis.audit.audit`."""
        return audit.audit(self, progress)

    def replay(self, tower: str | None = None) -> Replay:
        """Ask every logged answer again, of a stored tower: `analysis.replay.replay`."""
        return replay.replay(self, tower)

    def index_status(self) -> IndexStatus:
        """Return what finds the nearest templates, and how well: `analysis.index_status.index_status`."""
        return index_status.index_status(self)

    def rebuild_index(self, progress: Progress | None = None) -> None:
        """Write the cached index anew, of everything enrolled. Raises Missing when it cannot be written."""
        with self.reading() as state:
            index = self._session.searcher(state).index  # as it is: to catch up would be one long reading
        index.rebuild(progress)  # nobody who writes waits for it

    def backup(self, path: str | Path, *, removed: bool = True, pictures: bool = True) -> None:
        """Write a copy to `path`, durably, while in use. Raises BadInput to replace anything else than one.

        It is complete, or without what was `removed`; without `pictures` it has neither these, nor answers on record.
        """
        purge.write_backup(self._session, path_of(path), removed, pictures)

    @staticmethod
    def restore(source: str | Path, path: str | Path, *, replace: bool = False) -> Path | None:
        """Make the gallery `path` what `source` is; return where its former content was put, if it had any.

        `path` may be a postgresql:// address. Raises BadInput to replace one unasked, Missing or Damaged.
        """
        return backup.restore(path_of(source), path, replace)
