"""What stands before every request: whose host it names, where it comes from, how large and how slow it is."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siamese_index.store.event_rows import MADE

from .problems import URN, Problem, Refused, response

MAX_BODY = 64_000_000  # bytes of a request
BODY_SECONDS = 60.0  # for a whole request to come in
LINGER_SECONDS, LINGER_BYTES = 2.0, 4_000_000  # for which a refused request is still listened to
_TAIL = 400  # bytes in which the end of a form is looked for
SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"),
)


def is_loopback(host: str) -> bool:
    """Whether an address or name is of this machine alone."""
    name = host.strip("[]").lower()
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


class Guard:
    """Refuses what comes from pages of others, names another host, or is too large or too slow."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, max_body: int = MAX_BODY) -> None:
        self._app, self._max = app, max_body
        self._hosts = None if hosts is None else {host.lower() for host in hosts}  # None: keys stand before everything

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers, started, method = Headers(scope=scope), False, scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # of which the server leaves out the body

        made: list[int] = []
        MADE.set(made)

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if made:
                    message["headers"] = [*message.get("headers", []), (b"x-revision", str(made[-1]).encode())]
                named = {name for name, _ in message.get("headers", [])}
                message["headers"] = [*message.get("headers", []), *(h for h in _HEADERS if h[0] not in named)]
            await send(message)

        try:
            self._refuse_host(headers)
            if "\ufffd" in scope["path"] and b"%ef%bf%bd" not in scope.get("raw_path", b"").lower():
                raise Refused(400, "address", "The address is not UTF-8.", "Encode names as UTF-8, then by percent.")
            _refuse_other_pages(method, headers)
            await self._app(scope, self._measured(headers, receive), sending)
        except Refused as error:
            if started:
                raise
            await _linger(receive)
            said = {"detail": error.detail, "remedy": error.remedy}
            told = Problem(type=URN + error.kind, title="Refused", status=error.status_code, **said)
            await response(told, {"Connection": "close"})(scope, receive, sending)

    def _refuse_host(self, headers: Headers) -> None:
        """Refuse a request that names another host: a page of somebody else whose name was given our address."""
        host = _name_of(headers.get("host", ""))
        if self._hosts is not None and not is_loopback(host) and host not in self._hosts:
            raise Refused(421, "other_host", "This service has another name.", "Start it with --allow-host NAME.")

    def _measured(self, headers: Headers, receive: Receive) -> Receive:
        size = headers.get("content-length", "0")
        if not size.isdecimal() or len(size) > 15 or int(size) > self._max:
            raise self._too_large()
        ends, got, done, tail = time.monotonic() + BODY_SECONDS, 0, False, b""
        last = _last_of(headers.get("content-type", ""))

        async def measured() -> Message:
            nonlocal got, done, tail
            if done:
                return await receive()  # waits for whoever asked to go away
            try:
                message = await asyncio.wait_for(receive(), max(0.0, ends - time.monotonic()))
            except TimeoutError:
                raise Refused(408, "too_slow", f"The request did not come in within {BODY_SECONDS:.0f} s.") from None
            got += len(message.get("body", b""))
            if got > self._max:
                raise self._too_large()
            done = not message.get("more_body", False)
            tail = (tail + message.get("body", b"")[-_TAIL:])[-_TAIL:]
            if done and got and message["type"] == "http.request" and last not in tail:
                raise Refused(400, "cut_short", "The form is cut short: its last boundary is missing.")
            return message

        return measured

    def _too_large(self) -> Refused:
        return Refused(413, "too_large", f"A request may have {self._max:,} bytes.", "Send fewer or smaller pictures.")


async def _linger(receive: Receive) -> None:
    """Take in a little of what still comes: who is cut off while sending does not read the answer."""
    got = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while got < LINGER_BYTES and (message := await receive()).get("more_body", False):
                got += len(message.get("body", b""))


def _last_of(kind: str) -> bytes:
    """Return what a form ends with; nothing for a body of another kind."""
    if not kind.lower().startswith("multipart/form-data"):
        return b""
    found = re.search(r'boundary=(?:"([^"]*)"|([^;\s]*))', kind, re.IGNORECASE)
    return b"" if found is None else f"--{found[1] or found[2] or ''}--".encode("latin-1", "replace")


def _name_of(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _refuse_other_pages(method: str, headers: Headers) -> None:
    """Refuse what a browser sends for a page of another site: there are no cookies, but on loopback no keys either."""
    origin, host = headers.get("origin"), headers.get("host", "").lower()
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
        raise Refused(403, "other_page", "A page of another site may not use this service.")
    if origin is not None and method not in SAFE and origin.lower() not in (f"http://{host}", f"https://{host}"):
        raise Refused(403, "other_page", "A page of another site may not use this service.")
