"""What a picture file says of itself before it is decoded: kind, size, and whether it is a bomb or cut short."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

from siamese_index.errors import NotInstalled, Unreadable

MAX_PIXELS = 64_000_000  # a 64-megapixel photograph; beyond it a header is more likely a bomb
# Of a picture of 16 bits, or in a format whose decoder takes 15 to 20 bytes a pixel: 512 MB at most.
MAX_COSTLY_PIXELS = 24_000_000
MIN_SIDE = 8
SUFFIXES = frozenset(f".{s}" for s in "avif bmp gif jpeg jpg pbm pgm png pnm ppm tif tiff webp".split())  # noqa: SIM905
_GAP = rb"(?:\s+|\s*#[^\n]*\n\s*)"  # a comment may stand in it
_MAXVAL = re.compile(rb"P[2356]" + _GAP + rb"\d+" + _GAP + rb"\d+" + _GAP + rb"(\d{1,5})\s")
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
    most = MAX_COSTLY_PIXELS if width * height > MAX_COSTLY_PIXELS and _is_costly(data) else MAX_PIXELS
    if width * height > most:
        raise Unreadable(
            f"The picture says it is {width} x {height} pixels.",
            f"More than {most:,} pixels {'of this format ' if most < MAX_PIXELS else ''}are not decoded.",
            "Scale it down first.",
        )
    if min(width, height) < MIN_SIDE:
        raise Unreadable(f"The picture is {width} x {height} pixels.", f"At least {MIN_SIDE} x {MIN_SIDE} are needed.")
    if data[:4] in (b"II*\0", b"MM\0*") and tiff_tag(data, 277) == 2:  # SamplesPerPixel: OpenCV drops the second
        raise Unreadable("The TIFF is grey with transparency, which is not read.", remedy="Save it as PNG.")
    if is_jpeg(data):
        _end_of_jpeg(data)
    elif data[:4] == b"\x89PNG":
        _end_of_png(data)
    return width, height


def _is_costly(data: bytes) -> bool:
    """Whether a picture takes more than eight bytes a pixel while it is decoded."""
    if data[:4] == b"\x89PNG":
        return data[24] > 8
    if data[:1] == b"P":
        return max_value(data) > 255
    if data[:4] in (b"II*\0", b"MM\0*"):
        return tiff_tag(data, 258) > 8  # BitsPerSample
    return not is_jpeg(data) and data[:2] != b"BM" and data[:4] not in (b"RIFF", b"GIF8")


def max_value(data: bytes) -> int:
    """Return the number that stands for white in a PGM or PPM; 0 for any other file."""
    found = _MAXVAL.match(data)
    return int(found[1]) if found else 0


def tiff_tag(data: bytes, tag: int) -> int:
    """Return the first number of a tag in the first directory of a TIFF, or of EXIF; 0 when it is absent."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        directory = struct.unpack_from(f"{order}I", data, 4)[0]
        for entry in range(min(struct.unpack_from(f"{order}H", data, directory)[0], 512)):
            found, kind, count, at = struct.unpack_from(f"{order}HHII", data, directory + 2 + 12 * entry)
            if found == tag:
                here = directory + 2 + 12 * entry + 8
                return int(
                    struct.unpack_from(f"{order}H" if kind == 3 else f"{order}I", data, here if count < 3 else at)[0]
                )
    except struct.error:  # cut short, or no TIFF at all
        pass
    return 0


def webp_exif(data: bytes) -> bytes:
    """Return the EXIF of a WebP, empty where it has none: OpenCV before 4.13 does not find it."""
    at = 12 if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else len(data)
    for _ in range(4096):
        if at + 8 > len(data):
            break
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return b""


def _end_of_jpeg(data: bytes, start: int = 0) -> int:
    """Return where a JPEG ends, by its markers: behind it there may be a video.

    Raises Unreadable for one without its end, which libjpeg would fill with grey, or with scans without end.
    """
    at, scans = start + 2, 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            return at
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise Unreadable(
                    f"The JPEG has more than {MAX_SCANS} scans.", "That is made to take time, not to show."
                )
        if marker not in (0x01, 0xD8):
            at += int.from_bytes(data[at : at + 2], "big")
    raise Unreadable("The picture is cut short.", "The JPEG has no end.", "Copy it again from its source.")


def _end_of_png(data: bytes, start: int = 0) -> int:
    """Return where a PNG ends. Raises Unreadable for one of which a chunk says that it is longer than the file."""
    at = start + 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            raise Unreadable(
                "The picture is cut short or damaged.", f"A part of it says that it is {length:,} bytes long."
            )
        at += 12 + length
        if data[at - length - 8 : at - length - 4] == b"IEND":
            return at
    raise Unreadable("The picture is cut short.", "The PNG has no end.", "Copy it again from its source.")


def in_a_row(data: bytes) -> list[bytes]:
    """Return the JPEG and PNG pictures that stand one behind another, as programs for video write them to a pipe.

    What is not that is one picture. So is a JPEG with its own small versions behind it (Multi-Picture Format).
    """
    found: list[bytes] = []
    start = 0
    while start < len(data):
        jpeg = data[start : start + 3] == b"\xff\xd8\xff"
        if not jpeg and data[start : start + 8] != b"\x89PNG\r\n\x1a\n":
            break
        try:
            end = _end_of_jpeg(data, start) if jpeg else _end_of_png(data, start)
        except Unreadable:  # whoever decodes it says why
            found.append(data[start:])
            break
        several = jpeg and b"MPF\0" in data[start:end]
        found.append(data[start:] if several else data[start:end])
        start = len(data) if several else end
    return found if len(found) > 1 else [data]


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
        return (height, width) if avif_turns(data)[0] % 2 else (width, height)
    import imagesize

    try:
        width, height = imagesize.get(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001  # a header parser fed with arbitrary bytes may raise anything
        raise Unreadable("The picture's header is damaged.", str(error)) from None
    return int(width), int(height)


def avif_turns(data: bytes) -> tuple[int, int | None]:
    """Return by how many quarter turns, to the left, an AVIF is to be turned (its property irot), and then mirrored.

    The latter (imir) is the axis whose ends change places: 0 top and bottom, 1 left and right; None for neither.
    """

    def value(name: bytes) -> int | None:
        at = data.find(name) if data[4:8] == b"ftyp" else -1
        return data[at + 4] if 0 <= at < len(data) - 4 else None

    mirrored = value(b"imir")
    return (value(b"irot") or 0) & 3, None if mirrored is None else mirrored & 1
