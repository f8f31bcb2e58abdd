"""Bytes to pixels: refuse from the header, decode, orient, and fit to a tower's input."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Missing, SiameseIndexError, Unreadable
from siamese_index.files import opened_as, path_of, refused

from .headers import avif_turns, is_heic, is_jpeg, max_value, open_heic, refuse_from_header, tiff_tag, webp_exif

MAX_BYTES = 256_000_000  # of a file: as many as 64 megapixels of four bytes
KEPT_PIXELS = 1024 * 768  # of a picture as a gallery keeps it, whatever its shape
KEPT_BYTES = 2_000_000
# A path, the bytes of a picture file, a file that is open, or pixels: uint8 (h, w[, 1, 3 or 4]), RGB. Or a PIL image.
Picture = str | Path | bytes | bytearray | memoryview | BinaryIO | NDArray[np.uint8]
Pixels = NDArray[np.uint8]  # (height, width, channels); channels 1 (grey) or 3 (RGB)
Decoded = NDArray[np.integer[Any] | np.floating[Any]]  # as OpenCV gives it: (h, w[, 3 or 4]), BGR, any depth
_EXIF = (b"eXIf", b"EXIF", b"Exif")
_ROTATIONS = {  # EXIF orientation: (flip left-right first, clockwise quarter turns)
    2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 3), 6: (False, 1), 7: (True, 1), 8: (False, 3),
}  # fmt: skip


def read(picture: Picture) -> bytes:
    """Return the bytes of a picture file. Raises Missing; Unreadable for an empty or huge one, a device or a pipe.

    Pixels are encoded as PNG, which loses nothing. Raises BadInput for what is no Picture.
    """
    if isinstance(picture, Unusable):
        raise picture.error
    if isinstance(picture, bytes):
        return picture
    if not isinstance(picture, (str, os.PathLike)):
        return _from_memory(picture)
    path_of(picture)
    try:
        about = os.stat(picture)  # noqa: PTH116
        if stat.S_ISDIR(about.st_mode):
            raise Missing(f"{picture}: cannot be read.", "Is a directory.")
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable(f"{picture}: this is no file, but a device or a pipe.", remedy="A picture can be piped: -")
        if about.st_size > MAX_BYTES:
            raise Unreadable(f"{picture}: {about.st_size:,} bytes.", f"More than {MAX_BYTES:,} are not read.")
        if opened_as(about):
            raise Unreadable(f"{picture}: this is a gallery, not a picture.")
        with open(picture, "rb", buffering=0) as file:  # noqa: PTH123  # half the time of Path.read_bytes
            data = file.read(MAX_BYTES)
    except FileNotFoundError:
        raise Missing(f"{picture}: no such file.") from None
    except OSError as error:
        raise refused(picture, error) from None
    if not data:
        raise Unreadable(f"{picture}: the file is empty.")
    return data


def several(pictures: Any) -> list[Picture]:
    """Return a picture, or several of them, as a list. Raises BadInput for none, and for what is no sequence."""
    if isinstance(pictures, (str, bytes, bytearray, memoryview, os.PathLike, np.ndarray)) or hasattr(pictures, "read"):
        return [pictures]
    try:
        found = list(pictures)
    except TypeError:
        return [pictures]  # whoever reads it says what it is not
    if not found:
        raise BadInput("There are no pictures.", "At least one is needed.")
    return found


def each(pictures: Any) -> Iterator[Picture]:
    """Yield pictures as they are asked for; one alone is not taken for several. Raises BadInput for what is none."""
    if isinstance(pictures, (str, bytes, bytearray, memoryview, os.PathLike, np.ndarray)) or hasattr(pictures, "read"):
        yield pictures
        return
    try:
        waiting = iter(pictures)
    except TypeError:
        raise BadInput(f"These are no pictures: {type(pictures).__name__}.", "Expected several.") from None
    yield from waiting


def _from_memory(picture: Any) -> bytes:
    if isinstance(picture, (bytearray, memoryview)):
        return bytes(picture)
    try:
        if hasattr(picture, "getexif") and hasattr(picture, "convert"):
            picture = _of_pil(picture)
        elif callable(getattr(picture, "read", None)):
            picture = picture.read(MAX_BYTES)
            if not isinstance(picture, bytes):
                raise BadInput("The file was opened as text.", remedy='Open it with "rb".')
            return picture
    except (ValueError, OSError, TypeError) as error:  # closed, cut short, or of another kind
        raise Unreadable("The picture cannot be read.", f"{str(error)[:200]}.") from None
    if not isinstance(picture, np.ndarray):
        raise BadInput(
            f"This is no picture: {type(picture).__name__}.",
            "Expected a path, the bytes of a file, an open file, a numpy array of pixels, or a PIL image.",
        )
    deep = picture.dtype == np.uint16 and picture.ndim == 2  # of PIL
    if (picture.dtype != np.uint8 and not deep) or picture.ndim not in (2, 3) or picture.shape[2:] not in _CHANNELS:
        raise BadInput(
            f"These are no pixels: {picture.dtype} of shape {picture.shape}.",
            "Expected uint8 of shape (height, width), or (height, width, 1, 3 or 4) in RGB order.",
        )
    swapped = picture[..., [2, 1, 0, *range(3, picture.shape[2])]] if picture.shape[2:] > (1,) else picture
    if min(picture.shape[:2]) < 1 or not (done := cv2.imencode(".png", swapped))[0]:
        raise BadInput("These pixels cannot be encoded as a picture.", f"Their shape is {picture.shape}.")
    return bytes(done[1].tobytes())


_CHANNELS = ((), (1,), (3,), (4,))


def _of_pil(image: Any) -> NDArray[Any]:
    """Return the pixels of a PIL image, upright, as they would be in a file. Raises Unreadable."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("1", "L"):
        return np.asarray(upright.convert("L"))
    if upright.mode.startswith("I"):  # whole numbers of 16 or 32 bits
        numbers = np.asarray(upright)
        if int(numbers.min()) >= 0 and int(numbers.max()) <= 65535:
            return numbers.astype(np.uint16)
    if upright.mode.startswith(("I", "F")):
        raise Unreadable(f"The picture has pixels of the mode {upright.mode}.", "8 or 16 bits a channel are read.")
    return np.asarray(upright.convert("RGBA"))


