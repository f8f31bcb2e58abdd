"""The child process of a training: reads a job from stdin, does it, and reports on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from siamese_index import BadInput, Gallery, SiameseIndexError, TowerFile
from siamese_index.analysis import html
from siamese_index.samples import images
from siamese_index.samples.items import Items
from siamese_index.towers.foreign import import_network
from siamese_index.towers.heads import without_head

from . import recipe
from .data import Source, enrolled, source, spooled, without
from .fit import HEADS, Settings, Trained, fit
from .process import CONVERTED, EMBEDDED, END, TOWER
from .progress import OnProgress


def serve() -> None:
    """Be the child."""
    # Libraries print to stdout as they please; our lines go to where stdout was.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())

    def on_progress(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_heed_parent, args=(interrupted,), daemon=True).start()
    try:
        _do(job, on_progress, interrupted.is_set)
    except SiameseIndexError as error:
        on_progress({"error": type(error).__name__, "says": [error.what, error.why, error.remedy]})
    except OSError as error:
        what = f"{error.filename or 'A temporary file'}: cannot be written or read."
        on_progress({"error": "Missing", "says": [what, f"{error.strerror or error}.", "Is the disk full?"]})


def _fetches(job: dict[str, Any]) -> bool:
    """Whether a job asks for something that Keras fetches: a data set, or weights."""
    wanted = job.get("recipe")
    if isinstance(wanted, str):
        wanted = recipe.named(wanted).to_dict()
    tower = (wanted or {}).get("tower", {})
    return str(job.get("data")).startswith("keras:") or tower.get("weights") == "imagenet"


def _do(job: dict[str, Any], on_progress: OnProgress, interrupted: Callable[[], bool]) -> None:
    if not _fetches(job):  # else what it fetched before may be there
        os.environ.setdefault("KERAS_HOME", job["out"])  # Keras leaves a file in its home, and heeds what it finds
    if html.has_no_fonts():
        os.environ["MPLCONFIGDIR"] = job["out"]
    if "convert" in job:
        from .convert import converted

        (Path(job["out"]) / CONVERTED).write_bytes(converted(TowerFile.read(job["tower"]), job["convert"]))
        return
    start, detector, base, ids = None, None, None, np.zeros(0, np.int64)
    found = None if job.get("data") is None else source(job["data"])
    if "gallery" in job:
        absent = frozenset(job["without"])
        with Gallery.open(job["gallery"]) as opened:
            items, ids = enrolled(opened, absent)
            items = items + _wrong(opened)
            file = opened.tower_file()
            made_elsewhere = file.card.tuned or file.card.imported
            start, detector, base = _kept(file) if made_elsewhere else (file.keras, file.detector, None)
        start = None if job["scratch"] else start
        all_items = items + without(found.items, absent) if found else items
        found = Source(all_items, hard=frozenset(job["hard"]), taught=frozenset(job["taught"]))
    if found is None:
        raise BadInput("There is nothing to learn from.", "Expected data, a gallery, or both.")
    wanted, folder = job.get("recipe"), Path(job["folder"]) if job.get("folder") else None
    chosen = recipe.parse(wanted) if isinstance(wanted, dict) else recipe.named(wanted) if wanted else None
    settings = Settings(**job["settings"])
    if job.get("base"):
        start, detector, base = _kept(_network(job["base"]))
    elif base is not None:
        if chosen is not None and chosen.tower["name"] not in HEADS:
            base = None  # another recipe is asked for: a network of its own
        else:
            settings = replace(settings, size=None)  # which is the network's
    if settings.face_model:
        detector = images.read(settings.face_model)
    trained = fit(found, chosen, settings, on_progress, start, folder, interrupted, detector, base)
    _leave(Path(job["out"]), trained, ids)


def _wrong(gallery: Gallery) -> Items:
    """Return the pictures of answers that were wrong, and show nobody who is enrolled: each somebody by itself."""
    with gallery.reading() as state:
        log = state.store.log
        pictures = [(i, log.picture(i)) for i, (truth, _) in sorted(log.corrections().items()) if truth == "ignored"]
    return spooled((f"answer {i}", picture) for i, picture in pictures if picture is not None)


def _network(path: str) -> TowerFile:
    """Return a tower file, or a network as one that takes 0 to 255, RGB."""
    if not path.lower().endswith(".onnx"):
        return TowerFile.read(path)
    try:
        return import_network(path).file
    except BadInput as error:
        raise BadInput(error.what, error.why, f"Make a tower of it first: sidx towers import {path} --help") from None


def _kept(file: TowerFile) -> tuple[bytes | None, bytes | None, TowerFile]:
    """Return a head to go on from, no detector but the network's own, and the network that stays as it is."""
    return (file.keras, None, without_head(file)) if file.card.tuned else (None, None, file)


def _leave(out: Path, trained: Trained, ids: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Write the tower, and the vectors by it of the gallery's samples, which come first in the data."""
    trained.file.write(out / TOWER)
    readable = np.array([i for i in range(len(ids)) if i not in trained.data.unreadable], np.int64)
    names = np.array([trained.data.items.names[i] for i in readable], dtype=np.str_)
    np.savez(out / EMBEDDED, samples=ids[readable], names=names, vectors=trained.embedded(readable))


def _heed_parent(interrupted: threading.Event) -> None:
    """End with what there is when the parent asks for it, and at once when it is gone."""
    for line in sys.stdin:
        if line == END:
            interrupted.set()
    os._exit(1)


if __name__ == "__main__":
    serve()
