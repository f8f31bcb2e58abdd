"""Keys of those who may use the service: random, stored as hashes, each with a role."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock

from siamese_index import BadInput, Damaged, Missing
from siamese_index.files import refused, replace_file
from siamese_index.samples.names import clean_name

Role = Literal["ask", "enroll", "admin"]  # each may do what those before it may
ROLES: tuple[Role, ...] = get_args(Role)
_FORM = "siamese-index keys 1"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is stored."""

    id: str  # by which it is revoked
    name: str  # whose it is
    role: Role
    created: str  # UTC time
    sha256: str  # of the key: 32 random bytes need no slow hash

    def may(self, role: Role) -> bool:
        """Whether whoever has it may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Keys:
    """The keys in a file, which is read again when it was changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def all(self) -> Sequence[Key]:
        """Return the keys in the order in which they were made. Raises Missing, Damaged."""
        try:
            about = os.stat(self.path)  # noqa: PTH116
            seen = (about.st_mtime_ns, about.st_ino, about.st_size)
            if seen != self._seen:
                self._keys, self._seen = _read(self.path.read_bytes(), self.path), seen
        except FileNotFoundError:
            raise Missing(
                f"{self.path}: there is no file of keys.", remedy=f"Make a key: sidx keys add NAME --file {self.path}"
            ) from None
        except OSError as error:
            raise refused(self.path, error) from None
        return self._keys

    def holder(self, key: str) -> Key | None:
        """Return what is stored of a key, or None. All are compared, each in constant time."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for each in self.all():
            if hmac.compare_digest(each.sha256, digest):
                found = each
        return found

    def add(self, name: str, role: Role) -> tuple[Key, str]:
        """Make a key; return what is stored, and the key itself, which is told this once. Raises BadInput, Missing."""
        name, secret = clean_name(name), secrets.token_urlsafe(32)
        digest, created = hashlib.sha256(secret.encode()).hexdigest(), datetime.now(UTC).isoformat(timespec="seconds")
        key = Key(digest[:8], name, role, created.replace("+00:00", "Z"), digest)
        with self._alone():
            self._write([*(self.all() if self.path.exists() else ()), key])
        return key, secret

    def revoke(self, id_: str) -> Key:
        """Delete a key by its id. Raises Missing."""
        with self._alone():
            gone = next((key for key in self.all() if key.id == id_), None)
            if gone is None:
                raise Missing(
                    f"There is no key {id_!r} in {self.path}.", remedy=f"See: sidx keys list --file {self.path}"
                )
            self._write([key for key in self._keys if key.id != id_])
        return gone

    def _alone(self) -> FileLock:
        if not self.path.parent.is_dir():
            raise Missing(f"{self.path}: cannot be written.", "The folder does not exist.")
        return FileLock(f"{self.path}.lock", timeout=10)

    def _write(self, keys: Sequence[Key]) -> None:
        if self.path.exists():
            _read(self.path.read_bytes(), self.path)  # it replaces nothing else
        said = json.dumps({"format": _FORM, "keys": [asdict(key) for key in keys]}, indent=1)
        replace_file(self.path, said.encode())
        self._seen = None


def _read(data: bytes, path: Path) -> tuple[Key, ...]:
    try:
        found = json.loads(data)
        if found["format"] != _FORM:
            raise ValueError
        keys = tuple(Key(**each) for each in found["keys"])
        if not all(isinstance(text, str) for key in keys for text in astuple(key)):
            raise ValueError
        if any(key.role not in ROLES or not re.fullmatch("[0-9a-f]{64}", key.sha256) for key in keys):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Damaged(f"{path}: this is no file of keys.", remedy="Choose another file.") from None
    return keys


def role_of(text: str) -> Role:
    """Return a role. Raises BadInput."""
    for role in ROLES:
        if text == role:
            return role
    raise BadInput(f"{text!r} is no role.", f"Expected {', '.join(ROLES)}.")