def decode(data: bytes, channels: int) -> Pixels:
    """Return the picture as uint8 (height, width, channels).

    EXIF orientation is applied, transparency is laid over white, 16 bits become 8, the first frame
    of an animation is taken. Raises Unreadable; a picture of more than MAX_PIXELS is refused from
    its header, before memory is taken for it.
    """
    refuse_from_header(data)
    return _channels(_jpeg(data, channels) if is_jpeg(data) else _oriented(data), channels)


def _channels(picture: Decoded, channels: int) -> Pixels:
    """Return 8-bit grey or RGB of whatever OpenCV decoded."""
    if picture.dtype == np.uint16:
        picture = np.asarray(cv2.convertScaleAbs(picture, alpha=1 / 257), np.uint8)
    elif picture.dtype != np.uint8:
        raise Unreadable(f"The picture has {picture.dtype} pixels.", remedy="Save it with 8 or 16 bits per channel.")
    if picture.ndim == 3 and picture.shape[2] == 4:
        picture = _over_white(np.asarray(picture, np.uint8))
    if channels == 1:
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        return np.asarray(grey, dtype=np.uint8)[:, :, None]
    code = cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(picture, code), dtype=np.uint8)


def _over_white(picture: Pixels) -> Pixels:
    """Lay (h, w, 4) over white."""
    if int(picture[:, :, 3].min()) == 255:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR), np.uint8)
    out = np.empty((*picture.shape[:2], 3), np.uint8)
    for rows, into in _stripes(picture, out):
        alpha = cv2.cvtColor(np.ascontiguousarray(rows[:, :, 3]), cv2.COLOR_GRAY2BGR)
        ink = cv2.multiply(cv2.cvtColor(rows, cv2.COLOR_BGRA2BGR), alpha, scale=1 / 255)
        into[:] = cv2.add(ink, cv2.bitwise_not(alpha))  # c * a / 255 + 255 - a, rounded
    return out


