"""CompreFace's routes, for clients that exist: what they send is understood, and what they read is there."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from siamese_index import Decision, Gallery, Refusal, SiameseIndexError, __version__
from siamese_index.errors import NoSubject, SeveralSubjects
from siamese_index.samples import images
from siamese_index.samples.framing import around
from siamese_index.samples.images import NamedSample
from siamese_index.samples.names import clean_name
from siamese_index.vectors import distances

from .access import Access
from .answers import picture_response
from .bodies import form_of
from .galleries import Galleries
from .problems import status_of, without_place
from .similarity import Similarity

UNDEFINED, NO_HEADER, NO_FACE, MANY_FACES, NO_PART, NO_SUBJECT, SUBJECT_EXISTS, NO_IMAGE = 0, 20, 28, 31, 34, 42, 43, 44
_MARK = 0x5D1D0000000080008000 << 48  # of a UUID that names a sample
_NUMBERS = (1 << 48) - 1


class Failure(Exception):
    """An answer that tells a client what went wrong: a message and a code, and no result."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def failure(error: Exception) -> Response:
    """Return an error as CompreFace tells it."""
    status, code, message = 500, UNDEFINED, "Something went wrong."
    if isinstance(error, Failure):
        status, code, message = error.status, error.code, str(error)
    elif isinstance(error, NoSubject):
        status, code, message = 400, NO_FACE, "No face is found in the given image"
    elif isinstance(error, SeveralSubjects):
        status, code, message = 400, MANY_FACES, "There is more than one face in the given image"
    elif isinstance(error, SiameseIndexError):
        status, message = status_of(error), " ".join(str(error).splitlines())
        status = 400 if status in (409, 422) else status
    elif isinstance(error, HTTPException):
        status, message = error.status_code, str(error.detail)
        code = NO_HEADER if status == 401 else UNDEFINED
    elif isinstance(error, RequestValidationError):
        status, message = 400, "The request is not valid."
    return JSONResponse({"message": message, "code": code}, status)


class _Route(APIRoute):
    """A route whose errors are JSON as CompreFace's clients read it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except SiameseIndexError as error:
                return failure(without_place(error, request.app.state.gallery))
            except (Failure, HTTPException, RequestValidationError) as error:
                return failure(error)

        return told


def image_id(sample: int) -> str:
    """Return a sample's id as the UUID that clients know it by."""
    return str(UUID(int=_MARK | sample))


def sample_of(text: str) -> int:
    """Return the id of a sample from its UUID. Raises Failure."""
    try:
        number = UUID(text).int
    except ValueError:
        number = 0
    if number & ~_NUMBERS != _MARK:
        raise Failure(404, NO_IMAGE, f"Image {text[:60]} is not found")
    return number & _NUMBERS


