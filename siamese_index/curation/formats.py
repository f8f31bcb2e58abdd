"""Files that hold what is taken along: a folder of pictures, .npz, .parquet, .jsonl. Written and read."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, NotInstalled
from siamese_index.files import refused, replace_file, replacing

from .records import FORMAT, Content, Record, Role

_ABOUT, _SAMPLES, _STRANGERS, _VECTORS = "gallery.json", "metadata.csv", "strangers.csv", "vectors.npy"
_COLUMNS = ("path", "label", "role", "source", "digest")
_KINDS = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"RIFF", "webp"), (b"II", "tif"), (b"MM", "tif"), (b"BM", "bmp"))
_ROLES: tuple[Role, ...] = ("identity", "stranger", "cohort")


def write(content: Content, path: Path) -> int:
    """Write a file of the kind that its ending says, or a folder; return how many samples. Raises BadInput, Missing."""
    ending = path.suffix.lower()
    if ending not in (".npz", ".parquet", ".jsonl"):
        return write_folder(content, path)
    if path.exists():
        raise BadInput(f"{path}: exists already.", remedy="Choose another name, or delete it first.")
    return {".npz": _write_npz, ".parquet": _write_parquet, ".jsonl": _write_jsonl}[ending](content, path)


def read(path: Path) -> Content | None:
    """Return what an export holds; None for a file or folder that is none. Raises BadInput, Missing."""
    try:
        if path.is_dir():
            return _read_folder(path) if (path / _ABOUT).is_file() else None
        ending = path.suffix.lower()
        if ending == ".jsonl":
            return _read_jsonl(path)
        if ending == ".npz":
            return _read_npz(path)
        return _read_parquet(path) if ending == ".parquet" else None
    except OSError as error:
        raise refused(path, error) from None


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
    return {key: value for key, value in found.items() if key != "format"}


# -- a folder -------------------------------------------------------------------------------------


def write_folder(content: Content, folder: Path) -> int:
    """Write pictures to a folder for each identity, and beside them who they are: metadata.csv and more."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if any(folder.iterdir()):
            raise BadInput(f"{folder}: this folder is not empty.", remedy="Choose another one.")
    except OSError as error:
        raise refused(folder, error, "written") from None
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
            replace_file(folder / path, record.picture)
        row = (path, record.name, record.role, record.source, (record.digest or b"").hex())
        tables[_SAMPLES if record.role == "identity" else _STRANGERS].append(row)
        vectors.append(_or_nan(record, content.dimension))
    for name, rows in tables.items():
        with replacing(folder / name) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])
    with replacing(folder / _VECTORS) as temporary, temporary.open("wb") as binary:
        np.save(binary, np.array(vectors, np.float32).reshape(len(vectors), -1), allow_pickle=False)
    replace_file(folder / _ABOUT, json.dumps(content.header(), ensure_ascii=False, indent=1).encode())
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
                if not file.is_relative_to(home):
                    raise BadInput(f"{folder}: {row['path']} is outside of it.")
                try:
                    picture = file.read_bytes()
                except OSError as error:
                    raise refused(file, error) from None
            vector = None if vectors is None else vectors[i].astype(np.float32)
            yield _record(folder, row["role"], row["label"], row["source"], row["digest"], picture, vector)

    return Content(made(), **about)


def _folder_of(name: str) -> str:
    """Return a folder for a name: itself, where every system can have such a folder."""
    parts = [quote(part, safe=" !#$&'()+,;=@[]^_`{}~" + _letters(part)) for part in name.split("/")]
    parts = [f"%2E{part[1:]}" if part.startswith(".") else part or "%2F" for part in parts]
    safe = "/".join(parts)
    if any(len(part.encode()) > 200 for part in parts) or len(parts) > 8:
        return f"{parts[0].encode()[:40].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return safe


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


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
    return count


def _read_jsonl(path: Path) -> Content:
    with path.open(encoding="utf-8") as file:
        about = _about(file.readline(), path)

    def made() -> Iterator[Record]:
        with path.open(encoding="utf-8") as file:
            file.readline()
            for number, line in enumerate(file, 2):
                try:
                    row = json.loads(line)
                    picture = None if row["picture"] is None else base64.b64decode(row["picture"], validate=True)
                    vector = None if row["vector"] is None else np.array(row["vector"], np.float32)
                    record = _record(path, row["role"], row["name"], row["source"], row["digest"], picture, vector)
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise BadInput(f"{path}: line {number} is no sample.", f"{error}.") from None
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
    count, keys = len(found["roles"]), ("roles", "names", "sources", "digests", "vectors", "ends")
    if any(key not in found or len(found[key]) != count for key in keys) or "pictures" not in found:
        raise BadInput(f"{path}: its columns do not belong together.")
    roles, names, sources, digests, vectors, ends = (found[key] for key in keys)
    data = found["pictures"].astype(np.uint8).tobytes()

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
    if role not in _ROLES or not all(isinstance(text, str) for text in (name, source, digest)):
        raise BadInput(f"{path}: this is no sample: {str(role)[:40]!r} {str(name)[:40]!r}.")
    if not re.fullmatch("([0-9a-f]{64})?", digest):
        raise BadInput(f"{path}: the digest of a sample of {name[:40]!r} is none.")
    known = vector is not None and len(vector) and bool(np.all(np.isfinite(vector)))
    return Record(
        next(each for each in _ROLES if each == role),
        name,
        source,
        bytes.fromhex(digest) or None,
        picture,
        vector if known else None,
    )