def _stripes(picture: Decoded, out: Decoded) -> Iterator[tuple[Decoded, Decoded]]:
    """Yield some rows of both at a time: arithmetic on all at once would take ten times the memory."""
    step = max(1, 250_000 // picture.shape[1])
    for first in range(0, len(picture), step):
        yield picture[first : first + step], out[first : first + step]


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return RGB pixels (h, w, 3) as RGB or grey."""
    if channels == pixels.shape[2]:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)[:, :, None]


def fit(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize to (height, width, channels), by area when shrinking."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8).reshape(height, width, pixels.shape[2])


def is_large(data: bytes) -> bool:
    """Whether a gallery keeps a picture only scaled down. Raises Unreadable."""
    width, height = refuse_from_header(data)
    return width * height > KEPT_PIXELS or len(data) > KEPT_BYTES


def bounded(data: bytes) -> bytes:
    """Return the picture as a gallery keeps it: as it came, or scaled down to KEPT_PIXELS.

    Raises Unreadable, as `decode`.
    """
    if not is_large(data):
        return data
    pixels = decode(data, 3)
    scale = min(1.0, (KEPT_PIXELS / (pixels.shape[0] * pixels.shape[1])) ** 0.5)
    small = fit(pixels, max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    return encode(small, ".jpg")


def encode(pixels: Pixels, suffix: str = ".png") -> bytes:
    """Return the pixels as a picture file of the kind that `suffix` names."""
    bgr = pixels if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else [])
    if not done:
        raise BadInput(f"Cannot write a picture as {suffix}.")
    return bytes(buffer.tobytes())


def named(path: str | Path, error: SiameseIndexError) -> SiameseIndexError:
    """Return the same error with the file's name in front, unless it is there already."""
    if error.what.startswith(str(path)):
        return error
    return type(error)(f"{path}: {error.what[:1].lower()}{error.what[1:]}", error.why, error.remedy)


def _jpeg(data: bytes, channels: int) -> Decoded:
    """Decode a JPEG, upright, to (h, w) or (h, w, 3). It has no alpha to lose."""
    flags = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    return _decoded(lambda buffer: cv2.imdecode(buffer, flags), data)


def _oriented(data: bytes) -> Decoded:
    """Decode any other format to (h, w) or (h, w, 3 or 4), upright.

    OpenCV itself turns pictures by EXIF only when it drops their alpha.
    """

    if is_heic(data):
        try:
            picture = np.asarray(open_heic(data))
        except Exception as error:  # noqa: BLE001
            raise Unreadable("The picture cannot be decoded.", str(error)) from None
        return np.asarray(picture[..., [2, 1, 0, *range(3, picture.shape[2])]]) if picture.ndim == 3 else picture

    def upright(buffer: Pixels) -> Decoded | None:
        turns, mirrored = avif_turns(data)
        if turns or mirrored is not None:  # they count in place of EXIF
            picture = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            turned = None if picture is None else np.rot90(picture, turns)
            return turned if turned is None or mirrored is None else np.flip(turned, mirrored)
        # Bitmaps and PGM hold no EXIF; of the others only the tags that they use are looked for.
        tags = () if data[:1] in (b"P", b"B", b"G") else (b"eXIf",) if data[:1] == b"\x89" else _EXIF
        if not any(tag in data for tag in tags):
            return cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
        picture, kinds, chunks = cv2.imdecodeWithMetadata(buffer, flags=cv2.IMREAD_UNCHANGED)
        found = dict(zip(np.ravel(kinds).tolist(), chunks, strict=False)).get(cv2.IMAGE_METADATA_EXIF)
        exif = webp_exif(data) if found is None else bytes(np.asarray(found, np.uint8))
        if picture is None or not exif:
            return picture
        flip, turns = _ROTATIONS.get(tiff_tag(exif.removeprefix(b"Exif\0\0"), 0x0112), (False, 0))
        return np.rot90(picture[:, ::-1] if flip else picture, -turns)

    return np.ascontiguousarray(_in_full_range(_decoded(upright, data), data))


def _in_full_range(picture: Decoded, data: bytes) -> Decoded:
    """Return a picture of which white is the largest number of its type; it may be that of fewer bits."""
    most = 255 if picture.dtype == np.uint8 else 65535
    white = max_value(data) or most
    if data[4:8] == b"ftyp" and (at := data.find(b"pixi")) >= 0:
        white = (1 << max(8, data[at + 9])) - 1 if at + 9 < len(data) else most
    if picture.dtype == np.uint16 and white == most and int(picture.max()) < 4096:
        raise Unreadable(
            f"The picture uses {int(picture.max()):,} of the 65,535 levels that it has.",
            "Most often it is of 10 or 12 bits, saved in 16 without scaling, and all but black.",
            "Scale its levels to 16 bits first.",
        )
    if picture.dtype.kind != "u" or not 0 < white < most:
        return picture
    for rows, into in _stripes(picture, picture):
        into[:] = np.minimum(rows.astype(np.float32) * (most / white) + 0.5, most)
    return picture


def _decoded(decoder: Callable[[Pixels], Decoded | None], data: bytes) -> Decoded:
    try:
        picture = decoder(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise Unreadable("The picture cannot be decoded.", str(error.err)) from None
    if picture is None or picture.size == 0:
        raise Unreadable("The picture cannot be decoded.", "It is cut short or damaged.", "Copy it again.")
    return picture


Progress = Callable[[int], None]  # called with how many more items are done


class NamedSample(bytes):
    """The bytes of a sample that has no file of its own: a row of an array, or what came through a pipe."""

    source: str

    def __new__(cls, data: bytes, source: str) -> NamedSample:
        made = super().__new__(cls, data)
        made.source = source
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return bytes(self), self.source


class Unusable(NamedSample):
    """A sample that could not be made: whoever reads it learns why."""

    error: SiameseIndexError

    def __new__(cls, data: bytes, source: str, error: SiameseIndexError | None = None) -> Unusable:
        made = bytes.__new__(cls, data)
        made.source = source
        made.error = error or Unreadable("The sample could not be made.")
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return bytes(self), self.source, self.error


def picture_name(picture: Picture, number: int) -> str:
    """Return what to call a sample in answers: its path, where it came from, or its number."""
    if isinstance(picture, NamedSample):
        return picture.source
    return str(picture) if isinstance(picture, (str, os.PathLike)) else f"picture {number}"
