"""All that mends who is enrolled, as methods of `Gallery.curation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from siamese_index.analysis.audit import ContentFinding
from siamese_index.enrollment import Conflicts
from siamese_index.errors import BadInput
from siamese_index.files import path_of
from siamese_index.samples.images import Picture, Progress
from siamese_index.session import Session
from siamese_index.store.removed_rows import RemovedIdentity, RemovedSample
from siamese_index.store.turns import Turn, in_turns

from . import correcting, formats, history, identities, importing, mending, purge, records, samples
from .correcting import Correction, LoggedAnswer
from .history import HistoryRow
from .importing import Taken
from .purge import Receipt
from .samples import Moved


@in_turns
class Curation:
    """What becomes of who is enrolled. Every method that changes something is one durable change, which can be undone.

    Samples are named by the `id` of `Gallery.samples`. Threads take turns.
    """

    def __init__(self, session: Session, turn: Turn) -> None:
        self._session, self._turn = session, turn

    def move(self, samples_of: Sequence[int], name: str, *, new: bool = False) -> Moved:
        """Let samples be of the identity `name`, or of a `new` one. Raises Missing, BadInput."""
        return samples.move(self._session, samples_of, name, new)

    def remove_samples(self, which: Sequence[int]) -> Moved:
        """Take samples out of use; an identity that loses its last one is removed. Raises Missing."""
        return samples.remove(self._session, which)

    def restore_samples(self, which: Sequence[int]) -> Moved:
        """Bring removed samples back to whom they were of. Raises Missing, or BadInput where that cannot be."""
        return samples.restore(self._session, which)

    def merge(self, name: str, into: str) -> int:
        """Make the samples of `name` those of `into`; return how many. Raises Missing, BadInput."""
        return identities.merge(self._session, name, into)

    def split(self, name: str, new: str, which: Sequence[int]) -> int:
        """Make a new identity of some of the samples of `name`; return how many. Raises Missing, BadInput."""
        return identities.split(self._session, name, new, which)

    def restore(self, name: str, new: str | None = None) -> int:
        """Enroll the last removed identity of this name again, perhaps as `new`; return how many samples it has.

        Raises Missing, or BadInput where that cannot be.
        """
        return identities.restore(self._session, name, new)

    def removed(self) -> tuple[list[RemovedIdentity], list[RemovedSample]]:
        """Return what is out of use and can be restored: identities, the last removed first, and single samples."""
        with self._session.reading() as state:
            return state.store.removed.identities(), state.store.removed.samples()

    def correct(
        self, what: int | Picture, name: str | None = None, *, stranger: bool = False, ignore: bool = False
    ) -> Correction:
        """Say what an answer on record (its id), or a picture, shows: the identity `name`, a stranger, or to ignore it.

        It becomes a sample, a stranger that the threshold is learned from, or an example for the next retraining.
        Raises Missing, BadInput, Unreadable.
        """
        return correcting.correct(self._session, what, name, stranger, ignore)

    def settle(self, groups: Sequence[Sequence[int]], name: str | None = None, *, stranger: bool = False) -> Correction:
        """As `correct`, for groups of answers on record (their ids), such as `analysis.review.clusters` finds.

        Each group shows the identity `name`, or is a `stranger` (of that name, or of one of its own).
        """
        if not stranger and name is None:
            raise BadInput("What they show is not told.", "Expected a name, or stranger.")
        truth = correcting.STRANGER if stranger else correcting.IDENTITY
        return correcting.settle(self._session, groups, truth, name)

    def answers(self, limit: int = 20) -> list[LoggedAnswer]:
        """Return the last answers on record, the newest first, each with what it was corrected to."""
        return correcting.listed(self._session, limit)

    def answer_picture(self, answer: int) -> bytes | None:
        """Return the picture of an answer on record as it was kept, None when it was not."""
        with self._session.reading() as state:
            return state.store.log.picture(answer)

    def apply(self, findings: Sequence[ContentFinding]) -> list[str]:
        """Carry out what findings of `Gallery.audit` propose, as one change; return what was done.

        Raises BadInput, and Outdated for one that does not stand any more.
        """
        return mending.apply(self._session, findings)

    def history(self, limit: int | None = None) -> list[HistoryRow]:
        """Return the changes of the gallery, the newest first."""
        return history.history(self._session, limit)

    def undo(self, count: int = 1, *, newest: int | None = None) -> list[HistoryRow]:
        """Take back the newest changes that hold, one by one, each as a change; return them. Raises Missing.

        What was taken back before there was nothing more stays so. With `newest`, the revision of the newest change,
        nothing is taken back where somebody has changed something since: Outdated.
        """
        return history.undo(self._session, count, newest)

    def purge(
        self, names: Sequence[str] = (), *, strangers: bool = False, answers_before: str | None = None
    ) -> Receipt:
        """Delete all of identities and strangers of these names, all strangers, or old answers: `purge.purge`.

        It cannot be undone, and nothing before it can be. Raises Missing, BadInput.
        """
        return purge.purge(self._session, names, strangers, answers_before)

    def export(
        self,
        path: str | Path,
        *,
        pictures: bool = True,
        samples: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write samples, strangers, tags and settings to .npz, .parquet, .jsonl or a folder; return how many samples.

        With `samples` (ids) these alone. Raises BadInput for what is there already, Missing, NotInstalled.
        """
        found = records.content(self._session, pictures, samples)
        return formats.write(replace(found, records=records.counted(found.records, progress)), path_of(path))

    def take(
        self,
        path: str | Path,
        *,
        conflicts: Conflicts = "refuse when sure",
        by_file_name: bool = False,
        progress: Progress | None = None,
    ) -> Taken:
        """Take in an export, another gallery, a dump of CompreFace or DeepFace, or data as for enroll: joined by name.

        Durable after every `enrollment.CHUNK` samples. Raises Missing, BadInput, NotInstalled.
        """
        return importing.take_from(self._session, path_of(path), conflicts, by_file_name, progress)

    def redo(self) -> HistoryRow:
        """Take back the last undo, if nothing was changed since; return what holds again. Raises Missing."""
        return history.redo(self._session)
