"""Train a tower on data, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from siamese_index import BadInput, TowerFile
from siamese_index.files import path_of, refuse_to_replace, refused

from .data import source
from .features import FILE as FEATURES
from .loop import CHECKPOINT
from .process import run
from .progress import OnProgress
from .recipe import choose, named


def train(
    data: str | Path,
    on_progress: OnProgress | None = None,
    *,
    recipe: str | None = None,
    base: str | Path | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> TowerFile:
    """Train a tower on `data` (see `siamese_index.training.data.source`) and return it.

    `recipe` is a name or a .toml file; None chooses from the data. `base` is a .tower or .onnx file whose network
    stays as it is: a head is trained behind it, on its vectors. `settings` are the fields of
    `siamese_index.training.fit.Settings`; `on_progress` is called with what the training says of itself.
    `out` is where the tower is written; beside it, in OUT.training, lie the checkpoint while it
    runs, then the card, the log and the report. On KeyboardInterrupt the best tower so far is
    returned, and its card's training `ended` is "interrupted"; a second one is raised. Raises BadInput,
    Unreadable, Missing, or NotInstalled without Keras.
    """
    if out is not None:
        refuse_to_replace(path_of(out), "tower")  # before anything is learned
    folder = None if out is None else Path(out).with_suffix(".training")
    if folder is not None:
        _refuse_other_folder(folder)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise refused(folder, error, "made") from None
    job = {
        "data": str(data),
        "recipe": recipe,
        "base": None if base is None else str(path_of(base)),
        "settings": settings,
    }
    made = run(job, on_progress, folder).tower
    if out is not None and folder is not None:
        made.write(out)
        (folder / CHECKPOINT).unlink(missing_ok=True)  # only now it is not needed any more
    return made


def _refuse_other_folder(folder: Path) -> None:
    """Raise BadInput for a folder in which a training would write over files that no training left there."""
    if not folder.is_dir() or (folder / CHECKPOINT).exists():
        return
    if all(file.name == FEATURES or file.name.endswith("partial") for file in folder.iterdir()):
        return  # nothing, or what was embedded before it was interrupted
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        ours = isinstance(card, dict) and "tower" in card and "input" in card
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise BadInput(
            f"{folder}: there is a folder with other files.",
            "A training leaves its card, log and report there.",
            "Choose another name for the tower.",
        )


def look(data: str | Path, recipe: str | None = None, size: int | None = None) -> tuple[str, ...]:
    """Raise what is wrong with the data or the recipe, as far as that can be seen without reading them all.

    Returns what of the data is left out, and why: a sentence each.
    """
    wanted = named(recipe) if recipe else None
    if str(data).startswith("tfds:"):  # which needs TensorFlow
        return ()
    found = source(data)
    choose(found.items, wanted, size, pairs=found.pairs is not None, graded=found.graded)
    return found.items.left_out
