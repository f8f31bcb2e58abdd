"""A tower: the trained embedder with its card, served by ONNX Runtime. Pictures in, unit vectors out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import images
from .errors import BadInput, Damaged, Missing, Unreadable
from .files import replace_file
from .vectors import Vectors, unit, unpack

Taken = NDArray[np.uint8] | NDArray[np.float32]  # what a tower takes: pixels, or numbers
BATCH = 64  # samples per run: more only costs memory
FORMAT = 1
_MEMBER_LIMIT = 2 << 30


@dataclass(frozen=True)
class Cohort:
    """Searches by identities that a tower was not trained on: one row per sample."""

    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()  # SHA-256 of the sample as it came in, hexadecimal
    vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class TowerFile:
    """The content of a `.tower` file: everything of a tower, as bytes. Reading it runs nothing."""

    onnx: bytes
    keras: bytes | None
    card: dict[str, Any]
    cohort: Cohort = field(default_factory=Cohort)

    @cached_property
    def id(self) -> str:
        """SHA-256 of the ONNX graph, hexadecimal."""
        return hashlib.sha256(self.onnx).hexdigest()

    def write(self, path: str | Path) -> None:
        """Replace `path` durably: beside, fsync, rename."""
        buffer, vectors = io.BytesIO(), io.BytesIO()
        np.savez(
            vectors,
            names=np.asarray(self.cohort.names, dtype=np.str_),
            digests=np.asarray(self.cohort.digests, dtype=np.str_),
            vectors=self.cohort.vectors,
        )
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("card.json", json.dumps(self.card, indent=1, ensure_ascii=False))
            archive.writestr("tower.onnx", self.onnx)
            if self.keras is not None:
                archive.writestr("tower.keras", self.keras)
            archive.writestr("calibration.npz", vectors.getvalue())
        replace_file(Path(path), buffer.getvalue(), "tower")

    @classmethod
    def read(cls, path: str | Path) -> TowerFile:
        """Read a tower file. Raises Missing, or Damaged for anything that is not a tower."""
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename: info for info in archive.infolist()}
                # Stored members only: their size on disk bounds the memory they take.
                if any(i.compress_type != zipfile.ZIP_STORED or i.file_size > _MEMBER_LIMIT for i in members.values()):
                    raise ValueError("it holds compressed or oversized parts")
                card = json.loads(archive.read("card.json"))
                if not isinstance(card, dict):
                    raise ValueError("its card is not an object")
                if card.get("format", 0) > FORMAT:
                    raise BadInput(f"{path}: made by a newer siamese-index.", remedy="pip install -U siamese-index")
                keras = archive.read("tower.keras") if "tower.keras" in members else None
                return cls(archive.read("tower.onnx"), keras, card, _read_cohort(archive.read("calibration.npz")))
        except FileNotFoundError:
            raise Missing(f"{path}: no such tower.", remedy="Make one: sidx train DATA -o faces.tower") from None
        except OSError as error:
            raise Missing(f"{path}: cannot be read.", f"{error.strerror or error}.") from None
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
            raise Damaged(
                f"{path}: this is not a tower file.",
                f"{error}".strip("'\""),
                "Make one: sidx train DATA -o faces.tower",
            ) from None


def _read_cohort(data: bytes) -> Cohort:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        names, digests, vectors = arrays["names"], arrays["digests"], arrays["vectors"]
    if vectors.ndim != 2 or not len(names) == len(digests) == len(vectors):
        raise ValueError("its calibration's rows do not match")
    rows = unit(vectors) if len(vectors) else vectors.astype(np.float32)
    return Cohort(tuple(map(str, names.tolist())), tuple(map(str, digests.tolist())), rows)


class Tower:
    """An open tower: `embed` turns samples into templates.

    `card` says what it was trained on and how good it is; `shape` is what it takes, (height, width,
    channels) of pixels or (d,) of numbers; `dimension` is the length of its vectors.
    """

    shape: tuple[int, ...]

    def __init__(self, onnx: bytes, card: dict[str, Any], tower_id: str) -> None:
        self.id, self.card = tower_id, card
        try:
            taken = card["input"]
            keys = ("numbers",) if "numbers" in taken else ("height", "width", "channels")
            self.shape, self.dimension = tuple(int(taken[key]) for key in keys), int(card["dimension"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Damaged("The tower's card is incomplete.", f"No {error}.") from None
        self.frame = str(taken.get("frame", "whole"))
        if self.frame not in images.FRAMES:
            raise Damaged(f"The tower's card asks for the frame {self.frame!r}.", remedy="pip install -U siamese-index")
        looks = taken.get("looks", 1)  # at each sample: so many less fit into a run
        if not isinstance(looks, int) or not 1 <= looks <= 1024:
            raise Damaged("The tower's card asks for an impossible number of looks.", f"{looks!r}.")
        self._at_once = max(1, BATCH // looks)
        limits = (65536,) if self.takes_numbers else (4096, 4096, 3)
        if not all(0 < n <= limit for n, limit in zip(self.shape, limits, strict=True)) or self.shape[-1] == 2:
            raise Damaged("The tower's card asks for an impossible input.", f"Of shape {self.shape}.")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads burn the other core
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no public base class
            raise Damaged("The tower's network cannot be opened.", str(error).splitlines()[0]) from None
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def open(cls, path: str | Path) -> Tower:
        """Open a `.tower` file. Raises Missing or Damaged."""
        content = TowerFile.read(path)
        return cls(content.onnx, content.card, content.id)

    @property
    def takes_numbers(self) -> bool:
        """Whether its samples are vectors of numbers (.npy), not pictures."""
        return len(self.shape) == 1

    @property
    def size(self) -> int | None:
        """The longer side of the pictures it takes, in pixels."""
        return None if self.takes_numbers else max(self.shape[:2])

    def bounded(self, sample: bytes) -> bytes:
        """Return a sample as a gallery keeps it. Raises Unreadable."""
        return sample if self.takes_numbers else images.bounded(sample)

    def prepare(self, sample: bytes) -> Taken:
        """Decode one sample to what this tower takes: uint8 pixels or float32 numbers. Raises Unreadable."""
        if not self.takes_numbers:
            height, width, channels = self.shape
            return images.load(sample, height, width, channels, self.frame)
        vector = unpack(sample)
        if vector.shape != self.shape:
            raise Unreadable(f"The vector has {len(vector)} numbers; this tower takes {self.shape[0]}.")
        return vector

    def embed_samples(self, samples: Iterable[bytes]) -> Vectors:
        """Return float32 (n, dimension) unit vectors of samples as they came in, a few decoded at a time."""
        rows, waiting = [np.zeros((0, self.dimension), np.float32)], []
        for sample in samples:
            waiting.append(self.prepare(sample))
            if len(waiting) == BATCH:
                rows.append(self.embed(waiting))
                waiting = []
        return np.concatenate([*rows, self.embed(waiting)])

    def embed(self, samples: Sequence[Taken] | Taken) -> Vectors:
        """Return float32 (n, dimension) unit vectors of prepared samples (n, *shape).

        Raises BadInput for another shape, Damaged when the network yields no unit vectors.
        """
        if any(sample.shape != self.shape for sample in samples):
            raise BadInput(f"This tower takes samples of shape {self.shape}.")
        out = np.empty((len(samples), self.dimension), np.float32)
        for start in range(0, len(samples), self._at_once):
            batch = np.stack(list(samples[start : start + self._at_once])).astype(np.float32)
            rows = self._session.run(None, {self._input: batch})[0]
            if rows.shape != (len(batch), self.dimension):
                raise Damaged(f"The tower yields shape {rows.shape[1:]}, its card says ({self.dimension},).")
            out[start : start + len(batch)] = rows
        squared = np.einsum("ij,ij->i", out, out)
        if not np.all(np.abs(squared - 1) < 2e-3):  # also false for NaN
            raise Damaged("The tower yields vectors that are not of unit length.", remedy="Train it again.")
        return out
