"""Files that are there whole or not at all, and the sweeping of what a killed write left behind."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import stat
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from .errors import BadInput, Missing

_LEFTOVER = re.compile(r"\..+\.(\d+)\.(?:sidx-)?partial")
_PARTIAL = ".sidx-partial"
WINDOWS = os.name == "nt"
Kind = Literal["gallery", "tower", "report", "explanation", "network"]
_OF_A_GALLERY = ("-journal", "-wal", "-shm", ".lock", ".cache", ".training")  # endings of what lies beside one
GENERATOR = '<meta name="generator" content="siamese-index">'  # in every report
SOFTWARE = b"Software\0siamese-index"  # a text in every picture of an explanation
GALLERY_ID = 0x53494458  # "SIDX", the application id of the SQLite file


def path_of(text: str | Path) -> Path:
    """Return the path in `text`. Raises BadInput for an empty one, which would name the working folder."""
    if not isinstance(text, (str, os.PathLike)):
        raise BadInput(f"This is no path: {type(text).__name__}.", "Expected text, or a pathlib.Path.")
    if "\0" in str(text):
        raise BadInput("There is a zero byte in a path.", "find -print0 separates paths so.", "Use --paths-from -")
    if isinstance(text, str) and not text.strip():
        raise BadInput("The path is empty.", "Most often a variable in a script is not set.", "Give a path; . is here.")
    return Path(text)


def refused(path: str | Path, error: OSError, verb: str = "read") -> Missing:
    """Return what to tell of a file that the system does not let one read, write or make."""
    why, how = f"{error.strerror or error}.", ""
    if error.errno in (errno.EACCES, errno.EPERM):
        try:
            owner = Path(path).owner()
            mode = stat.filemode(Path(path).stat().st_mode)
            how = f"It is {owner}'s ({mode}): ask for the right, or work on a copy of your own."
        except (OSError, KeyError, ValueError, NotImplementedError):  # the last on Windows
            how = "Ask whoever owns the folder for the right, or choose another place."
    return Missing(f"{path}: cannot be {verb}.", why, how)


# A process that closes a file gives up every lock that it has on it, SQLite's too: a gallery that is open here must
# not be opened by anything else. Its inode, and how each connection opened it:
_galleries: dict[tuple[int, int], list[str]] = {}
_kept: dict[tuple[int, int], int] = {}
_BLOCK = 1 << 18  # bytes
_looking = threading.RLock()


def opened_as(about: os.stat_result) -> str | None:
    """Return how a connection of this process has opened the file that `about` is of, or None."""
    modes = _galleries.get((about.st_dev, about.st_ino))
    return modes[-1] if modes else None


def note_opened(path: Path, mode: str) -> tuple[int, int]:
    """Note a connection that is about to be made; return what `note_closed` takes. Raises OSError."""
    with _looking:
        about = path.stat()
        _galleries.setdefault((about.st_dev, about.st_ino), []).append(mode)
        return about.st_dev, about.st_ino


def note_closed(file: tuple[int, int]) -> None:
    """Forget a connection that was closed."""
    with _looking:
        modes = _galleries.get(file, [])
        if modes:
            modes.pop()
        if not modes:
            _galleries.pop(file, None)


def kept_open(path: Path) -> int:
    """Return a descriptor of a gallery that is open here, to read from; it stays open as long as the process lives."""
    with _looking:
        about = path.stat()
        file = about.st_dev, about.st_ino
        if file not in _kept:
            _kept[file] = to_read(path)
        return _kept[file]


def to_read(path: Path) -> int:
    """Return a descriptor to read the bytes of a file by. Raises OSError."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # else Windows reads lines


def read_at(descriptor: int, size: int, at: int) -> bytes:
    """Return so many bytes from a place in an open file; fewer at its end. Threads may read at once."""
    if not WINDOWS:
        return os.pread(descriptor, size, at)
    with _looking:
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.read(descriptor, size)


def make_same(source: int, copy: BinaryIO) -> None:
    """Write to `copy`, which can be read, too, where it differs from the file that `source` is a descriptor of."""
    size, written = os.fstat(source).st_size, 0
    for at in range(0, size, _BLOCK):
        new = read_at(source, _BLOCK, at)
        copy.seek(at)
        if copy.read(_BLOCK) != new:
            copy.seek(at)
            copy.write(new)
            written += 1
            if not written % 64:
                copy.flush()
                os.fsync(copy.fileno())  # all at once would hold up whoever else waits for the disk
    copy.truncate(size)


def kind_of(path: Path) -> str:
    """Return what a file holds, by its content: a Kind, "file of another kind", or "" for nothing. Raises Missing."""
    try:
        with _looking:
            if opened_as(path.stat()):
                return "gallery"
            with path.open("rb") as file:
                head = file.read(512)
    except OSError as error:
        raise refused(path, error) from None
    if not head:
        return ""
    if head[:16] == b"SQLite format 3\0" and head[68:72] == GALLERY_ID.to_bytes(4, "big"):
        return "gallery"
    if head[:8] == b"\x89PNG\r\n\x1a\n" and SOFTWARE in head:
        return "explanation"
    if GENERATOR.encode() in head:
        return "report"
    if head[:4] == b"PK\x03\x04" and head[30:39] == b"card.json":
        return "tower"
    return "file of another kind"


