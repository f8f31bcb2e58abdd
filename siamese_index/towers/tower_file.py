"""A `.tower` file: a network with its card and the searches of the identities it never saw."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from siamese_index.errors import BadInput, Damaged, Missing
from siamese_index.files import opened_as, path_of, refused, replace_file
from siamese_index.vectors import Vectors, unit

from .card import FORMAT, Card

_MEMBER_LIMIT = 2 << 30
_OUTSIDE = b"\x0a\x08location\x12"  # in a graph: the key under which a tensor names the file that it lies in
# What reading a file that is none may raise; RuntimeError: encrypted, of a later zip, or nested too deeply.
_NO_TOWER = (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, RuntimeError, ArithmeticError, MemoryError)


@dataclass(frozen=True)
class Cohort:
    """Searches by identities that a tower was not trained on: one row per sample."""

    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()  # SHA-256 of the sample as it came in, hexadecimal
    vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.names)


def tower_id(onnx: bytes, card: Card, detector: bytes | None) -> str:
    """Return the id of a tower. Of format 1 it is the SHA-256 of its network alone."""
    network = hashlib.sha256(onnx).hexdigest()
    if card.format < 2:
        return network
    parts: dict[str, Any] = {
        "network": network,
        "frame": card.input.frame,
        "at_once": card.input.at_once,
        "template": [list(point) for point in card.input.template],
        "detector": hashlib.sha256(detector).hexdigest() if detector else None,
    }
    if card.format >= 3:
        parts["shape"] = list(card.input.shape)  # a network may take any
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class TowerFile:
    """The content of a `.tower` file: everything of a tower, as bytes. Reading it runs nothing."""

    onnx: bytes
    keras: bytes | None
    card: Card
    cohort: Cohort = field(default_factory=Cohort)
    detector: bytes | None = None  # of the frame "face": a YuNet, as .onnx

    @cached_property
    def id(self) -> str:
        """What tells towers apart, hexadecimal: SHA-256 of all that changes a vector (docs/formats.md)."""
        return tower_id(self.onnx, self.card, self.detector)

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
            archive.writestr("card.json", json.dumps(self.card.to_dict(), indent=1, ensure_ascii=False))
            archive.writestr("tower.onnx", self.onnx)
            if self.keras is not None:
                archive.writestr("tower.keras", self.keras)
            if self.detector is not None:
                archive.writestr("detector.onnx", self.detector)
            archive.writestr("calibration.npz", vectors.getvalue())
        replace_file(Path(path), buffer.getvalue(), "tower")

    @classmethod
    def read(cls, path: str | Path) -> TowerFile:
        """Read a tower file. Raises Missing, or Damaged for anything that is not a tower."""
        path_of(path)
        try:
            if opened_as(Path(path).stat()):  # to close it would give up the locks that this process has on it
                raise ValueError("it is a gallery")
            with zipfile.ZipFile(path) as archive:
                members = {info.filename: info for info in archive.infolist()}
                # Stored members only: their size on disk bounds the memory they take.
                if any(i.compress_type != zipfile.ZIP_STORED or i.file_size > _MEMBER_LIMIT for i in members.values()):
                    raise ValueError("it holds compressed or oversized parts")
                card = json.loads(archive.read("card.json"))
                if isinstance(card, dict) and isinstance(card.get("format"), int) and card["format"] > FORMAT:
                    raise BadInput(f"{path}: made by a newer siamese-index.", remedy="Update siamese-index.")
                keras, detector = (
                    archive.read(name) if name in members else None for name in ("tower.keras", "detector.onnx")
                )
                json.dumps(card, ensure_ascii=False).encode()  # a ValueError for half of a surrogate pair
                parsed = Card.parse(card)
                if (parsed.input.frame == "face") != (detector is not None):
                    raise ValueError("its frame is face without a detector, or it has one that its frame does not use")
                onnx = archive.read("tower.onnx")
                if _OUTSIDE in onnx:
                    raise ValueError("its network keeps weights in other files")
                cohort = _read_cohort(archive.read("calibration.npz"), parsed.dimension)
                return cls(onnx, keras, parsed, cohort, detector)
        except FileNotFoundError:
            raise Missing(f"{path}: no such tower.", remedy="Make one: sidx train DATA -o faces.tower") from None
        except OSError as error:
            raise refused(path, error) from None
        except _NO_TOWER as error:
            remedy = "Make one: sidx train DATA -o faces.tower"
            if Path(path).suffix.lower() == ".onnx":
                remedy = f"Make one of this network: sidx towers import {path} -o {Path(path).with_suffix('.tower')}"
            raise Damaged(f"{path}: this is not a tower file.", f"{error}".strip("'\""), remedy) from None


def _read_cohort(data: bytes, dimension: int) -> Cohort:
    with zipfile.ZipFile(io.BytesIO(data)) as inner:
        if any(i.compress_type != zipfile.ZIP_STORED for i in inner.infolist()):
            raise ValueError("its calibration is compressed")
        for name in inner.namelist():
            with inner.open(name) as member:  # rows of nothing would be as many as a header says
                major = np.lib.format.read_magic(member)[0]
                read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                if not read(member)[2].itemsize:
                    raise ValueError("its calibration has rows of nothing")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        names, digests, vectors = arrays["names"], arrays["digests"], arrays["vectors"]
    if vectors.ndim != 2 or not len(names) == len(digests) == len(vectors):
        raise ValueError("its calibration's rows do not match")
    if len(vectors) and vectors.shape[1] != dimension:
        raise ValueError(f"its calibration has vectors of {vectors.shape[1]} numbers, its card says {dimension}")
    if not all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in map(str, digests.tolist())):
        raise ValueError("its calibration has digests that are not hexadecimal")
    "".join(map(str, names.tolist())).encode()
    rows = unit(vectors) if len(vectors) else vectors.astype(np.float32)
    return Cohort(tuple(map(str, names.tolist())), tuple(map(str, digests.tolist())), rows)