def routes(served: Galleries, access: Access) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["compreface"], route_class=_Route)
    read, write = served.read, served.write
    ask, enroll, admin = ([Depends(access.may(role))] for role in ("ask", "enroll", "admin"))
    announced: dict[str, None] = {}  # subjects that were made and have no picture yet

    def subject(name: str) -> str:
        """Return a subject that is enrolled or announced. Raises Failure."""
        name = clean_name(name)
        if name not in announced and all(row.name != name for row in read.identities()):
            raise Failure(404, NO_SUBJECT, f"Subject {name} is not found")
        return name

    @router.get("/recognition/subjects", dependencies=ask)
    def subjects() -> dict[str, Any]:
        """Return the names of all subjects."""
        return {"subjects": sorted({row.name for row in read.identities()} | set(announced))}

    @router.post("/recognition/subjects", dependencies=enroll, status_code=201)
    async def add_subject(request: Request) -> dict[str, Any]:
        """Announce a subject; it is enrolled with its first picture."""
        name = _subject(await _json(request))
        if name in announced or any(row.name == name for row in read.identities()):
            raise Failure(400, SUBJECT_EXISTS, f"Subject {name} already exists")
        announced[name] = None
        return {"subject": name}

    @router.put("/recognition/subjects/{name:path}", dependencies=enroll)
    async def rename(request: Request, name: str) -> dict[str, Any]:
        """Give a subject another name; onto one that is there it is merged."""
        new = _subject(await _json(request))
        name = subject(name)
        there = {row.name for row in read.identities()}
        announced.pop(name, None)
        if name in there and name != new:
            await asyncio.to_thread(write.rename, name, new, merge=True)
        elif name not in there and new not in there:
            announced[new] = None
        return {"updated": True}

    @router.delete("/recognition/subjects/{name:path}", dependencies=enroll)
    def remove(name: str) -> dict[str, Any]:
        """Remove a subject; it can be restored by `sidx undo`."""
        name = subject(name)
        announced.pop(name, None)
        if any(row.name == name for row in write.identities()):
            write.remove(name)
        return {"subject": name}

    @router.delete("/recognition/subjects", dependencies=admin)
    def remove_all() -> dict[str, Any]:
        """Remove every subject."""
        names = [row.name for row in write.identities()]
        for name in names:
            write.remove(name)
        count = len(names) + len(announced)
        announced.clear()
        return {"deleted": count}

    # -- faces ------------------------------------------------------------------------------------

    @router.post("/recognition/faces", dependencies=enroll, status_code=201)
    async def add(request: Request) -> dict[str, Any]:
        """Enroll a picture of a subject, who is made if it is new."""
        name = clean_name(request.query_params.get("subject", ""))
        picture = (await _pictures(request, "file"))["file"]

        def enrolled() -> int:
            done = write.enroll_many([(name, picture)], conflicts="refuse when sure")
            if done.refused:
                raise done.refused[0].error
            digest = write.embedder().digest(picture).hex()
            return next(row.id for row in write.samples(name) if row.digest == digest)

        sample = await asyncio.to_thread(enrolled)
        announced.pop(name, None)
        return {"image_id": image_id(sample), "subject": name}

    @router.get("/recognition/faces", dependencies=ask)
    def faces(request: Request) -> dict[str, Any]:
        """Return the pictures of all subjects, or of one, a page at a time."""
        wanted = request.query_params.get("subject") or None
        rows = [row for row in read.samples() if wanted is None or row.identity == wanted]
        size = max(1, min(_whole(request, "size", 20), 1000))
        page = max(0, _whole(request, "page", 0))
        some = rows[page * size : (page + 1) * size]
        return {
            "faces": [{"image_id": image_id(row.id), "subject": row.identity} for row in some],
            "page_number": page,
            "page_size": size,
            "total_pages": math.ceil(len(rows) / size),
            "total_elements": len(rows),
        }

    @router.delete("/recognition/faces", dependencies=enroll)
    def remove_faces(request: Request) -> dict[str, Any]:
        """Remove the pictures of all subjects, or of one; the subjects stay."""
        wanted = request.query_params.get("subject") or None
        if wanted is None:
            access.check("admin", request.headers.get("x-api-key"), writes=True)
        rows = [row for row in write.identities() if wanted in (None, row.name)]
        for row in rows:
            write.remove(row.name)
            announced[row.name] = None
        return {"deleted": sum(row.samples for row in rows)}

    def removed(samples: list[int]) -> list[dict[str, Any]]:
        whose = {row.id: row.identity for row in write.samples()}
        lost = next((sample for sample in samples if sample not in whose), None)
        if lost is not None:
            raise Failure(404, NO_IMAGE, f"Image {image_id(lost)} is not found")
        write.curation.remove_samples(samples)
        return [{"image_id": image_id(sample), "subject": whose[sample]} for sample in samples]

    @router.post("/recognition/faces/delete", dependencies=enroll)
    async def remove_some(request: Request) -> list[dict[str, Any]]:
        """Remove pictures."""
        ids = await _json(request, list)
        return await asyncio.to_thread(removed, [sample_of(str(each)) for each in ids])

    @router.delete("/recognition/faces/{image}", dependencies=enroll)
    def remove_face(image: str) -> dict[str, Any]:
        """Remove a picture."""
        return removed([sample_of(image)])[0]

    def kept(image: str) -> Response:
        sample = sample_of(image)
        there = any(row.id == sample for row in read.samples())
        return picture_response((read.picture(sample) if there else None) or b"")

    @router.get("/recognition/faces/{image}/img", dependencies=enroll)
    def picture(image: str) -> Response:
        """Return a picture as it was kept; nothing where none is."""
        return kept(image)

    @router.get("/static/{key}/images/{image}")
    def static(key: str, image: str, request: Request) -> Response:
        """As the route before, with the key where these clients put it."""
        access.check("enroll", request.headers.get("x-api-key") or key, writes=False)
        return kept(image)

    # -- questions --------------------------------------------------------------------------------

    async def answered(data: NamedSample, count: int) -> list[Decision]:
        """Return an answer for each face. Raises what the engine does."""
        found = (await served.identify([data], {"k": count}))[0]
        refused = next((each.error for each in found if isinstance(each, Refusal)), None)
        if refused is not None:
            raise refused
        answers = [each for each in found if isinstance(each, Decision) and each.verdict != "no_subject"]
        if not answers:
            raise NoSubject("No face is found in the given image")
        return answers

    @router.post("/recognition/recognize", dependencies=ask)
    async def recognize(request: Request) -> dict[str, Any]:
        """Say who each face is, with the most similar subjects."""
        began = time.perf_counter()
        data = (await _pictures(request, "file"))["file"]
        count = max(1, min(_whole(request, "prediction_count", 1), 1000))
        answers = await answered(data, count)
        if not answers[0].candidates:  # nobody is enrolled, and clients read the first subject
            raise Failure(400, NO_FACE, "No face is found in the given image")
        answers = answers[: _whole(request, "limit", 0) or None]
        similar = _similarity(read)
        rows = []
        for answer in answers:
            subjects = [
                {"subject": each.identity, "similarity": similar(each.distance, answer.verdict == "match")}
                for each in answer.candidates[:count]
            ]
            rows.append({"box": _box(data, answer.box), "subjects": subjects})
        plugins = request.query_params.get("face_plugins", "").split(",")
        if "calculator" in plugins:
            vectors = await asyncio.to_thread(_vectors, read, data, [answer.box for answer in answers])
            for row, vector in zip(rows, vectors.tolist(), strict=True):
                row["embedding"] = vector
        _add_status(request, rows, began)
        return {"result": rows}

    @router.post("/recognition/faces/{image}/verify", dependencies=ask)
    async def verify_face(request: Request, image: str) -> dict[str, Any]:
        """Say how similar each face is to an enrolled picture."""
        began, sample = time.perf_counter(), sample_of(image)
        row = next((row for row in read.samples() if row.id == sample), None)
        if row is None:
            raise Failure(404, NO_IMAGE, f"Image {image} is not found")
        data = (await _pictures(request, "file"))["file"]
        boxes = [answer.box for answer in await answered(data, 1)]
        vectors = await asyncio.to_thread(_vectors, read, data, boxes)
        away = distances(vectors, read.template(sample))
        similar = _similarity(read, pairs=True)
        rows = [
            {"box": _box(data, box), "subject": row.identity, "similarity": similar(float(far))}
            for box, far in zip(boxes, away, strict=True)
        ]
        _add_status(request, rows, began)
        return {"result": rows[: _whole(request, "limit", 0) or None]}

    @router.post("/verification/verify", dependencies=ask)
    async def verify(request: Request) -> dict[str, Any]:
        """Say how similar the face of one picture is to each of another."""
        began = time.perf_counter()
        pair = await _pictures(request, "source_image", "target_image")
        source, target = pair["source_image"], pair["target_image"]
        first = [answer.box for answer in await answered(source, 1)]
        if len(first) > 1:
            raise Failure(400, MANY_FACES, "There is more than one face in the source image")
        boxes = [answer.box for answer in await answered(target, 1)]
        one = await asyncio.to_thread(_vectors, read, source, first)
        others = await asyncio.to_thread(_vectors, read, target, boxes)
        similar = _similarity(read, pairs=True)
        matches = [
            {"box": _box(target, box), "similarity": similar(float(far))}
            for box, far in zip(boxes, distances(others, one[0]), strict=True)
        ]
        row: dict[str, Any] = {"source_image_face": {"box": _box(source, first[0])}, "face_matches": matches}
        _add_status(request, [row], began)
        return {"result": [row]}

    @router.post("/detection/detect", dependencies=ask)
    async def detect(request: Request) -> dict[str, Any]:
        """Say where faces are."""
        began = time.perf_counter()
        data = (await _pictures(request, "file"))["file"]
        rows = [{"box": _box(data, answer.box)} for answer in await answered(data, 1)]
        _add_status(request, rows, began)
        return {"result": rows[: _whole(request, "limit", 0) or None]}

    return router


