"""The command line: parse, call the library, print, exit."""

import os

# Idle threads of numpy's BLAS spin for a while, on a core that something else could use: a third of
# what a short command takes. This lets them sleep at once. It counts only before numpy is loaded.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from .app import run

__all__ = ["run"]
