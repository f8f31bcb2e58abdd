"""Files that hold what is taken along: a folder of pictures, .npz, .parquet, .jsonl. Written and read."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, NotInstalled
from siamese_index.files import refuse_to_replace, refused, replacing, replacing_folder

from .records import FORMAT, Content, Record, Role

_ABOUT, _SAMPLES, _STRANGERS, _VECTORS = "gallery.json", "metadata.csv", "strangers.csv", "vectors.npy"
_COLUMNS = ("path", "label", "role", "source", "digest")
_KINDS = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"RIFF", "webp"), (b"II", "tif"), (b"MM", "tif"), (b"BM", "bmp"))
_WRONG = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, SystemError, csv.Error)
_LONGEST = 4096  # bytes of a name or a source
_ROLES: tuple[Role, ...] = ("identity", "stranger", "cohort")


def write(content: Content, path: Path) -> int:
    """Write a file of the kind that its ending says, or a folder; return how many samples. Raises BadInput, Missing."""
    ending = path.suffix.lower()
    if not path.exists():
        refuse_to_replace(path, "report")  # names that belong to a gallery
    if ending not in (".npz", ".parquet", ".jsonl"):
        return write_folder(content, path)
    if path.exists():
        raise BadInput(f"{path}: exists already.", remedy="Choose another name, or delete it first.")
    return {".npz": _write_npz, ".parquet": _write_parquet, ".jsonl": _write_jsonl}[ending](content, path)


def read(path: Path) -> Content | None:
    """Return what an export holds; None for a file or folder that is none. Raises BadInput, Missing."""
    with _understood(path):
        found = _opened(path)
    return None if found is None else replace(found, records=_safely(path, found.records))


def _opened(path: Path) -> Content | None:
    there = [(path / name).is_file() for name in (_VECTORS, _SAMPLES, _ABOUT)]
    if there == [True, True, False]:
        raise BadInput(f"{path}: this is an export without its {_ABOUT}.", remedy="Export it again.")
    if path.is_dir():
        return _read_folder(path) if (path / _ABOUT).is_file() else None
    if not path.is_file():  # a pipe would be waited for
        return None
    kinds = {".jsonl": _read_jsonl, ".npz": _read_npz, ".parquet": _read_parquet}
    return kinds[path.suffix.lower()](path) if path.suffix.lower() in kinds else None


def _safely(path: Path, records: Iterable[Record]) -> Iterator[Record]:
    waiting = iter(records)
    while True:
        with _understood(path):
            record = next(waiting, None)
        if record is None:
            return
        yield record


@contextlib.contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Say of whatever goes wrong with an export that nobody trusts that it is none. Raises BadInput, Missing."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise refused(path, error) from None
    except (
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
        SystemError,
        csv.Error,
    ) as error:
        raise BadInput(
            f"{path}: this is not an export as this program writes it.",
            f"One of its values is missing, or of another type ({type(error).__name__}).",
            "Export it again.",
        ) from None


def _about(text: str, path: Path) -> dict[str, Any]:
    """Return the header of an export. Raises BadInput for one of a newer program, or that is none."""
    try:
        found = json.loads(text)
        known = isinstance(found, dict) and found.get("format") == FORMAT
        good = known and isinstance(found["settings"], dict) and isinstance(found["tags"], dict)
    except (ValueError, KeyError, RecursionError):
        known = good = False
    if not good:
        raise BadInput(f"{path}: this is no export of this program.", f"Expected the format {FORMAT!r}.")
    return {key: found.get(key) for key in ("tower", "dimension", "network", "settings", "tags")}


# -- a folder -------------------------------------------------------------------------------------


def write_folder(content: Content, folder: Path) -> int:
    """Write pictures to a folder for each identity, and beside them who they are: metadata.csv and more.

    The folder is there wholly or not at all.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadInput(f"{folder}: there is something already.", remedy="Choose another name, or an empty folder.")
    with replacing_folder(folder) as temporary:
        return _fill(content, temporary)


def _fill(content: Content, folder: Path) -> int:
    vectors, counts = [], dict[tuple[str, str], int]()
    tables: dict[str, list[tuple[str, ...]]] = {_SAMPLES: [], _STRANGERS: []}
    for record in content.records:
        of = (record.role, record.name)
        counts[of] = number = counts.get(of, 0) + 1
        path = ""
        if record.picture is not None:
            inside = _folder_of(record.name) if record.role == "identity" else f".strangers/{_folder_of(record.name)}"
            path = f"{inside}/{number:04d}.{_ending(record.picture)}"
            (folder / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / path).write_bytes(record.picture)
        row = (path, record.name, record.role, record.source, (record.digest or b"").hex())
        tables[_SAMPLES if record.role == "identity" else _STRANGERS].append(row)
        vectors.append(_or_nan(record, content.dimension))
    for name, rows in tables.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])
    np.save(folder / _VECTORS, np.array(vectors, np.float32).reshape(len(vectors), -1), allow_pickle=False)
    (folder / _ABOUT).write_text(json.dumps(content.header(), ensure_ascii=False, indent=1), encoding="utf-8")
    return len(vectors)