# -- what comes in, and goes out ------------------------------------------------------------------


async def _json(request: Request, kind: type[Any] = dict) -> Any:
    try:
        found = await request.json()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise Failure(400, NO_PART, "The body is not the JSON that is expected")
    return found


def _subject(told: dict[str, Any]) -> str:
    """Return the name in a body. Raises Failure, BadInput."""
    name = told.get("subject")
    if not isinstance(name, str):
        raise Failure(400, NO_PART, "Required part 'subject' is not present")
    return clean_name(name)


async def _pictures(request: Request, *names: str) -> dict[str, NamedSample]:
    """Return the pictures of a request: files of a form, of whatever type they say, or base64 in JSON."""
    found: dict[str, NamedSample] = {}
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with form_of(request, len(names) + 1) as form:
            for name in names:
                part = form.get(name)
                if isinstance(part, UploadFile):
                    found[name] = NamedSample(await part.read(), part.filename or name)
    else:
        told = await _json(request)
        for name in names:
            text = told.get(name)
            if isinstance(text, str):
                try:
                    found[name] = NamedSample(base64.b64decode(text.split(",")[-1]), name)
                except (binascii.Error, ValueError):
                    raise Failure(400, UNDEFINED, f"{name} is not base64") from None
    lost = next((name for name in names if name not in found), None)
    if lost is not None:
        raise Failure(400, NO_PART, f"Required part '{lost}' is not present")
    return found


