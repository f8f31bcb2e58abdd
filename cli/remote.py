"""Sends the pictures of a camera here to a service elsewhere, which knows the gallery."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from siamese_index import BadInput, Missing
from siamese_index.files import refused
from siamese_index.samples import images
from siamese_index.samples.video import Shot
from siamese_index.thresholds.question import Asked

from .output import complain

_QUALITY = 95  # of the JPEG that is sent
_WAITS = (1, 2, 4, 8, 15, 30)  # seconds until a service that is away is asked again
_SECONDS, _END_SECONDS = 60, 5  # for an answer
_BUSY = (429, 503)
_LONGEST = 10_000_000  # bytes of an answer
_TOLD = {"verdict", "identity", "distance", "threshold", "frames", "began", "ended", "probe"}


class RemoteVisits:
    """A service that follows who is in sight. While it is away the last picture is sent again and again."""

    def __init__(self, address: str, key: Path | None, asked: Asked, every: float, told: Callable[[str], None]) -> None:
        """`told` is called with what the service could not read. Raises BadInput for what is no address; Missing."""
        try:
            at = urlsplit(address)
            host = (at.hostname or "").encode("idna").decode("ascii")
        except ValueError:  # also UnicodeError
            at, host = urlsplit(""), ""
        if at.scheme not in ("http", "https") or not host or at.query or "@" in at.netloc or not at.path.isascii():
            raise BadInput("--to: this is no address of a service.", "Expected http://HOST:PORT.")  # it may hold a key
        kind = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
        try:
            self._service = kind(host, at.port, timeout=_SECONDS)
        except ValueError:
            raise BadInput("--to: the port is no number from 1 to 65535.") from None
        self._address, self._told = address, told
        self._base = f"{at.path.rstrip('/')}/api/v1"
        self._camera = f"{self._base}/cameras/{quote(secrets.token_hex(8))}"
        self._headers = {} if key is None else {"x-api-key": _read(key)}
        self._query: list[tuple[str, str]] = [("every", str(every)), ("strict", str(bool(asked.get("strict"))).lower())]
        for name in ("fpir", "threshold"):
            if asked.get(name) is not None:
                self._query.append((name, str(asked.get(name))))
        self._query += [("tag", f"{key}={value}") for key, value in (asked.get("tags") or {}).items()]
        if "revision" not in self._ask("GET", f"{self._base}/gallery", patient=False):
            raise _other(address)

    def see(self, shot: Shot) -> list[dict[str, Any]]:
        """Send a picture; return the visits that are over, as `Visit.to_dict` does. Raises BadInput when refused."""
        data = b"" if shot.pixels is None else _jpeg(shot.pixels)
        query = urlencode([("at", repr(shot.at)), ("name", shot.name[:255]), *self._query], errors="replace")
        return self._visits(self._ask("POST", f"{self._camera}/shots?{query}", data))

    def end(self) -> list[dict[str, Any]]:
        """Return the visits that go on, as if they were over. Whoever ends it does not wait long."""
        self._service.close()
        self._service.timeout = _END_SECONDS
        return self._visits(self._ask("DELETE", self._camera, patient=False))

    def _visits(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        found = answer.get("visits", [])
        if not isinstance(found, list) or not all(isinstance(each, dict) and each.keys() >= _TOLD for each in found):
            raise _other(self._address)
        return found

    def _ask(self, method: str, path: str, data: bytes = b"", *, patient: bool = True) -> dict[str, Any]:
        tries = 0
        while True:
            status, body = self._answer(method, path, data)
            if status == 200:
                return body
            if status == 404 and method == "DELETE":
                return {}  # it was started anew, and has forgotten who was in sight
            said = str(body.get("detail") or f"The service answered {status}.")
            if status == 422 and data:
                self._told(said)
                return {}
            if status not in (0, *_BUSY):
                remedy = "Give a key: --key-file FILE" if status in (401, 403) else str(body.get("remedy", ""))
                raise BadInput(f"{self._address}: {said}", remedy=remedy or "Is it a siamese-index service?")
            if not patient:
                raise Missing(f"{self._address}: {said}", remedy="Is the service running?  sidx serve")
            wait = _WAITS[min(tries, len(_WAITS) - 1)]
            complain(f"{self._address}: {said} Asking again in {wait} s.")
            time.sleep(wait)
            tries += 1

    def _answer(self, method: str, path: str, data: bytes) -> tuple[int, dict[str, Any]]:
        """Return the status, 0 where nobody answers, and what was said."""
        for again in (True, False):  # a connection that was kept open may have been closed there
            try:
                self._service.request(method, path, data, {**self._headers, "Content-Type": "image/jpeg"})
                answer = self._service.getresponse()
                said = answer.read(_LONGEST)
                break
            except (OSError, http.client.HTTPException) as error:
                self._service.close()
                if not again:
                    return 0, {"detail": f"{getattr(error, 'strerror', None) or type(error).__name__}."}
        try:
            body = json.loads(said)
        except (ValueError, RecursionError):
            body = {}
        return answer.status, body if isinstance(body, dict) else {}


def _other(address: str) -> BadInput:
    return BadInput(f"{address}: this is another service.", "It answers, but not as sidx serve does.")


def _jpeg(pixels: images.Pixels) -> bytes:
    import cv2

    return cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _read(path: Path) -> str:
    """Return the key in a file. Raises Missing, BadInput."""
    try:
        key = path.read_text("ascii").strip()
    except OSError as error:
        raise refused(path, error) from None
    except UnicodeDecodeError:
        key = ""
    if not key or not key.isprintable() or " " in key:
        raise BadInput(f"{path}: this is no key.", "Expected the key alone, as `sidx keys add` printed it.")
    return key
