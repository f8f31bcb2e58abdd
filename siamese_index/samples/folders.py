"""Folders to samples: which files are taken, whose they are, and what is left out and why.

A folder is an identity. What a system leaves in folders is passed over, links are followed once, pictures are known by
their content where their name does not tell. Nothing is left out without being counted and named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .headers import SUFFIXES, kind_of_picture

SPLITS = frozenset("train training val valid validation test testing".split())  # noqa: SIM905  # parents, not people
_SYSTEM = frozenset(
    [
        "@eadir",
        "#recycle",
        "__macosx",
        "lost+found",
        "$recycle.bin",
        "system volume information",
        "thumbs.db",
        "desktop.ini",
    ]
)
_NUMBERED = re.compile(r"(.*[^\W\d_].*?)[ ._-]*(?:\(\d+\)|(?<=[ ._-])\d+)")  # bob-1, bob_02, bob (3)
_TOLD = 3  # files that are named of each kind


@dataclass
class Omissions:
    """What was not taken, by reason: how many, and the first of them."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, [])
        if len(self.first[reason]) < _TOLD:
            self.first[reason].append(path)

    def sentences(self) -> tuple[str, ...]:
        """Return a sentence for each reason."""
        said = []
        for reason, count in self.counts.items():
            more = f" and {count - _TOLD:,} more" if count > _TOLD else ""
            said.append(f"Left out: {', '.join(self.first[reason])}{more}: {reason}.")
        return tuple(said)


@dataclass
class Files:
    """Files below a folder: of each its folder and its name, as text, since a million paths take a gigabyte."""

    root: str
    folders: list[str] = field(default_factory=list)  # relative to the root, "" for the root itself
    names: list[str] = field(default_factory=list)
    left_out: Omissions = field(default_factory=Omissions)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> Path:
        return Path(self.root, self.folders[i], self.names[i])


def pictures(folder: Path) -> Files:
    """Return all pictures below `folder`, sorted; files of vectors (.npy) where there is not a single picture."""
    found, vectors = Files(str(folder)), Files(str(folder))
    seen: set[tuple[int, int]] = set()
    links: list[tuple[str, str]] = []
    for here, entry in _walk(str(folder), "", seen, links, found.left_out):
        _sort_in(here, entry, found, vectors)
    while links:  # folders that lie here came first: a link to one of them adds nothing
        path, name = links.pop(0)
        for here, entry in _walk(path, name, seen, links, found.left_out):
            _sort_in(here, entry, found, vectors)
    if not len(found):
        vectors.left_out = found.left_out
        return vectors
    for i in range(len(vectors)):
        found.left_out.add("vectors beside pictures", str(Path(vectors.folders[i], vectors.names[i])))
    return found


def identities(files: Files, by_file_name: bool, splits_apart: bool) -> tuple[list[int], list[str], str]:
    """Return which files are taken, whose they are, and a sentence on how the folder was read, or "".

    A file is its folder's: of that path, without train/, val/ and the like at the top. Of files in the folder
    itself nobody knows whose they are, but `by_file_name`, without a number at its end: bob-1.png is bob's.
    """
    flat = [i for i, folder in enumerate(files.folders) if not folder]
    if by_file_name:
        return list(range(len(files))), [_by_file_name(name) for name in files.names], ""
    taken = [i for i, folder in enumerate(files.folders) if folder]
    for i in flat if taken else ():
        reason = "in the folder itself, not in one of an identity; --by-file-name takes the name for the identity"
        files.left_out.add(reason, files.names[i])
    names = [files.folders[i].replace(os.sep, "/") for i in taken]
    tops = {name.split("/", 1)[0] for name in names}
    if splits_apart or len(tops) < 2 or not all(top.lower() in SPLITS for top in tops):
        return taken, names, ""
    if not all("/" in name for name in names):
        return taken, names, ""
    joined = [name.split("/", 1)[1] for name in names]
    parts = " and ".join(f"{top}/" for top in sorted(tops))
    said = f"{parts} are parts of one data set: {len(set(joined))} identities, joined. --splits-apart keeps them apart."
    return taken, joined, said


def _by_file_name(name: str) -> str:
    stem = Path(name).stem
    numbered = _NUMBERED.fullmatch(stem)
    return numbered[1].rstrip(" ._-") if numbered else stem


def _walk(
    path: str, name: str, seen: set[tuple[int, int]], links: list[tuple[str, str]], left_out: Omissions
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield (relative folder, file), sorted. Folders that are links are put by, those met before passed over."""
    try:
        there = os.stat(path)  # noqa: PTH116
        if (there.st_dev, there.st_ino) in seen:
            left_out.add("a link to a folder that is taken already", name)
            return
        seen.add((there.st_dev, there.st_ino))
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        left_out.add(f"cannot be read ({(error.strerror or str(error)).lower()})", name or path)
        return
    for entry in entries:
        inner = f"{name}/{entry.name}" if name else entry.name
        if entry.name.startswith(".") or entry.name.lower() in _SYSTEM:
            left_out.add("hidden, or made by a system", inner)
        elif entry.is_symlink() and entry.is_dir():
            links.append((entry.path, inner))
        elif entry.is_dir():
            yield from _walk(entry.path, inner, seen, links, left_out)
        else:
            yield name, entry


def _sort_in(folder: str, entry: os.DirEntry[str], found: Files, vectors: Files) -> None:
    """Take a file as a picture, or as vectors, or count why not."""
    name = entry.name
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
    inner = f"{folder}/{name}" if folder else name
    try:
        if not entry.is_file():
            found.left_out.add("a device, a pipe, or a link to nothing", inner)
            return
        kind = "picture" if ending in SUFFIXES else "" if ending == ".npy" else kind_of_picture(entry.path)
    except OSError as error:
        found.left_out.add(f"cannot be read ({(error.strerror or str(error)).lower()})", inner)
        return
    if kind != "picture" and ending != ".npy":
        found.left_out.add(kind or f"no picture ({ending or 'no ending'})", inner)
        return
    into = found if kind == "picture" else vectors
    into.folders.append(folder)
    into.names.append(name)