def _read_folder(folder: Path) -> Content:
    about = _about((folder / _ABOUT).read_text(encoding="utf-8"), folder)
    rows: list[dict[str, str]] = []
    for name in (_SAMPLES, _STRANGERS):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        if any(set(_COLUMNS) - set(row) for row in found):
            raise BadInput(f"{folder / name}: a column is missing.", f"Expected {', '.join(_COLUMNS)}.")
        rows += found
    vectors = _arrays(folder / _VECTORS)[""] if (folder / _VECTORS).is_file() else None
    if vectors is not None and (vectors.ndim != 2 or len(vectors) != len(rows)):
        raise BadInput(f"{folder / _VECTORS}: {len(vectors)} vectors for {len(rows)} samples.")
    home = folder.resolve()

    def made() -> Iterator[Record]:
        for i, row in enumerate(rows):
            picture = None
            if row["path"]:
                file = (folder / row["path"]).resolve()
                if not file.is_relative_to(home) or not file.is_file():
                    raise BadInput(f"{folder}: {row['path']} is outside of it, or no file.")
                picture = file.read_bytes()
            vector = None if vectors is None else vectors[i].astype(np.float32)
            yield _record(folder, row["role"], row["label"], row["source"], row["digest"], picture, vector)

    return Content(made(), **about)


_OURS = {_ABOUT, _SAMPLES, _STRANGERS, _VECTORS}
_PICTURE = re.compile(r"\d{4,}\.\w+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


def _folder_of(name: str) -> str:
    """Return a folder for a name: itself, where every system can have such a folder beside what else is there."""
    parts = []
    for part in name.split("/"):
        safe = "".join(c if c.isalnum() or c in " !#$&'()+,-;=@[]^_`{}~." else quote(c, safe="") for c in part)
        taken = safe in _OURS or _PICTURE.fullmatch(safe) or _RESERVED.fullmatch(safe)
        if taken or safe.startswith(".") or safe.endswith((".", " ")) or not safe:
            safe = f"%{ord(safe[0]):02X}{safe[1:]}" if safe else "%2F"
            safe = safe[:-1] + quote(safe[-1]).replace(".", "%2E") if safe.endswith((".", " ")) else safe
        parts.append(safe)
    if any(len(part.encode()) > 200 for part in parts) or len(parts) > 8:
        first = parts[0].encode()[:40].decode(errors="ignore").rstrip(" .%")
        return f"{first}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return "/".join(parts)


def _ending(picture: bytes) -> str:
    return next((ending for start, ending in _KINDS if picture.startswith(start)), "bin")


# -- files ----------------------------------------------------------------------------------------


def _write_jsonl(content: Content, path: Path) -> int:
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content.header(), ensure_ascii=False) + "\n")
        for record in content.records:
            row = {
                "role": record.role,
                "name": record.name,
                "source": record.source,
                "digest": (record.digest or b"").hex(),
                "picture": None if record.picture is None else base64.b64encode(record.picture).decode(),
                "vector": None if record.vector is None else [float(x) for x in record.vector],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        file.write(json.dumps({"end": count}) + "\n")
    return count


def _read_jsonl(path: Path) -> Content:
    with path.open(encoding="utf-8") as file:
        about = _about(file.readline(), path)
    with path.open("rb") as raw:
        raw.seek(max(0, path.stat().st_size - 64))
        if not re.search(rb'\n\{"end": \d+\}\r?\n$', raw.read()):
            raise BadInput(
                f"{path}: it is cut short.", "Its last line does not say that it is the end.", "Export it again."
            )

    def made() -> Iterator[Record]:
        with path.open(encoding="utf-8") as file:
            file.readline()
            for number, line in enumerate(file, 2):
                try:
                    row = json.loads(line)
                    if "end" in row:
                        return
                    picture = None if row["picture"] is None else base64.b64decode(row["picture"], validate=True)
                    vector = None if row["vector"] is None else np.array(row["vector"], np.float32)
                    record = _record(path, row["role"], row["name"], row["source"], row["digest"], picture, vector)
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise BadInput(
                        f"{path}: line {number} is no sample.",
                        "Expected an object with role, name, source, digest, picture (base64) and vector.",
                        "Export it again.",
                    ) from None
                yield record

    return Content(made(), **about)


def _write_npz(content: Content, path: Path) -> int:
    records = list(content.records)
    pictures = [record.picture or b"" for record in records]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            about=np.array(json.dumps(content.header())),
            roles=np.array([record.role for record in records], np.str_),
            names=np.array([record.name for record in records], np.str_),
            sources=np.array([record.source for record in records], np.str_),
            digests=np.array([(record.digest or b"").hex() for record in records], np.str_),
            vectors=np.array([_or_nan(r, content.dimension) for r in records], np.float32).reshape(len(records), -1),
            pictures=np.frombuffer(b"".join(pictures), np.uint8),
            ends=np.cumsum([len(picture) for picture in pictures], dtype=np.int64),
        )
    return len(records)


