"""Run a training in a child process: TensorFlow's memory and threads end with it.

The parent sends one JSON job, the child (`siamese_index.training.__main__`) answers with one JSON object a
line, and leaves what it made in a folder of the parent's.
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Damaged, Missing, NotInstalled, SiameseIndexError, TowerFile, Unreadable

from .progress import OnProgress

END = "end\n"  # a line that asks a child to end with what it has
TOWER, EMBEDDED, CONVERTED = "made.tower", "embedded.npz", "converted"  # in the folder of a job
_ERRORS = {kind.__name__: kind for kind in (BadInput, Damaged, Missing, NotInstalled, Unreadable)}


@dataclass(frozen=True)
class Product:
    """What a job made: a tower, and of a gallery's samples what they are to it."""

    tower: TowerFile
    samples: NDArray[np.int64]  # (n,) ids of the gallery's samples that could be read
    names: tuple[str, ...]  # (n,) whose they are
    vectors: NDArray[np.float32]  # (n, dimension) by this tower


def require(*names: str) -> None:
    """Raise NotInstalled unless all of these modules of the training extra can be imported."""
    if any(importlib.util.find_spec(name) is None for name in names):
        raise NotInstalled(
            "Training is not installed.",
            "It needs Keras, TensorFlow and tf2onnx; an 8-bit tower needs ONNX, which comes with them.",
            'In the folder of its source: pip install ".[train-cpu]"    (or ".[train]" for a GPU)',
        )


def run(job: dict[str, Any], on_progress: OnProgress | None = None, folder: Path | None = None) -> Product:
    """Run one job in a child and return what it made; its errors are raised here.

    `folder` is where the training keeps its checkpoint and its artifacts.
    """
    require("keras", "tensorflow", "tf2onnx")
    with tempfile.TemporaryDirectory(prefix="sidx-") as out:
        work(job, Path(out), on_progress, folder)
        return _made(Path(out))


def work(job: dict[str, Any], out: Path, on_progress: OnProgress | None = None, folder: Path | None = None) -> None:
    """Have a child do a job and leave what it made in the folder `out`; its errors are raised here."""
    child = subprocess.Popen(
        # -P: the folder that it is started in is not searched for modules.
        [sys.executable, "-P", "-m", "siamese_index.training"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0"},
    )
    if not (child.stdin and child.stdout and child.stderr):
        raise RuntimeError("the child was started without pipes")
    noise: list[str] = []
    listener = threading.Thread(target=noise.extend, args=(child.stderr,), daemon=True)
    listener.start()
    try:
        # The pipe stays open: its end tells the child that this process is gone.
        child.stdin.write(json.dumps({**job, "out": str(out), "folder": folder and str(folder)}) + "\n")
        child.stdin.flush()
        _listen(child, child.stdout, on_progress)
        child.wait()
        if child.returncode != 0:
            listener.join(5)
            raise _died(child.returncode, noise)
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            pipe.close()
        listener.join(5)
        child.stderr.close()


def _listen(child: subprocess.Popen[str], lines: IO[str], on_progress: OnProgress | None) -> None:
    with _Interruption(child) as interruption:
        for line in lines:
            message = json.loads(line)
            interruption.fits = interruption.fits or "step" in message
            if "error" in message:
                raise _ERRORS.get(message["error"], SiameseIndexError)(*message["says"])
            if on_progress:
                on_progress(message)


def _made(out: Path) -> Product:
    tower = TowerFile.read(out / TOWER)
    with np.load(out / EMBEDDED, allow_pickle=False) as arrays:
        return Product(tower, arrays["samples"], tuple(arrays["names"].tolist()), arrays["vectors"])


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
        if self.child.stdin:  # a terminal has sent it a signal, too; another one cannot be sent on every system
            self.child.stdin.write(END)
            self.child.stdin.flush()


def _died(code: int, noise: list[str]) -> SiameseIndexError:
    if code == -9:  # SIGKILL
        return Damaged(
            "The training was killed.", "Most often the system ran out of memory.", "Train with a smaller --size."
        )
    raise RuntimeError("the training process failed:\n" + "".join(noise[-30:]))
