"""What a picture file says of itself before it is decoded: kind, size, and whether it is a bomb or cut short."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from siamese_index.errors import NotInstalled, Unreadable

MAX_PIXELS = 64_000_000  # a 64-megapixel photograph; beyond it a header is more likely a bomb
MIN_SIDE = 8
SUFFIXES = frozenset(f".{s}" for s in "avif bmp gif jpeg jpg pbm pgm png pnm ppm tif tiff webp".split())  # noqa: SIM905
_PNM = re.compile(rb"P[1-6]\s+(\d{1,9})\s+(\d{1,9})\s")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # of a JPEG, not what stands within its pixels
MAX_SCANS = 64  # of a JPEG; a progressive one has about ten
FORMATS = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000 or PGM/PPM"
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")  # brands
_PILLOW_HEIF = "pip install pillow-heif"


def kind_of_picture(path: str | Path) -> str:
    """Return "picture" for a file that begins as one, else what it is instead, or "". Raises OSError."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        head = file.read(32)
    return _kind(head)


def _kind(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"avif", b"avis"):
            return "picture"
        if head[8:12] in _HEIC:
            return "picture" if _can_heic() else f"HEIC, which needs: {_PILLOW_HEIF}"
        return "a video"
    if head[:4] == b"\x1aE\xdf\xa3" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "a video"
    beginnings = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  \r\n")
    bitmap = head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"
    known = head.startswith(beginnings) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or _PNM.match(head)
    return "picture" if known or bitmap else ""


def is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC


def _can_heic() -> bool:
    from importlib.util import find_spec

    return find_spec("pillow_heif") is not None


def open_heic(data: bytes) -> Any:
    """Open a HEIC; its pixels are decoded when they are asked for. Raises NotInstalled, Unreadable."""
    if not _can_heic():
        raise NotInstalled("HEIC pictures need pillow-heif.", remedy=_PILLOW_HEIF)
    import pillow_heif

    try:
        return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    except Exception as error:  # noqa: BLE001  # its errors share no base class
        raise Unreadable("The picture's header is damaged.", str(error)) from None


def refuse_from_header(data: bytes) -> tuple[int, int]:
    """Return (width, height) as the header says. Raises Unreadable."""
    width, height = _header_size(data)
    if width < 0 or height < 0:
        raise Unreadable("This is not a picture.", f"Expected {FORMATS}.")
    if width * height > MAX_PIXELS:
        raise Unreadable(
            f"The picture says it is {width} x {height} pixels.",
            f"More than {MAX_PIXELS:,} pixels are not decoded.",
            "Scale it down first.",
        )
    if min(width, height) < MIN_SIDE:
        raise Unreadable(f"The picture is {width} x {height} pixels.", f"At least {MIN_SIDE} x {MIN_SIDE} are needed.")
    if is_jpeg(data):
        _refuse_jpeg(data)
    elif data[:4] == b"\x89PNG":
        _refuse_png(data)
    return width, height


def _refuse_jpeg(data: bytes) -> None:
    """Raise Unreadable for a JPEG without its end, which libjpeg would fill with grey, or with scans without end.

    Its markers are followed to the first end: behind it there may be a video.
    """
    at, scans = 2, 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            return
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise Unreadable(
                    f"The JPEG has more than {MAX_SCANS} scans.", "That is made to take time, not to show."
                )
        if marker not in (0x01, 0xD8):
            at += int.from_bytes(data[at : at + 2], "big")
    raise Unreadable("The picture is cut short.", "The JPEG has no end.", "Copy it again from its source.")


def _refuse_png(data: bytes) -> None:
    """Raise Unreadable for a PNG of which a chunk says that it is longer than the file."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            raise Unreadable(
                "The picture is cut short or damaged.", f"A part of it says that it is {length:,} bytes long."
            )
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + length
    raise Unreadable("The picture is cut short.", "The PNG has no end.", "Copy it again from its source.")


def is_jpeg(data: bytes) -> bool:
    return data[:2] == b"\xff\xd8"


def _header_size(data: bytes) -> tuple[int, int]:
    """Return (width, height), negative for what is no picture. Raises Unreadable."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
        # The commonest of all need not wait for imagesize, whose import (of urllib) costs 20 ms.
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if found := _PNM.match(data):  # so does PGM, of which only those with a comment wait
        return int(found[1]), int(found[2])
    if is_heic(data):
        width, height = open_heic(data).size
        return width, height
    if data[4:8] == b"ftyp" and (at := data.find(b"ispe")) >= 0:  # AVIF: imagesize does not know one that is turned
        width, height = int.from_bytes(data[at + 8 : at + 12], "big"), int.from_bytes(data[at + 12 : at + 16], "big")
        return (height, width) if (quarter_turns(data) or 0) % 2 else (width, height)
    import imagesize

    try:
        width, height = imagesize.get(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001  # a header parser fed with arbitrary bytes may raise anything
        raise Unreadable("The picture's header is damaged.", str(error)) from None
    return int(width), int(height)


def quarter_turns(data: bytes) -> int | None:
    """Return by how many quarter turns, to the left, an AVIF is to be turned (its property irot); None without one."""
    at = data.find(b"irot") if data[4:8] == b"ftyp" else -1
    return data[at + 4] & 3 if 0 <= at < len(data) - 4 else None
