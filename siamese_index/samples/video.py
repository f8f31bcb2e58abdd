"""Pictures one after the other, with when they were taken: of a folder that fills, a video, a camera, a stream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from siamese_index.errors import BadInput, Missing, SiameseIndexError

from . import images
from .images import Pixels

POLL = 0.5  # seconds between two looks into a folder
PATIENCE = 10_000  # milliseconds that a stream may be silent
LONGEST_PAUSE = 30.0  # seconds between two tries to reach a stream
SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
Told = Callable[[str], None]


@dataclass(frozen=True)
class Shot:
    """A picture at a moment, in seconds; of a folder and a stream those of the clock. Without pixels: nothing came."""

    name: str
    at: float
    pixels: Pixels | None  # (h, w, 3), RGB


def shots(source: str, every: float = 0.2, *, once: bool = False, told: Told = lambda _: None) -> Iterator[Shot]:
    """Yield what a source shows: a folder, a video file, a camera's number, or the address of a stream.

    Of videos and cameras one picture in `every` seconds. A folder is looked at again and again, a stream that breaks
    off is tried again, unless `once`. `told` is called with what was left out, and with troubles. Raises Missing for a
    source that is not there, BadInput for one that is none.
    """
    if not 0 <= every <= 3600:
        raise BadInput(f"{every} is no time between two pictures.", "Expected 0 to 3600 seconds.")
    if source.isdecimal():
        return _stream(int(source), every, once, told)
    if source.lower().startswith(SCHEMES):
        return _stream(source, every, once, told)
    path = Path(source)
    if path.is_dir():
        return _folder(path, once, told)
    if not path.is_file():
        raise Missing(f"{source}: no such folder or video.", remedy="Or a camera's number, or an address: rtsp://…")
    return _video(path, every)


def _folder(folder: Path, once: bool, told: Told) -> Iterator[Shot]:
    """Yield the pictures of a folder by their time, and those that come; a file that still grows waits."""
    seen: set[tuple[str, int]] = set()
    sizes: dict[str, int] = {}
    last = 0.0  # cameras' clocks may be wrong: never before what came, never in the future
    while True:
        now = time.time()
        for path, about in _files(folder):
            key = (path.name, about.st_mtime_ns)
            if key in seen or path.name.startswith("."):
                continue
            grows = sizes.get(path.name) != about.st_size and now - about.st_mtime < 2 * POLL
            sizes[path.name] = about.st_size
            if grows and not once:
                continue
            seen.add(key)
            try:
                pixels = images.decode(images.read(path), 3)
            except SiameseIndexError as error:
                told(str(images.named(path.name, error)).replace("\n", " "))
                continue
            last = max(last, min(about.st_mtime, now))
            yield Shot(path.name, last, pixels)
        if once:
            return
        last = time.time()
        yield Shot("", last, None)
        time.sleep(POLL)


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    try:
        for entry in os.scandir(folder):
            try:
                if entry.is_file():
                    found.append((Path(entry.path), entry.stat()))
            except OSError:  # gone meanwhile
                continue
    except OSError as error:
        raise Missing(f"{folder}: cannot be read.", f"{error.strerror}.") from None
    return sorted(found, key=lambda each: (each[1].st_mtime_ns, each[0].name))


def _video(path: Path, every: float) -> Iterator[Shot]:
    opened = cv2.VideoCapture(str(path))
    try:
        rate, number, due = opened.get(cv2.CAP_PROP_FPS), 0, 0.0
        if not opened.isOpened():
            raise BadInput(
                f"{path}: this is no video that can be read.", "Expected one that OpenCV reads, such as .mp4."
            )
        rate = rate if 0 < rate < 1000 else 25.0
        while opened.grab():
            at = number / rate
            number += 1
            if at + 1e-9 < due:
                continue
            due = at + every
            fine, bgr = opened.retrieve()
            if fine:
                yield Shot(f"{path.name}@{at:.2f}", at, _rgb(bgr))
        if not number:
            raise BadInput(f"{path}: there is no picture in it.")
    finally:
        opened.release()


def _stream(source: int | str, every: float, once: bool, told: Told) -> Iterator[Shot]:
    """Yield what comes; a stream that breaks off is tried again, after 1, 2, 4, … seconds."""
    label = f"camera {source}" if isinstance(source, int) else _without_password(source)
    reached, pause = False, 1.0
    while True:
        opened = _opened(source)
        try:
            due = 0.0
            while opened.isOpened() and opened.grab():
                reached, pause = True, 1.0
                now = time.time()
                if now < due:
                    continue
                due = now + every
                fine, bgr = opened.retrieve()
                if fine:
                    yield Shot(f"{label}@{time.strftime('%H:%M:%S', time.localtime(now))}", now, _rgb(bgr))
        finally:
            opened.release()
        if not reached:
            raise Missing(f"{label}: nothing comes from there.", remedy="Is it switched on, and the address right?")
        if once:
            return
        told(f"{label}: broke off. It is tried again in {pause:.0f} s.")
        until = time.time() + pause
        while time.time() < until:  # what is waited for may end meanwhile
            yield Shot("", time.time(), None)
            time.sleep(min(POLL, max(0.0, until - time.time())))
        pause = min(2 * pause, LONGEST_PAUSE)


def _opened(source: int | str) -> cv2.VideoCapture:
    if isinstance(source, int):
        return cv2.VideoCapture(source)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, PATIENCE, cv2.CAP_PROP_READ_TIMEOUT_MSEC, PATIENCE]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)


def _without_password(address: str) -> str:
    """Return an address as it may be printed."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _rgb(bgr: Any) -> Pixels:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
