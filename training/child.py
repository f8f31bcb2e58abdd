"""Run a training in a child process: TensorFlow's memory and threads end with it.

The parent sends one JSON job, the child answers with one JSON object a line.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from siamese_index import BadInput, Damaged, Missing, NotInstalled, SiameseIndexError, TowerFile, Unreadable
from siamese_index.files import path_of, refuse_to_replace

Report = Callable[[dict[str, Any]], None]
CHECKPOINT = "checkpoint.npz"
_ERRORS = {kind.__name__: kind for kind in (BadInput, Damaged, Missing, NotInstalled, Unreadable)}


def train(
    data: str | Path,
    report: Report | None = None,
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> TowerFile:
    """Train a tower on `data` (see `siamese_index.training.data.source`) and return it.

    `recipe` is a name or a .toml file; None chooses from the data. `settings` are the fields of
    `siamese_index.training.fit.Settings`; `report` is called with what the training says of itself.
    `out` is where the tower is written; beside it, in OUT.training, lie the checkpoint while it
    runs, then the card, the log and the report. On KeyboardInterrupt the best tower so far is
    returned, and its card's training "ended" is "interrupted"; a second one is raised. Raises BadInput,
    Unreadable, Missing, or NotInstalled without Keras.
    """
    folder = None if out is None else path_of(out).with_suffix(".training")
    if folder is not None and out is not None:
        refuse_to_replace(Path(out), "tower")  # before anything is learned
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Missing(f"{folder}: cannot be made.", f"{error.strerror}.") from None
    made = run({"data": str(data), "recipe": recipe, "settings": settings}, report, folder)
    if out is not None and folder is not None:
        made.write(out)
        (folder / CHECKPOINT).unlink(missing_ok=True)  # only now it is not needed any more
    return made


def look(data: str | Path, recipe: str | None = None) -> None:
    """Raise what is wrong with the data or the recipe, as far as that can be seen without reading them all."""
    from .data import source
    from .recipe import choose, named

    wanted = named(recipe) if recipe else None
    if not str(data).startswith("tfds:"):  # which needs TensorFlow
        choose(source(data).items, wanted)


def run(job: dict[str, Any], report: Report | None = None, folder: Path | None = None) -> TowerFile:
    """Run one job in a child and return the tower it made; its errors are raised here."""
    if any(importlib.util.find_spec(name) is None for name in ("keras", "tensorflow", "tf2onnx")):
        raise NotInstalled(
            "Training is not installed.",
            "It needs Keras, TensorFlow and tf2onnx.",
            'pip install "siamese-index[train-cpu]"    (or [train] for a GPU)',
        )
    with tempfile.TemporaryDirectory(prefix="sidx-") as temporary:
        out = Path(temporary) / "made.tower"
        child = subprocess.Popen(
            # -P: the folder that it is started in is not searched for modules.
            [sys.executable, "-P", "-m", "siamese_index.training"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        if not (child.stdin and child.stdout and child.stderr):
            raise RuntimeError("the child was started without pipes")
        noise: list[str] = []
        listener = threading.Thread(target=lambda: noise.extend(child.stderr or ()), daemon=True)
        listener.start()
        try:
            # The pipe stays open: its end tells the child that this process is gone.
            child.stdin.write(json.dumps({**job, "out": str(out), "folder": folder and str(folder)}) + "\n")
            child.stdin.flush()
            with _Interruption(child) as interruption:
                for line in child.stdout:
                    message = json.loads(line)
                    interruption.fits = interruption.fits or "step" in message
                    if "error" in message:
                        raise _ERRORS.get(message["error"], SiameseIndexError)(*message["says"])
                    if report:
                        report(message)
            child.wait()
            if child.returncode != 0:
                listener.join(5)
                raise _died(child.returncode, noise)
            return TowerFile.read(out)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                pipe.close()
            listener.join(5)
            child.stderr.close()


class _Interruption:
    """While it lasts, Ctrl-C asks a child that fits to end with what it has; before that, and again, it interrupts."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.fits = self.asked = False

    def __enter__(self) -> _Interruption:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        if not self.fits or self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.child.send_signal(signal.SIGINT)  # a terminal has sent it already; once more does no harm


def _died(code: int, noise: list[str]) -> SiameseIndexError:
    if code == -signal.SIGKILL:
        return Damaged(
            "The training was killed.", "Most often the system ran out of memory.", "Train with a smaller --size."
        )
    raise RuntimeError("the training process failed:\n" + "".join(noise[-30:]))


def serve() -> None:
    """Be the child: read a job from stdin, do it, report on stdout."""
    # Libraries print to stdout as they please; our lines go to where stdout was.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())

    def report(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from . import recipe
    from .data import Source, source
    from .fit import Settings, fit

    try:
        start, found = None, None if job.get("data") is None else source(job["data"])
        if "gallery" in job:
            from .data import enrolled
            from .retraining import beginning

            items, start = enrolled(job["gallery"]), beginning(job["gallery"])
            found = Source(items + found.items if found else items)
        if found is None:
            raise BadInput("There is nothing to learn from.", "Expected data, a gallery, or both.")
        wanted = job.get("recipe")
        chosen = recipe.parse(wanted) if isinstance(wanted, dict) else recipe.named(wanted) if wanted else None
        folder = Path(job["folder"]) if job.get("folder") else None
        made = fit(found, chosen, Settings(**job["settings"]), report, start, folder, interrupted.is_set)
        made.write(job["out"])
    except SiameseIndexError as error:
        report({"error": type(error).__name__, "says": [error.what, error.why, error.remedy]})
    except OSError as error:
        what = f"{error.filename or 'A temporary file'}: cannot be written or read."
        report({"error": "Missing", "says": [what, f"{error.strerror or error}.", "Is the disk full?"]})


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)