def signed(png: bytes) -> bytes:
    """Return a PNG with our name as its software (a tEXt chunk after its header): it may be replaced by another."""
    chunk = b"tEXt" + SOFTWARE
    whole = (len(SOFTWARE)).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return png[:33] + whole + png[33:]


def refuse_to_replace(path: Path, kind: Kind) -> None:
    """Raise BadInput if an output of this kind would replace something else, or a folder or device."""
    try:
        for ending in _OF_A_GALLERY if path.name else ():
            base = path.with_name(path.name.removesuffix(ending))
            if base != path and base.is_file() and kind_of(base) == "gallery":
                raise BadInput(f"{path}: this name belongs to the gallery {base}.", remedy="Choose another name.")
        if not path.exists() and not path.is_symlink():
            return
        if not path.is_file():
            what = "folder" if path.is_dir() else "link to nothing" if path.is_symlink() else "device or pipe"
            raise BadInput(f"{path}: this is a {what}.", f"A {kind} is written to a file.", "Choose another name.")
        found = kind_of(path)
    except OSError as error:
        raise refused(path, error) from None
    if found not in ("", kind):
        raise BadInput(
            f"{path}: there is a {found} already.",
            f"{'An' if kind[0] in 'aeiou' else 'A'} {kind} does not replace it.",
            "Choose another name, or delete that file first.",
        )


def replace_file(path: Path, data: bytes, kind: Kind | None = None) -> None:
    """Write `data` to `path` atomically and durably, readable by its owner only.

    Raises Missing, and, when the `kind` of the data is told, BadInput instead of replacing anything else.
    """
    if kind:
        refuse_to_replace(path, kind)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, exclusive: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving without an error it becomes `path`, durably.

    Raises Missing when the folder does not exist or cannot be written, and, if `exclusive`, when
    `path` exists.
    """
    sweep(path)
    with beside(path, "") as temporary:
        try:
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
            raise refused(path, error, "written") from error


@contextlib.contextmanager
def beside(path: Path, mark: str) -> Iterator[Path]:
    """Yield an empty file beside `path`, readable by its owner only, that is deleted on leaving, or by `sweep`.

    Raises Missing when there can be none.
    """
    temporary = path.with_name(f".{path.name}{mark}.{os.getpid()}{_PARTIAL}")
    try:
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
        except OSError as error:
            raise refused(path, error, "written") from error
        yield temporary
    finally:
        for part in path.parent.glob(f"{glob.escape(temporary.name)}*"):  # SQLite may have put a journal there
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_beside(path: Path, mark: str) -> Iterator[Path]:
    """Yield an empty folder beside `path`, for its owner only, that is deleted on leaving, or by `sweep`.

    Where there can be none it is in the system's folder for temporary files.
    """
    folder = path.with_name(f".{path.name}{mark}.{os.getpid()}{_PARTIAL}")
    try:
        folder.mkdir(mode=0o700)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="sidx-") as elsewhere:
            yield Path(elsewhere)
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; on leaving without an error it becomes `path`, which is none or empty.

    Raises Missing when that cannot be.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise refused(path, error, "written") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cache_folder(gallery: Path) -> Path:
    """Return the folder beside a gallery that holds what can be derived from it."""
    return gallery.with_name(f"{gallery.name}.cache")


def drop_cache(gallery: Path) -> None:
    """Delete the cache; the next search rebuilds what it needs."""
    shutil.rmtree(cache_folder(gallery), ignore_errors=True)


def drop_training(gallery: Path) -> None:
    """Delete what an unfinished retraining keeps beside a gallery: it may hold vectors and pictures."""
    shutil.rmtree(gallery.with_name(f"{gallery.name}.training"), ignore_errors=True)


def leftovers(path: Path) -> list[Path]:
    """Return what killed writes left behind: of `path` and its cache, and others of ours in its folder."""
    found = []
    # One look into the folder, which may hold a hundred thousand pictures, at each opening.
    for part in [*path.parent.glob(".*partial*"), *cache_folder(path).glob(".*.partial*")]:
        mine = part.parent != path.parent or part.name.startswith(f".{path.name}.") or _PARTIAL in part.name
        owner = _LEFTOVER.match(part.name) if mine else None
        if owner and not alive(int(owner[1])):
            found.append(part)
    return sorted(found)


def sweep(path: Path) -> None:
    """Delete the `leftovers` of `path`: they may hold vectors and pictures."""
    for leftover in leftovers(path):
        with contextlib.suppress(OSError):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    if WINDOWS:  # where the signal 0 is Ctrl-C
        import psutil

        return bool(psutil.pid_exists(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