def _whole(request: Request, name: str, default: int) -> int:
    """Return a whole number of the query; what is none counts as not given, as these clients send it."""
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else default


def _box(data: bytes, box: tuple[int, int, int, int] | None) -> dict[str, Any]:
    """Return where something is, the whole picture where a tower takes all of it."""
    if box is None:
        height, width = images.decode(data, 1).shape[:2]
        box = (0, 0, width, height)
    x, y, width, height = box
    return {"probability": 1.0, "x_min": x, "y_min": y, "x_max": x + width, "y_max": y + height}


def _vectors(gallery: Gallery, data: NamedSample, boxes: list[tuple[int, int, int, int] | None]) -> Any:
    """Return the vectors of the faces in a picture."""
    parts = [data if box is None or len(boxes) == 1 else NamedSample(around(data, box), "face") for box in boxes]
    vectors, refused = gallery.embed(parts)
    if refused:
        raise next(iter(refused.values())).error
    return vectors


def _similarity(gallery: Gallery, pairs: bool = False) -> Similarity:
    """Return the map of a gallery's threshold, or of the one for pairs of pictures."""
    with gallery.reading() as state:
        searches, tau = state.searches, state.threshold(None).tau
    if pairs:
        tau = gallery.verification_threshold()
    return Similarity.of(tau, searches.genuine, searches.distances[np.isfinite(searches.distances)])


def _add_status(request: Request, rows: list[dict[str, Any]], began: float) -> None:
    """Add what clients ask for with status=true, in whatever case."""
    if request.query_params.get("status", "").lower() == "true":
        took = round((time.perf_counter() - began) * 1000, 1)
        for row in rows:
            row["execution_time"] = {"total": took}
            row["plugins_versions"] = {"calculator": f"siamese-index {__version__}"}