def _read_npz(path: Path) -> Content | None:
    found = _arrays(path)
    if "about" not in found or "roles" not in found:
        return None
    about = _about(str(found["about"]), path)
    kinds = {"roles": "U", "names": "U", "sources": "U", "digests": "U", "vectors": "f", "ends": "i", "pictures": "u"}
    if any(key not in found or found[key].dtype.kind != k or not found[key].ndim for key, k in kinds.items()):
        raise BadInput(f"{path}: one of its columns is missing, or of another type.", remedy="Export it again.")
    *columns, pictures = (found[key] for key in kinds)
    roles, names, sources, digests, vectors, ends = columns
    count = len(roles)
    whole = all(len(column) == count and column.ndim == 1 + (column is vectors) for column in columns)
    if not whole or pictures.dtype != np.uint8 or np.any(np.diff(ends, prepend=0, append=pictures.size) < 0):
        raise BadInput(f"{path}: its columns do not belong together.", remedy="Export it again.")
    data = pictures.tobytes()

    def made() -> Iterator[Record]:
        start = 0
        for i in range(count):
            end = int(ends[i])
            picture, start = data[start:end] or None, end
            vector = vectors[i].astype(np.float32)
            yield _record(path, str(roles[i]), str(names[i]), str(sources[i]), str(digests[i]), picture, vector)

    return Content(made(), **about)


def _write_parquet(content: Content, path: Path) -> int:
    arrow = _arrow(path)
    records = list(content.records)
    table = arrow.table(
        {
            "role": [record.role for record in records],
            "name": [record.name for record in records],
            "source": [record.source for record in records],
            "digest": [(record.digest or b"").hex() for record in records],
            "picture": arrow.array([record.picture for record in records], arrow.binary()),
            "vector": arrow.array(
                [None if r.vector is None else r.vector.tolist() for r in records], arrow.list_(arrow.float32())
            ),
        }
    ).replace_schema_metadata({"siamese-index": json.dumps(content.header())})
    with replacing(path) as temporary:
        arrow.parquet.write_table(table, temporary)
    return len(records)


def _read_parquet(path: Path) -> Content | None:
    arrow = _arrow(path)
    try:
        table = arrow.parquet.read_table(path)
    except arrow.ArrowException as error:
        raise BadInput(f"{path}: not a .parquet.", str(error).splitlines()[0]) from None
    told = (table.schema.metadata or {}).get(b"siamese-index")
    if told is None:
        return None
    about = _about(told.decode(), path)

    def made() -> Iterator[Record]:
        for row in table.to_pylist():
            vector = None if row["vector"] is None else np.array(row["vector"], np.float32)
            yield _record(path, row["role"], row["name"], row["source"], row["digest"], row["picture"], vector)

    return Content(made(), **about)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz by name, or that of an .npy as "". Raises BadInput."""
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:  # what is packed may be any size
                packed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
                ours = {"about.npy", "roles.npy"} <= set(archive.namelist())
            if packed and ours:
                raise BadInput(f"{path}: this export was packed by another program.", remedy="Export it again.")
            if packed:
                return {}
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": found}
        with found:
            return {key: found[key] for key in found.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError):
        raise BadInput(f"{path}: these are not plain arrays.", remedy="Export it again.") from None


def _arrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NotInstalled(f"{path}: .parquet needs pyarrow.", remedy="pip install pyarrow") from None
    return pyarrow


def _or_nan(record: Record, dimension: int | None) -> Any:
    return np.full(dimension or 0, np.nan, np.float32) if record.vector is None else record.vector


def _record(path: Path, role: str, name: str, source: str, digest: str, picture: bytes | None, vector: Any) -> Record:
    """Return a record of a file that nobody trusts. Raises BadInput."""
    texts = all(isinstance(text, str) and len(text.encode()) <= _LONGEST for text in (name, source, digest))
    whole = isinstance(picture, bytes | None) and (vector is None or (vector.ndim == 1 and vector.dtype == np.float32))
    if role not in _ROLES or not texts or not whole:
        raise BadInput(
            f"{path}: this is no sample: {str(role)[:40]!r} {str(name)[:40]!r}.",
            "Its role, name, source, digest, picture or vector is of another type, or too long.",
            "Export it again.",
        )
    if not re.fullmatch("([0-9a-f]{64})?", digest):
        raise BadInput(
            f"{path}: the digest of a sample of {name[:40]!r} is none.", "Expected 64 hex digits.", "Export it again."
        )
    known = vector is not None and len(vector) and bool(np.all(np.isfinite(vector)))
    return Record(
        next(each for each in _ROLES if each == role),
        name,
        source,
        bytes.fromhex(digest) or None,
        picture,
        vector if known else None,
    )
