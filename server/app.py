"""The service put together: what guards it, what it answers, and how errors look."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from siamese_index import SiameseIndexError, __version__

from . import answers, cameras, compreface, enrolled, problems, whole
from .access import Access
from .alarm import StrangerAlarm
from .figures import Figures
from .galleries import Galleries
from .guard import Guard
from .keys import Keys
from .mqtt import Publisher
from .pages import Pages
from .problems import Problem
from .trainings import Trainings

API = "/api/v1"
_PROBLEM: dict[str, Any] = {"model": Problem}
_PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "5XX": _PROBLEM}
log = logging.getLogger("siamese_index.server")


def service(
    gallery: str | Path,
    keys: Keys | None = None,
    *,
    hosts: Collection[str] = (),
    read_only: bool = False,
    compat: bool = False,
    mqtt: str | None = None,
    alone: bool = True,
) -> ASGIApp:
    """Return the service of a gallery as an ASGI application, which opens it and closes it with its lifespan.

    Without `keys` everybody may do everything, and requests must name a loopback host, or one of `hosts`. `compat` adds
    the routes that clients of CompreFace call. `mqtt` is the address of a broker that answers are published to. Raises
    what `Gallery.open` does, and `Publisher`. `alone` is False for one of several processes, which trains nothing.
    """
    publisher, figures = None if mqtt is None else Publisher(mqtt), Figures()
    told = [figures.answered, *([lambda decisions, _: publisher.publish(decisions)] if publisher else [])]
    served = Galleries(gallery, told)
    alarm = StrangerAlarm(served.read)
    trainings, access = Trainings(str(gallery), alone), Access(keys, read_only)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            trainings.close()
            served.close()
            if publisher is not None:
                publisher.close()

    app = _Described(
        title="siamese-index",
        version=__version__,
        description="Who or what is this? The same engine and the same answers as `sidx`.",
        lifespan=lifespan,
        docs_url=None,  # its pages would load code from elsewhere
        redoc_url=None,
        responses=_PROBLEMS,
        generate_unique_id_function=_operation,
    )
    for router in (
        answers.routes(served, access),
        enrolled.routes(served, access),
        whole.routes(served, access, trainings),
        cameras.routes(served, access, alone),
    ):
        app.include_router(router, prefix=API)

    if compat:
        app.include_router(compreface.routes(served, access), prefix=API)

    app.state.gallery = served.path
    app.mount("/page", Pages(), name="page")

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        """Lead to the page."""
        return RedirectResponse("page/")

    @app.get("/healthz", tags=["service"])
    def healthz() -> dict[str, str]:
        """Say that the service runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"])
    def readyz() -> dict[str, Any]:
        """Say that the gallery can be read."""
        try:
            return {"status": "ok", "revision": served.read.revision}
        except SiameseIndexError:
            raise problems.Refused(503, "not_ready", "The gallery cannot be read.") from None

    @app.get("/metrics", tags=["service"], dependencies=[Depends(access.may("ask"))], response_class=Response)
    def metrics() -> Response:
        """Return what is counted, for Prometheus."""
        return Response(
            figures.text(served.waiting, len(served.read.identities()), alarm.rings()),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    async def on_error(request: Request, error: Exception) -> Response:
        if isinstance(error, SiameseIndexError):
            error = problems.without_place(error, served.path)
        if isinstance(error, HTTPException) and error.status_code == 405:
            error.headers = {"Allow": ", ".join(sorted(_methods(app, request.scope)))}
        told = await _HANDLERS[type(error) if type(error) in _HANDLERS else _kind(error)](request, error)
        figures.refused(told.status_code)
        return told

    for kind in _HANDLERS:
        app.add_exception_handler(kind, on_error)
    return Guard(_Quiet(app), hosts if keys is None else None)


class _Described(FastAPI):
    """Describes errors as what they are, problem+json; FastAPI knows one media type for what has a model."""

    def openapi(self) -> dict[str, Any]:
        """Return the description of all routes."""
        if not self.openapi_schema:
            for path in super().openapi()["paths"].values():
                for operation in path.values():
                    for content in (operation["responses"][status]["content"] for status in _PROBLEMS):
                        content["application/problem+json"] = content.pop("application/json")
        return super().openapi()


def _operation(route: APIRoute) -> str:
    """Return what a generated client calls a route."""
    return f"compreface_{route.name}" if "compreface" in route.tags else route.name


_HANDLERS = {
    SiameseIndexError: problems.on_engine_error,
    HTTPException: problems.on_http_error,
    RequestValidationError: problems.on_invalid,
    Exception: problems.on_fault,
}


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """Return what may be done at an address, where each method has a route of its own."""
    routes = [route for route in app.routes if not isinstance(route, Mount)]
    asked = {method: {**scope, "method": method} for method in ("POST", "PUT", "PATCH", "DELETE")}
    found = {method for method, scope in asked.items() if any(r.matches(scope)[0] == Match.FULL for r in routes)}
    read = any(r.matches({**scope, "method": "GET"})[0] == Match.FULL for r in routes)
    return found | {"GET", "HEAD"} if read or not found else found


def _kind(error: Exception) -> type[Exception]:
    return next(kind for kind in _HANDLERS if isinstance(error, kind))


class _Quiet:
    """Writes a fault of ours to the log; who asked was told that there was one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except problems.Refused:
            raise
        except (ClientDisconnect, asyncio.CancelledError):
            return  # who asked is gone, or the service ends
        except Exception as error:
            route = getattr(scope.get("route"), "path", "")  # not the path itself, in which a key may be
            log.error("%s %s: %s: %s", scope.get("method"), route, type(error).__name__, error)
            log.debug("where it came from", exc_info=error)
