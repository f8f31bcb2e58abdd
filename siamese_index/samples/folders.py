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

from siamese_index.errors import BadInput
from siamese_index.files import refused

from .headers import SUFFIXES, kind_of_picture

# Parts of a data set, not people.
_SPLIT = re.compile(
    "(?:train|training|val|valid|validation|test|testing|dev|eval|evaluation|gallery|query)"
    "(?:[ _-]?(?:images?|imgs?|set|data))?",
    re.IGNORECASE,
)
_SYSTEM = frozenset(
    [
        "@eadir",
        "#recycle",
        "@recycle",
        "@recently-snapshot",
        "#snapshot",
        "@tmp",
        "__pycache__",
        "node_modules",
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
    """Return all pictures below `folder`, sorted; files of vectors (.npy) where there is not a single picture.

    Raises Missing for a folder that may not be read; others below it are left out.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise refused(folder, error) from None
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

    A file is its folder's: of that path, without train/, val/ and the like. Of files in the folder itself nobody
    knows whose they are, but `by_file_name`, without a number at its end: bob-1.png is bob's. Raises BadInput where
    names of files and folders would say it both.
    """
    flat = [i for i, folder in enumerate(files.folders) if not folder]
    if by_file_name:
        if len(flat) < len(files):
            raise BadInput(
                f"{files.root}: its pictures lie in folders of their own.",
                "--by-file-name is for pictures that all lie in one folder.",
                "Leave it out, or name one of these folders.",
            )
        return list(range(len(files))), [_by_file_name(name) for name in files.names], ""
    taken = [i for i, folder in enumerate(files.folders) if folder]
    for i in flat if taken else ():
        reason = "in the folder itself, not in one of an identity; --by-file-name takes the name for the identity"
        files.left_out.add(reason, files.names[i])
    names = [files.folders[i].replace(os.sep, "/") for i in taken]
    level = None if splits_apart else _split_level(names)
    if level is None:
        return taken, names, ""
    joined, kept, parts = [], [], set()
    for i, name in zip(taken, names, strict=True):
        words = name.split("/")
        if len(words) > level and _SPLIT.fullmatch(words[level]):
            parts.add(words.pop(level))
        if words:
            joined.append("/".join(words))
            kept.append(i)
        else:
            files.left_out.add("in a part of the data set, not in a folder of an identity", f"{name}/{files.names[i]}")
    named = " and ".join(f"{part}/" for part in sorted(parts))
    verb = "is a part" if len(parts) == 1 else "are parts"
    what = f"{named} {verb} of one data set, not somebody's name: {len(set(joined))} identities"
    return kept, joined, f"{what}, joined. --splits-apart keeps them apart."


def _split_level(names: list[str]) -> int | None:
    """Return at which level of the paths there are parts of a data set: train/, val/; None where there are none.

    All paths have one there; or there are two that have an identity in common.
    """
    paths = [name.split("/") for name in set(names)]
    for level in range(max(map(len, paths), default=0)):
        whose: dict[str, set[tuple[str, ...]]] = {}
        for words in paths:
            if len(words) > level and _SPLIT.fullmatch(words[level]):
                whose.setdefault(words[level], set()).add((*words[:level], *words[level + 1 :]))
        everywhere = sum(len(found) for found in whose.values()) == len(paths)
        rests = [rest for found in whose.values() for rest in found if rest]
        if len(rests) != len(set(rests)) or (everywhere and rests):
            return level
        if everywhere and len(whose) > 1:  # pictures in train/ and val/ themselves: nobody knows whose
            return level
    return None


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
        elif not _is_folder(entry):
            yield name, entry
        elif entry.is_symlink():
            links.append((entry.path, inner))
        else:
            yield from _walk(entry.path, inner, seen, links, left_out)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into where nobody may look; what takes files says why
        return False


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
        numbered = "a number" if ending[1:].isdigit() else ending  # log.1, log.2
        found.left_out.add(kind or f"no picture ({numbered or 'no ending'})", inner)
        return
    into = found if kind == "picture" else vectors
    into.folders.append(folder)
    into.names.append(name)
