"""A tower: the trained embedder with its card, served by ONNX Runtime. Pictures in, unit vectors out."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Damaged, NoSubject, Unreadable
from siamese_index.samples import faces, framing, images, quality
from siamese_index.samples.framing import Subject
from siamese_index.vectors import Vectors, unpack

from . import device
from .card import Card

if TYPE_CHECKING:
    from .tower_file import TowerFile

Taken = NDArray[np.uint8] | NDArray[np.float32]  # what a tower takes: pixels, or numbers
_open: weakref.WeakSet[Tower] = weakref.WeakSet()
BATCH = 64  # samples per run: more only costs memory


def nobody() -> NoSubject:
    """Return the error of a picture in which no face is found."""
    return NoSubject("There is no face in the picture.", "", "Take one from nearer, or with more light.")


class Tower:
    """An open tower: `embed` turns samples into templates.

    `card` says what it was trained on and how good it is; `shape` is what it takes, (height, width,
    channels) of pixels or (d,) of numbers; `dimension` is the length of its vectors.
    """

    def __init__(self, onnx: bytes, card: Card, tower_id: str, detector: bytes | None = None) -> None:
        """Raises Damaged for a network, or a detector, that cannot be opened."""
        self.id, self.card = tower_id, card
        self.shape, self.frame, self.dimension = card.input.shape, card.input.frame, card.dimension
        if self.finds and detector is None:
            raise Damaged("The tower has no face detector, which its frame needs.")
        finder = faces.FaceFinder(detector) if self.finds and detector is not None else None
        shape = card.input.shape if len(card.input.shape) == 3 else (1, 1, 1)
        self.cutter = framing.Frame(self.frame, *shape, finder, card.input.template)
        self._at_once = card.input.at_once or max(1, BATCH // card.input.views)
        self._session = device.session(onnx, self.shape)
        self._input = self._session.get_inputs()[0].name
        _open.add(self)

    @property
    def device(self) -> str:
        """Where it embeds: cpu or cuda."""
        return "cuda" if self._session.get_providers()[0].startswith("CUDA") else "cpu"

    def __repr__(self) -> str:
        takes = " x ".join(map(str, self.shape))
        return f"<Tower {self.id[:12]}: {takes} to {self.dimension} numbers>"

    @classmethod
    def open(cls, path: str | Path) -> Tower:
        """Open a `.tower` file. Raises Missing or Damaged."""
        from .tower_file import TowerFile  # a gallery's tower needs it not

        return cls.of(TowerFile.read(path))

    @classmethod
    def of(cls, file: TowerFile) -> Tower:
        """Open a tower that was read. Raises Damaged."""
        return cls(file.onnx, file.card, file.id, file.detector)

    @property
    def takes_numbers(self) -> bool:
        """Whether its samples are vectors of numbers (.npy), not pictures."""
        return len(self.shape) == 1

    @property
    def finds(self) -> bool:
        """Whether it finds its subjects in a picture: there may be none, or several."""
        return self.frame == "face"

    @property
    def size(self) -> int | None:
        """The longer side of the pictures it takes, in pixels."""
        return None if self.takes_numbers else max(self.shape[:2])

    def digest(self, sample: bytes) -> bytes:
        """Return what tells samples apart: SHA-256 of their bytes."""
        return hashlib.sha256(sample).digest()

    def kept(self, sample: bytes) -> bytes | None:
        """Return a sample as a gallery keeps it. Raises Unreadable."""
        if self.takes_numbers:
            return sample
        if self.finds and images.is_large(sample):
            boxes = [subject.box for subject in self.subjects(sample) if subject.box]
            sample = framing.around(sample, boxes[0]) if boxes else sample  # else the face would become too small
        return images.bounded(sample)

    def subjects(self, sample: bytes) -> list[Subject]:
        """Return what is in a sample, prepared, the largest first; none where the frame finds nobody.

        Raises Unreadable.
        """
        if self.takes_numbers:
            return [Subject(self._numbers(sample))]
        return self.cutter.subjects(sample)

    def subjects_in(self, pixels: NDArray[np.uint8]) -> list[Subject]:
        """Return what is in pixels (h, w, 3), RGB: as `subjects`. Raises BadInput for a tower of numbers."""
        if self.takes_numbers:
            raise BadInput("This tower takes vectors, not pictures.")
        return self.cutter.subjects_in(images.with_channels(pixels, self.cutter.channels))

    def prepare(self, sample: bytes) -> Taken:
        """Return the largest subject of a sample as this tower takes it: uint8 pixels or float32 numbers.

        Raises Unreadable, or NoSubject.
        """
        found = self.subjects(sample)
        if not found:
            raise nobody()
        return found[0].taken

    def _numbers(self, sample: bytes) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            vector = unpack(sample).astype(np.float32)
        if not np.isfinite(vector).all():
            raise Unreadable("The vector has numbers beyond float32.", remedy="Scale it, or leave it out.")
        if vector.shape != self.shape:
            raise Unreadable(f"The vector has {len(vector)} numbers; this tower takes {self.shape[0]}.")
        return vector

    def refuse_blank(self, taken: Taken) -> None:
        """Raise NoSubject for a prepared picture that shows nothing: its vector would be that of any other such."""
        if not self.takes_numbers and quality.is_blank(np.asarray(taken, np.uint8)):
            raise NoSubject(
                "The picture shows nothing.", "It is of one grey, or nearly.", "Is the lens covered, or the file empty?"
            )

    def embed_samples(self, samples: Iterable[bytes]) -> Vectors:
        """Return float32 (n, dimension) unit vectors of samples as they came in, a few decoded at a time."""
        rows, waiting = [np.zeros((0, self.dimension), np.float32)], []
        for sample in samples:
            waiting.append(self.prepare(sample))
            if len(waiting) == BATCH:
                rows.append(self.embed(waiting))
                waiting = []
        return np.concatenate([*rows, self.embed(waiting)])

    def _run(self, batch: NDArray[np.float32]) -> Any:
        try:
            return self._session.run(None, {self._input: batch})[0]
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no public base class
            raise Damaged("The tower's network cannot be run.", str(error).splitlines()[0][:300]) from None

    def embed(self, samples: Sequence[Taken] | Taken) -> Vectors:
        """Return float32 (n, dimension) unit vectors of prepared samples (n, *shape).

        Raises BadInput for another shape, Damaged when the network yields no unit vectors.
        """
        if any(sample.shape != self.shape for sample in samples):
            raise BadInput(f"This tower takes samples of shape {self.shape}.")
        out = np.empty((len(samples), self.dimension), np.float32)
        for start in range(0, len(samples), self._at_once):
            some = samples[start : start + self._at_once]
            batch = np.empty((len(some), *self.shape), np.float32)
            for i, sample in enumerate(some):
                batch[i] = sample
            rows = self._run(batch)
            if rows.shape != (len(batch), self.dimension):
                raise Damaged(f"The tower yields shape {rows.shape[1:]}, its card says ({self.dimension},).")
            out[start : start + len(batch)] = rows
        squared = np.einsum("ij,ij->i", out, out)
        if not np.all(np.abs(squared - 1) < 2e-3):  # also false for NaN
            raise Damaged("The tower yields vectors that are not of unit length.", remedy="Train it again.")
        return out


def _keep_in_child() -> None:
    """Keep what a fork inherited for ever: ending a session would wait for threads that are not there."""
    import ctypes

    for tower in _open:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(tower._session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_in_child)
