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

Report = Callable[[dict[str, Any]], None]
_ERRORS = {kind.__name__: kind for kind in (BadInput, Damaged, Missing, NotInstalled, Unreadable)}


def train(data: str | Path, report: Report | None = None, **settings: Any) -> TowerFile:
    """Train a tower on `data` (see `siamese_index.sources.items`) and return it.

    `settings` are the fields of `siamese_index.training.fit.Settings`; `report` is called with what
    the training says of itself. Raises BadInput, Unreadable, Missing, or NotInstalled without Keras.
    """
    return run({"data": str(data), "settings": settings}, report)


def run(job: dict[str, Any], report: Report | None = None) -> TowerFile:
    """Run one job in a child and return the tower it made; its errors are raised here."""
    if any(importlib.util.find_spec(name) is None for name in ("keras", "tensorflow", "tf2onnx")):
        raise NotInstalled(
            "Training is not installed.",
            "It needs Keras, TensorFlow and tf2onnx.",
            'pip install "siamese-index[train-cpu]"    (or [train] for a GPU)',
        )
    with tempfile.TemporaryDirectory(prefix="sidx-") as folder:
        out = Path(folder) / "made.tower"
        child = subprocess.Popen(
            [sys.executable, "-m", "siamese_index.training"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        assert child.stdin and child.stdout and child.stderr  # they are pipes
        noise: list[str] = []
        listener = threading.Thread(target=lambda: noise.extend(child.stderr or ()), daemon=True)
        listener.start()
        try:
            # The pipe stays open: its end tells the child that this process is gone.
            child.stdin.write(json.dumps({**job, "out": str(out)}) + "\n")
            child.stdin.flush()
            for line in child.stdout:
                message = json.loads(line)
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

    def report(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from siamese_index.sources import items

    from .fit import Settings, fit

    try:
        start, pictures = None, [] if job.get("data") is None else list(items(job["data"]))
        if "gallery" in job:
            from .retraining import gallery_items

            enrolled, start = gallery_items(job["gallery"])
            pictures = enrolled + pictures
        fit(pictures, Settings(**job["settings"]), report, start).write(job["out"])
    except SiameseIndexError as error:
        report({"error": type(error).__name__, "says": [error.what, error.why, error.remedy]})


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)
