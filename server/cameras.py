"""Cameras elsewhere: they send pictures, and are told of each visit that is over, as `sidx watch` tells of one here."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from siamese_index.analysis.visits import Visit, Visits
from siamese_index.samples import images
from siamese_index.samples.video import Shot
from siamese_index.thresholds.question import LEAST, Asked, Question

from .access import Access
from .bodies import pairs_of
from .galleries import Galleries
from .problems import Refused

MOST = 64  # cameras at a time
FORGOTTEN = 600.0  # seconds after which a camera that sends nothing is forgotten


class _Camera:
    """A camera: who is in sight, and since when it was not heard of."""

    def __init__(self, visits: Visits, asked: Asked) -> None:
        self.visits, self.asked = visits, asked
        self.heard, self.at = time.monotonic(), 0.0
        self.one = threading.Lock()


def routes(served: Galleries, access: Access, alone: bool) -> APIRouter:
    """Return the routes. One of several processes has none: a camera's pictures must come to the same one."""
    router = APIRouter(tags=["cameras"])
    ask = [Depends(access.may("ask"))]
    cameras: dict[str, _Camera] = {}
    change = threading.Lock()

    def known(name: str, asked: Asked, every: float) -> _Camera:
        with change:
            for lost in [key for key, each in cameras.items() if time.monotonic() - each.heard > FORGOTTEN]:
                over(cameras.pop(lost).visits.end())
            found = cameras.get(name)
            if found is None:
                if len(cameras) >= MOST:
                    raise Refused(
                        429, "too_many", f"{MOST} cameras are watched.", "End one: DELETE /api/v1/cameras/NAME"
                    )
                visits = Visits(served.ask, Question.of(asked), every=every)
                found = cameras[name] = _Camera(visits, asked)
            if found.asked != asked:
                raise Refused(409, "camera", "This camera is watched with other options.", "End it first.")
            found.heard = time.monotonic()
            return found

    def over(visits: list[Visit]) -> dict[str, Any]:
        served.tell([visit.decision for visit in visits], None)
        return {"visits": [visit.to_dict() for visit in visits]}

    @router.post(
        "/cameras/{camera}/shots",
        dependencies=ask,
        openapi_extra={"requestBody": {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def shot(
        request: Request,
        camera: str,
        at: Annotated[
            float, Query(ge=0, lt=1e12, description="Seconds, by the camera's clock; never less than before.")
        ],
        name: Annotated[str, Query(max_length=255)] = "picture",
        every: Annotated[float, Query(ge=0, le=3600, description="Seconds between two pictures.")] = 0.2,
        fpir: Annotated[float | None, Query(ge=LEAST, lt=1)] = None,
        threshold: Annotated[float | None, Query(ge=0, le=2)] = None,
        strict: bool = False,
        tag: Annotated[list[str], Query(description="KEY=VALUE: only identities that have it.")] = [],  # noqa: B006
    ) -> dict[str, Any]:
        """Take in a camera's picture, or an empty body where there was none; return the visits that are over.

        The first picture begins to watch a camera. What is asked stays the same until it ends.
        """
        if not alone:
            raise Refused(
                501, "one_process", "A service of several processes watches no cameras.", "Leave out --workers."
            )
        asked: Asked = {"fpir": fpir, "threshold": threshold, "strict": strict, "tags": pairs_of(tag)}
        data = await request.body()

        def seen() -> dict[str, Any]:
            pixels = images.decode(data, 3) if data else None
            its = known(camera, asked, every)
            with its.one:
                if at < its.at:
                    raise Refused(400, "time", f"{at} is before {its.at}, the time of the picture before.")
                its.at = at
                return over(its.visits.see(Shot(name, at, pixels)))

        return await asyncio.to_thread(seen)

    @router.delete("/cameras/{camera}", dependencies=ask)
    def end_camera(camera: str) -> dict[str, Any]:
        """End a camera; return the visits that went on."""
        with change:
            found = cameras.pop(camera, None)
        if found is None:
            raise Refused(404, "missing", "No such camera is watched.")
        with found.one:
            return over(found.visits.end())

    return router
