"""`python -m siamese_index.rebuild GALLERY`: writes the cached base anew, beside whatever goes on."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import SiameseIndexError
from .files import cache_folder
from .gallery import Gallery


def main(path: Path) -> None:
    """Rebuild, unless another process is about it."""
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such thing
        os.nice(10)  # searches come first
    with contextlib.suppress(OSError, Timeout, SiameseIndexError):
        folder = cache_folder(path)
        folder.mkdir(mode=0o700, exist_ok=True)
        with FileLock(folder / "rebuild.lock", timeout=0, mode=0o600), Gallery.open(path) as gallery:
            gallery.rebuild_index()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
