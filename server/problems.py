"""Errors as the service tells them: RFC 9457, application/problem+json, a stable type and no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from siamese_index import (
    BadInput,
    Conflict,
    Damaged,
    Locked,
    Missing,
    NotInstalled,
    Refusal,
    SiameseIndexError,
    Unreadable,
)
from siamese_index.errors import NoSubject, Outdated

URN = "urn:siamese-index:problem:"
# The first that fits counts.
_STATUS: tuple[tuple[type[SiameseIndexError], int], ...] = (
    (Conflict, 409),
    (NoSubject, 422),
    (BadInput, 422),
    (Unreadable, 422),
    (Missing, 404),
    (Outdated, 409),
    (Locked, 503),
    (NotInstalled, 501),
    (Damaged, 500),
    (SiameseIndexError, 500),
)
_TITLES = {
    400: "Bad request",
    401: "No key, or not one that is known",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    421: "Another host",
    422: "Cannot be accepted",
    429: "Too many requests",
    500: "Something is wrong here",
    501: "Not installed",
    503: "Busy",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str  # stable: urn:siamese-index:problem:…
    title: str
    status: int
    detail: str
    remedy: str = ""


class Refused(HTTPException):
    """A request that is not answered, for a reason of the service's own."""

    def __init__(self, status: int, kind: str, detail: str, remedy: str = "", **headers: str) -> None:
        super().__init__(status, detail, headers={key.replace("_", "-"): value for key, value in headers.items()})
        self.kind, self.remedy = kind, remedy


def status_of(error: SiameseIndexError) -> int:
    """Return the HTTP status of an error of the engine."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def hidden(text: str, gallery: object) -> str:
    """Return a text that names the gallery, not where it lies: that is for whoever runs the service."""
    return text.replace(str(gallery), Path(str(gallery)).name)


def without_place(error: SiameseIndexError, gallery: object) -> SiameseIndexError:
    """Return an error that names the gallery, not where it lies."""
    return type(error)(*(hidden(part, gallery) for part in (error.what, error.why, error.remedy)))


def of_error(error: SiameseIndexError) -> Problem:
    """Return what is told of an error of the engine."""
    status = status_of(error)
    return Problem(
        type=URN + Refusal("", error).code,
        title=_TITLES[status],
        status=status,
        detail=" ".join(part for part in (error.what, error.why) if part),
        remedy=error.remedy,
    )


def response(problem: Problem, headers: Any = None) -> Response:
    """Return a problem as a response."""
    told = {"Retry-After": "1"} if problem.status in (429, 503) else {}
    if problem.status in (408, 413):
        told["Connection"] = "close"  # what still comes is not read
    data = json.dumps(problem.model_dump(), ensure_ascii=False).encode("utf-8", "replace")
    return Response(data, problem.status, {**told, **(headers or {})}, "application/problem+json")


async def on_engine_error(request: Request, error: Exception) -> Response:
    """Answer for an error of the engine."""
    return response(of_error(error)) if isinstance(error, SiameseIndexError) else await on_fault(request, error)


async def on_http_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Answer for a request that is refused before it reaches the engine."""
    if not isinstance(error, HTTPException):
        raise error
    kind = (
        error.kind if isinstance(error, Refused) else _TITLES.get(error.status_code, "http").lower().replace(" ", "_")
    )
    remedy = error.remedy if isinstance(error, Refused) else ""
    title = _TITLES.get(error.status_code, "Refused")
    told = Problem(type=URN + kind, title=title, status=error.status_code, detail=str(error.detail), remedy=remedy)
    return response(told, error.headers)


async def on_invalid(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Answer for a request whose parameters or body are not as they should be."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:5])
    return response(Problem(type=URN + "bad_input", title=_TITLES[422], status=422, detail=said or "It is not valid."))


async def on_fault(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Answer for a fault of ours; what it was is for the log."""
    said = Problem(type=URN + "fault", title=_TITLES[500], status=500, detail=f"{type(error).__name__} in the service.")
    return response(said)
