"""Two samples embedded by a tower in a process of its own: what never ends, or wants all memory, is refused there.

A tower is a file, and files come from anybody. Reading one runs nothing; opening its network does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from siamese_index.errors import Damaged, SiameseIndexError

from .tower import Tower
from .tower_file import TowerFile

SECONDS = 60.0  # that two samples may take, with opening the network
MEMORY = 4 << 30  # bytes of address space, and four times the network beside it
_fine: set[str] = set()  # ids of towers that this process has seen embed


def try_out(file: TowerFile) -> None:
    """Raise Damaged for a tower that cannot embed, within limits of time and memory.

    That it gives unit vectors of the length that its card says is seen, too. Once in a process for each tower.
    """
    if file.id in _fine:
        return
    with tempfile.TemporaryDirectory(prefix="sidx-") as folder:
        path = Path(folder) / "tried.tower"
        file.write(path)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "siamese_index.towers.tryout", str(path)],
                cwd=folder,  # no weights of its own lie there
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _refused(f"Two pictures took more than {SECONDS:.0f} s.") from None
    if done.returncode:
        raise _refused("It ended the process that opened it: most often it wants too much memory.")
    told = json.loads(done.stdout.splitlines()[-1])
    if told:
        raise _refused(told)
    _fine.add(file.id)


def _refused(why: str) -> Damaged:
    return Damaged("The tower cannot embed pictures, so it is not taken in.", why, "Make it again, or import it again.")


def _limit(size: int) -> None:
    """Keep this process within bounds, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: only the time is limited
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + 4 * size,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(2 * SECONDS * (os.cpu_count() or 1)),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tried(path: str) -> str:
    """Return what is wrong with a tower, or nothing."""
    _limit(Path(path).stat().st_size)
    try:
        tower = Tower.open(path)
        rng = np.random.default_rng(0)
        shape: Any = tower.shape
        numbers = len(shape) == 1
        samples = rng.normal(size=(2, *shape)).astype(np.float32) if numbers else rng.integers(0, 256, (2, *shape))
        tower.embed(list(samples if numbers else samples.astype(np.uint8)))
    except SiameseIndexError as error:
        return f"{error.what} {error.why}".strip()
    except MemoryError:
        return "It wants too much memory."
    return ""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_tried(sys.argv[1])) + "\n")
