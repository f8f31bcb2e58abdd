"""Routes that ask: identifications, verifications, answers on record and what they show in truth."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from siamese_index import Refusal, Verification
from siamese_index.curation.correcting import LoggedAnswer
from siamese_index.thresholds.question import LEAST, Asked, Question

from .access import Access
from .bodies import FORM, PICTURE, Body, Identification, Name, RefusedPicture, Row, pairs_of, pictures_of
from .galleries import Galleries
from .problems import Refused


class Truth(Body):
    """What an answer, or a picture, shows: one of these."""

    identity: Name | None = None
    stranger: bool = False
    ignore: bool = False


class Groups(Body):
    """Groups of answers on record, and what they show: an identity, or strangers (of one name, or each its own)."""

    groups: Annotated[list[Annotated[list[Row], Field(min_length=1)]], Field(min_length=1)]
    identity: Name | None = None
    stranger: Name | None = None


def told(refusal: Refusal) -> RefusedPicture:
    """Return what is said of a picture that was not taken."""
    error = refusal.error
    detail = " ".join(part for part in (error.what, error.why) if part)
    return RefusedPicture(source=refusal.source, code=refusal.code, detail=detail, remedy=error.remedy)


def routes(served: Galleries, access: Access) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["answers"])
    ask, enroll = [Depends(access.may("ask"))], [Depends(access.may("enroll"))]

    @router.post("/identifications", dependencies=ask, openapi_extra=FORM, response_model=Identification)
    async def identify(
        request: Request,
        k: Annotated[int, Query(ge=1, le=1000)] = 5,
        fpir: Annotated[float | None, Query(ge=LEAST, lt=1)] = None,
        threshold: Annotated[float | None, Query(ge=0, le=2)] = None,
        exact: bool = False,
        strict: bool = False,
        largest: bool = False,
        tag: Annotated[list[str], Query(description="KEY=VALUE: only identities that have it.")] = [],  # noqa: B006
        exclude: Annotated[list[str], Query(description="Identities that are not searched.")] = [],  # noqa: B006
    ) -> Response:
        """Say who or what each picture shows. Unknown is an answer: 200.

        With Accept: application/x-ndjson a line of JSON each, as `sidx identify --json` prints them.
        """
        asked: Asked = {
            "k": k,
            "fpir": fpir,
            "threshold": threshold,
            "exact": exact,
            "strict": strict,
            "largest": largest,
            "tags": pairs_of(tag),
            "exclude": tuple(exclude),
        }
        Question.of(asked)  # what cannot be asked is refused before a picture is read
        pictures = await pictures_of(request)
        each = [answer for found in await served.identify(pictures, asked) for answer in found]
        refused = [told(answer) for answer in each if isinstance(answer, Refusal)]
        answers = [answer for answer in each if not isinstance(answer, Refusal)]
        if not answers and len(refused) == 1:
            raise next(answer.error for answer in each if isinstance(answer, Refusal))
        rows = [answer.to_dict() for answer in answers]
        if "application/x-ndjson" in request.headers.get("accept", ""):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            left = {"X-Refused": str(len(refused))} if refused else None
            return Response(lines.encode("utf-8", "replace"), media_type="application/x-ndjson", headers=left)
        body = {"answers": rows, "refused": [each.model_dump() for each in refused]}
        return Response(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), media_type="application/json")

    @router.post("/verifications", dependencies=ask, openapi_extra=FORM, response_model=Verification)
    async def verify(
        request: Request, identity: Name | None = None, fmr: Annotated[float | None, Query(ge=LEAST, lt=1)] = None
    ) -> dict[str, Any]:
        """Say whether two pictures, or one and an enrolled identity, are the same."""
        pictures = await pictures_of(request)
        if len(pictures) != (2 if identity is None else 1):
            raise Refused(400, "pictures", "Expected two pictures, or one and an identity.")

        def verified() -> Verification:
            if identity is not None:
                return served.read.verify_as(pictures[0], identity, fmr=fmr)
            return served.read.verify(*pictures, fmr=fmr)

        return asdict(await asyncio.to_thread(verified))

    @router.get("/answers", dependencies=enroll)
    def answers(limit: Annotated[int, Query(ge=1, le=10_000)] = 50) -> list[LoggedAnswer]:
        """Return the last answers on record, the newest first. They are kept where the log is on."""
        return served.read.curation.answers(limit)

    @router.get("/answers/{answer}/picture", dependencies=enroll, response_class=Response, responses=PICTURE)
    def answer_picture(answer: Row) -> Response:
        """Return the picture of an answer on record as it was kept."""
        found = served.read.curation.answer_picture(answer)
        if found is None:
            raise Refused(404, "missing", f"No picture was kept of the answer {answer}.")
        return picture_response(found)

    @router.post("/answers/{answer}/feedback", dependencies=enroll)
    def feedback(answer: Row, truth: Truth) -> dict[str, Any]:
        """Say what an answer on record shows in truth: it becomes a sample, a stranger, or an example."""
        done = served.write.curation.correct(answer, truth.identity, stranger=truth.stranger, ignore=truth.ignore)
        return asdict(done)

    @router.post("/corrections", dependencies=enroll, openapi_extra=FORM)
    async def correct(request: Request, identity: Name | None = None, stranger: bool = False) -> dict[str, Any]:
        """Say what a picture shows in truth: an identity, or a stranger whom the threshold learns from."""
        pictures = await pictures_of(request)
        if len(pictures) != 1:
            raise Refused(400, "pictures", "Expected one picture.")
        work = served.write.curation.correct
        return asdict(await asyncio.to_thread(work, pictures[0], identity, stranger=stranger))

    @router.get("/review", dependencies=enroll)
    def review(least: Annotated[int, Query(ge=1)] = 1) -> dict[str, Any]:
        """Group the unknown answers on record by whom they show."""
        from siamese_index.analysis.review import review as grouped

        found = grouped(served.read, least)
        clusters = [cluster.to_dict() for cluster in found.clusters]
        return {"clusters": clusters, "answers": found.answers, "left_out": found.left_out}

    @router.post("/review", dependencies=enroll)
    def settle(told: Groups) -> dict[str, Any]:
        """Say what groups of answers show."""
        if (told.identity is None) == (told.stranger is None) and told.identity is not None:
            raise Refused(400, "truth", "Expected an identity or a stranger.")
        done = served.write.curation.settle(told.groups, told.identity or told.stranger, stranger=told.identity is None)
        return asdict(done)

    @router.get("/log", dependencies=ask)
    def log() -> dict[str, Any]:
        """Return whether answers are kept, and how many there are."""
        on, count = served.read.log()
        return {"on": on, "answers": count}

    @router.put("/log", dependencies=[Depends(access.may("admin"))])
    def switch_log(on: bool) -> dict[str, Any]:
        """Keep answers on record from now on, or no more."""
        now, count = served.write.log(on)
        return {"on": now, "answers": count}

    return router


def picture_response(data: bytes, tag: str | None = None) -> Response:
    """Return a picture as it was kept, with its media type; nothing in it is run."""
    kinds = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"), (b"BM", "image/bmp"))
    kind = next((name for mark, name in kinds if data.startswith(mark)), "application/octet-stream")
    return Response(data, media_type=kind, headers={"ETag": tag, "Cache-Control": "private"} if tag else None)
