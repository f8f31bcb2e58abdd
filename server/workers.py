"""One service in several processes: each has the gallery open, and all listen at one address."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from siamese_index import Gallery
from siamese_index.towers import device

from .app import service
from .figures import SHARED
from .keys import Keys


def run(
    listening: socket, workers: int, config: dict[str, Any], gallery: str | Path, keys: Path | None, **options: Any
) -> None:
    """Run a service in so many processes until it is told to end; one that dies is started again.

    `config` is for uvicorn, `options` are those of `service`. Raises what `service` does.
    """
    Gallery.open(gallery).close()  # what is wrong with it is told before anything is started
    with tempfile.TemporaryDirectory(prefix="sidx-figures-") as shared:
        os.environ[SHARED] = shared
        threads = max(1, device.cores() // workers)
        app = partial(_app, gallery, keys, os.getpid(), threads, **options)
        made = uvicorn.Config(app, factory=True, workers=workers, timeout_worker_healthcheck=30, **config)
        Multiprocess(made, sockets=[listening]).run()


def _app(gallery: str | Path, keys: Path | None, parent: int, threads: int, **options: Any) -> ASGIApp:
    """Return the service of one of the processes."""
    device.most_threads = threads
    threading.Thread(target=_end_with, args=(parent,), name="parent watch", daemon=True).start()
    return service(gallery, None if keys is None else Keys(keys), alone=False, **options)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed service leaves nothing behind that listens."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
