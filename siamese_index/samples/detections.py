"""Boxes that a detector found: the JSON that MegaDetector writes for a batch of pictures.

Its keys are those of MegaDetector's output format: `images`, of each `file`, and `detections` (`category`, `conf`,
`bbox` as x, y, width and height relative to the upright picture) or `failure`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from siamese_index.errors import BadInput, SiameseIndexError
from siamese_index.files import refused

from . import images
from .framing import part_of
from .images import NamedSample, Unusable
from .items import Items

LEAST = 0.2  # confidence, as its authors advise
_LARGEST = 256 << 20  # bytes


@dataclass(frozen=True)
class Detection:
    """A subject that was found in a picture."""

    file: str  # relative to the JSON
    part: tuple[float, float, float, float]  # x, y, width, height, relative to the upright picture


def is_detections(path: Path) -> bool:
    """Whether a file is to be read as detections."""
    return path.suffix.lower() == ".json" and path.is_file()


def items(path: Path) -> Items:
    """Return what was found as (identity, sample) items; the identity is the folder that the picture lies in.

    Raises Missing or BadInput.
    """
    found, left_out = _read(path)
    whose = [str(PurePosixPath(each.file).parent) for each in found]
    per_file = Counter(each.file for each in found)
    kept = [i for i, each in enumerate(found) if per_file[each.file] == 1 and whose[i] != "."]
    several = sum(count > 1 for count in per_file.values())
    if several:
        left_out.append(f"Left out: {several:,} pictures with several subjects, whose identity is not known.")
    loose = sum(w == "." and per_file[e.file] == 1 for w, e in zip(whose, found, strict=True))
    if loose:
        left_out.append(f"Left out: {loose:,} pictures in no folder: it would say whose they are.")
    if not kept:
        raise BadInput(f"{path}: no picture with one subject in a folder of its identity.", " ".join(left_out))
    names = [whose[i] for i in kept]
    return Items(names, lambda i: _sample(path, found[kept[i]]), left_out=tuple(left_out), boxed=True)


def samples(path: Path) -> tuple[list[Path | bytes], tuple[str, ...]]:
    """Return each subject that was found as a sample, and what was left out. Raises Missing or BadInput."""
    found, left_out = _read(path)
    return [_sample(path, each) for each in found], tuple(left_out)


def _sample(path: Path, found: Detection) -> NamedSample:
    where = f"{path.parent / found.file} at {','.join(f'{n:.3f}' for n in found.part)}"
    try:
        return NamedSample(part_of(images.read(path.parent / found.file), found.part), where)
    except SiameseIndexError as error:  # of one among many
        return Unusable(b"", where, error)


def _read(path: Path) -> tuple[list[Detection], list[str]]:
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(f"{path}: more than {_LARGEST:,} bytes of JSON are not read.")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise refused(path, error) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: this is not JSON.", str(error)[:200]) from None
    listed = content.get("images") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise BadInput(f"{path}: these are no detections.", 'Expected the JSON of MegaDetector, with "images".')
    found: list[Detection] = []
    counts: Counter[str] = Counter()
    for number, picture in enumerate(listed):
        detections = picture.get("detections")
        if not isinstance(picture.get("file"), str):
            raise BadInput(f"{path}: picture {number} has no file.")
        if not isinstance(detections, list):
            counts["failed"] += 1  # its `failure` says why
            continue
        sure = [each for each in detections if _confidence(each) >= LEAST]
        counts["nothing" if not sure else "some"] += 1
        counts["unsure"] += len(detections) - len(sure)
        found += dict.fromkeys(Detection(picture["file"], _part(path, picture["file"], each)) for each in sure)
    told = {
        "failed": "pictures that the detector could not read",
        "nothing": "pictures in which it found nothing",
        "unsure": f"boxes of a confidence below {LEAST}",
    }
    left_out = [f"Left out: {counts[key]:,} {what}." for key, what in told.items() if counts[key]]
    if not found:
        raise BadInput(f"{path}: nothing was found in {len(listed):,} pictures.", " ".join(left_out))
    return found, left_out


def _confidence(detection: Any) -> float:
    value = detection.get("conf") if isinstance(detection, dict) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def _part(path: Path, file: str, detection: dict[str, Any]) -> tuple[float, float, float, float]:
    box = detection.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(type(n) in (int, float) for n in box):
        raise BadInput(f"{path}: {file}: no box: {str(box)[:60]}.", "Expected x, y, width and height.")
    x, y, w, h = (float(n) for n in box)
    if not (-0.01 <= x <= 1 and -0.01 <= y <= 1 and 0 < w <= 1.02 and 0 < h <= 1.02):
        raise BadInput(f"{path}: {file}: the box {box} is not relative to the picture.", "Expected 0 to 1.")
    return x, y, w, h
