"""Files that are there whole or not at all, and the sweeping of what a killed write left behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import Missing


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically and durably, readable by its owner only. Raises Missing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, exclusive: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving without an error it becomes `path`, durably.

    Raises Missing when the folder does not exist or cannot be written, and, if `exclusive`, when
    `path` exists.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
            yield temporary
            descriptor = os.open(temporary, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if exclusive:
                path.hardlink_to(temporary)
            else:
                temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise Missing(f"{path}: cannot be written.", f"{error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def leftovers(path: Path) -> list[Path]:
    """Return what killed writes of `path` left beside it: files of processes that are gone."""
    found = []
    for candidate in path.parent.glob(f".{path.name}.*.partial*"):
        owner = candidate.name.removeprefix(f".{path.name}.").split(".")[0]
        if owner.isdigit() and not _alive(int(owner)):
            found.append(candidate)
    return found


def sweep(path: Path) -> None:
    """Delete the `leftovers` of `path`: they may hold vectors and pictures."""
    for leftover in leftovers(path):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
