"""How often is the right one of a few classes chosen? Omniglot's one-shot runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Missing
from siamese_index.samples import images
from siamese_index.towers.tower import Tower

from .evaluation import Rate


@dataclass(frozen=True)
class OneShot:
    """Runs of "which of these is it?": each probe against one picture of each class."""

    runs: int
    trials: int
    error: Rate
    by_run: tuple[float, ...]


def is_one_shot(folder: str | Path) -> bool:
    """Whether a folder holds runs in Omniglot's layout: run01/class_labels.txt and so on."""
    return any(Path(folder).glob("run*/class_labels.txt"))


def evaluate_one_shot(tower: Tower, folder: str | Path) -> OneShot:
    """Answer Omniglot's one-shot runs (Lake et al., 2015): lines of `test item, its training class` in each run.

    Raises Missing, or BadInput for a line that names anything outside the folder.
    """
    root = Path(folder).resolve()
    wrong: list[bool] = []
    names: list[str] = []
    by_run = []
    for labels in sorted(root.glob("run*/class_labels.txt")):
        pairs = [line.split() for line in labels.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise BadInput(
                f"{labels}: not a list of pairs.",
                "Expected lines such as run01/test/item01.png run01/training/class01.png.",
            )
        classes = sorted({pair[1] for pair in pairs})
        vectors = {path: _one(tower, root, path) for path in {*classes, *(pair[0] for pair in pairs)}}
        enrolled = np.stack([vectors[c] for c in classes])
        missed = [classes[int((enrolled @ vectors[item]).argmax())] != truth for item, truth in pairs]
        wrong += missed
        names += [labels.parent.name] * len(missed)
        by_run.append(float(np.mean(missed)))
    if not by_run:
        raise Missing(f"{folder}: no runs.", "Expected run01/class_labels.txt and so on.")
    return OneShot(len(by_run), len(wrong), Rate.measured(wrong, names), tuple(by_run))


def _one(tower: Tower, root: Path, name: str) -> NDArray[np.float32]:
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise BadInput(f"{name!r} is outside of {root}.")
    vector: NDArray[np.float32] = tower.embed([tower.prepare(images.read(path))])[0]
    return vector
