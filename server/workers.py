"""One service in several processes: each has the gallery open, and all listen at one address."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from siamese_index import Gallery, Missing, SiameseIndexError
from siamese_index.towers import device

from .app import service
from .figures import SHARED
from .keys import Keys
from .mqtt import Broker

log = logging.getLogger("siamese_index.server")


def run(
    listening: socket, workers: int, config: dict[str, Any], gallery: str | Path, keys: Path | None, **options: Any
) -> None:
    """Run a service in so many processes until it is told to end; one that dies is started again.

    `config` is for uvicorn, `options` are those of `service`. Raises Missing where they could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="sidx-figures-") as shared:
        os.environ[SHARED] = shared
        threads = max(1, device.cores() // workers)
        app = partial(_app, gallery, keys, os.getpid(), threads, **options)
        made = uvicorn.Config(app, factory=True, workers=workers, **config)
        supervisor = Multiprocess(made, sockets=[listening])
        supervisor.run()
    if any(each.exitcode == STARTUP_FAILURE for each in supervisor.processes):
        raise Missing("The service could not be started.", "What is wrong was told above.")


def check(gallery: str | Path, mqtt: str | None) -> None:
    """Raise what `service` would, before anything is started."""
    Gallery.open(gallery).close()
    if mqtt is not None:
        Broker.at(mqtt)


def _app(gallery: str | Path, keys: Path | None, parent: int, threads: int, **options: Any) -> ASGIApp:
    """Return the service of one of the processes."""
    device.most_threads = threads
    threading.Thread(target=_end_with, args=(parent,), name="parent watch", daemon=True).start()
    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        return service(gallery, None if keys is None else Keys(keys), alone=False, **options)
    except SiameseIndexError as error:
        log.error(" ".join(str(error).splitlines()))
        sys.exit(STARTUP_FAILURE)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed service leaves nothing behind that listens."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
