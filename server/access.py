"""Who may do what: by a key in a header, where there are keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from siamese_index import SiameseIndexError

from .guard import SAFE
from .keys import Key, Keys, Role
from .problems import Refused

HEADER = "x-api-key"
_scheme = APIKeyHeader(name=HEADER, auto_error=False, description="Needed unless the service was started without keys.")


class Access:
    """What requests may do. Without keys everything, whatever key they send."""

    def __init__(self, keys: Keys | None, read_only: bool) -> None:
        self.keys, self.read_only = keys, read_only

    def check(self, role: Role, key: str | None, writes: bool) -> None:
        """Raise Refused unless a key may do what `role` may."""
        if self.keys is not None and not (found := self._holder(key)).may(role):
            raise Refused(403, "not_allowed", f"This key is for the role {found.role}; {role} is needed.")
        if writes and self.read_only:
            raise Refused(403, "read_only", "This service only answers.", "Start it without --read-only.")

    def role(self, request: Request) -> Role:
        """Return what whoever asks may do. Raises Refused."""
        return "admin" if self.keys is None else self._holder(_given(request)).role

    def may(self, role: Role) -> Callable[..., Coroutine[Any, Any, None]]:
        """Return the check that a route depends on: writing ones may not be used with --read-only."""

        if self.keys is None:

            async def open_(request: Request) -> None:  # a plain function would wait for a thread
                self.check(role, None, _writes(role, request))

            return open_

        async def allowed(request: Request, _: Annotated[str | None, Depends(_scheme)] = None) -> None:
            self.check(role, _given(request), _writes(role, request))

        return allowed

    def _holder(self, key: str | None) -> Key:
        try:
            found = self.keys.holder(key) if key and self.keys is not None else None
        except SiameseIndexError:
            raise Refused(503, "keys", "The keys of this service cannot be read.") from None
        if found is None:
            raise Refused(401, "no_key", f"There is no key, or none that is known, in the header {HEADER}.")
        return found


def _given(request: Request) -> str | None:
    """Return the key that a request came with."""
    bearer = request.headers.get("authorization", "")
    return request.headers.get(HEADER) or (bearer[7:] if bearer[:7].lower() == "bearer " else None)


def _writes(role: Role, request: Request) -> bool:
    """Whether a request changes something: whoever may only ask changes nothing, whatever the method."""
    return role != "ask" and request.method not in SAFE
