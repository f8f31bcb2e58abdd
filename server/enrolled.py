"""Routes of who is enrolled: identities, their samples, strangers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import unicodedata
from collections import OrderedDict
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import Field
from starlette.responses import Response

from siamese_index import Gallery, Missing, describe
from siamese_index.analysis.glance import glance
from siamese_index.enrollment import Conflicts, Enrollment
from siamese_index.samples import images
from siamese_index.samples.names import clean_name, clean_tags
from siamese_index.samples.quality import quality as image_quality
from siamese_index.store.rows import IdentityRow, SampleRow, StrangerRow

from .access import Access
from .answers import picture_response, told
from .bodies import FORM, PICTURE, Body, Count, IdentityPage, Name, Row, pictures_of
from .galleries import Galleries
from .problems import Refused

ALREADY: dict[int | str, dict[str, Any]] = {200: {"description": "All was enrolled already."}}
REMEMBERED = 10_000  # keys of requests that were answered
THUMBNAIL = 160  # pixels of the longer side


class IdentityChange(Body):
    """What becomes of an identity."""

    name: Name | None = None
    merge: bool = False  # with whoever is called so already
    tags: dict[str, str | None] | None = None  # null takes one away


class Merge(Body):
    """Two identities that are one."""

    identity: Name
    into: Name


class NewIdentity(Body):
    """Samples that are of somebody else."""

    identity: Name
    new: Name
    samples: Annotated[list[Row], Field(min_length=1)]


class Move(Body):
    """Whose samples are in truth."""

    samples: Annotated[list[Row], Field(min_length=1)]
    identity: Name
    new: bool = False


class SampleIds(Body):
    """Some samples."""

    samples: Annotated[list[Row], Field(min_length=1)]


class Restoration(Body):
    """Who, or which samples, are enrolled again."""

    identity: Name | None = None
    new: Name | None = None
    samples: list[Row] = Field(default_factory=list)


class Purge(Body):
    """What is deleted for good."""

    identities: list[Name] = Field(default_factory=list)
    strangers: bool = False
    answers_before: str | None = None


def thumbnail(data: bytes) -> bytes:
    """Return a picture small, as PNG. Raises Unreadable."""
    pixels = images.decode(data, 3)
    scale = min(1.0, THUMBNAIL / max(pixels.shape[:2]))
    size = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return images.encode(images.fit(pixels, *size))


def routes(served: Galleries, access: Access) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["enrolled"])
    read, write = served.read, served.write
    ask, enroll, admin = ([Depends(access.may(role))] for role in ("ask", "enroll", "admin"))
    repeated = _Repeated()

    @router.get("/identities", dependencies=ask, response_model=IdentityPage)
    def identities(
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        q: Annotated[str | None, Query(description="A part of the name.")] = None,
        tag: Annotated[list[str], Query(description="KEY=VALUE")] = [],  # noqa: B006
    ) -> dict[str, Any]:
        """Return identities by name, some at a time."""
        rows = read.identities()
        wanted = [tuple(each.partition("=")[::2]) for each in tag]
        part = unicodedata.normalize("NFC", q or "").casefold()  # as names are stored
        rows = [row for row in rows if part in row.name.casefold()]
        rows = [row for row in rows if all(row.tags.get(key) == value for key, value in wanted)]
        rows = sorted((row for row in rows if after is None or row.name > after), key=lambda row: row.name)
        more, rows = len(rows) > limit, rows[:limit]
        with read.reading() as state:
            first = state.store.first_samples([row.id for row in rows])
        found = [{**asdict(row), "sample": first.get(row.id)} for row in rows]
        return {"identities": found, "next": rows[-1].name if more else None}

    @router.post("/identities", dependencies=enroll, openapi_extra=FORM, status_code=201)
    async def create_identity(request: Request, name: Name, conflict: bool = False) -> dict[str, Any]:
        """Enroll a new identity from its first pictures; one that is there already is refused."""
        called = clean_name(name)
        if any(row.name == called for row in await asyncio.to_thread(read.identities)):
            raise Refused(409, "exists", f"{called!r} is enrolled already.", "POST /api/v1/samples adds pictures.")
        return await added(called, await pictures_of(request), conflict, None)

    @router.get("/removed", dependencies=ask)
    def removed() -> dict[str, Any]:
        """Return who was removed and can be restored, and single samples."""
        gone, samples = read.curation.removed()
        return {"identities": [row._asdict() for row in gone], "samples": [row._asdict() for row in samples]}

    @router.get("/identities/{name:path}", dependencies=ask)
    def identity(name: str, quality: bool = False) -> dict[str, Any]:
        """Return an identity with its samples, how near they are to each other, and who else is near.

        With `quality` also how good each picture is that was kept: the measures of `sidx enroll --min-quality`.
        """
        found = _identity(read, name)
        rows = [each.to_dict() for each in glance(read, name)]
        if quality:
            rows = [{**row, "quality": _quality(read, row["id"])} for row in rows]
        return {**asdict(found), "sample_rows": rows}

    @router.patch("/identities/{name:path}", dependencies=enroll)
    def change_identity(name: str, change: IdentityChange) -> IdentityRow:
        """Give an identity another name, or tags."""
        clean_tags(change.tags)
        name, new = clean_name(name), clean_name(name if change.name is None else change.name)
        if new != name:
            write.rename(name, new, merge=change.merge)
        if change.tags:
            write.tag(new, change.tags)
        return _identity(write, new)

    @router.delete("/identities/{name:path}", dependencies=enroll)
    def remove_identity(name: str) -> Count:
        """Take an identity out of the gallery; it can be restored."""
        return Count(count=write.remove(name))

    @router.post("/merges", dependencies=enroll)
    def merge(merge: Merge) -> Count:
        """Make the samples of one identity those of another."""
        return Count(count=write.curation.merge(merge.identity, merge.into))

    @router.post("/splits", dependencies=enroll)
    def split(split: NewIdentity) -> Count:
        """Make a new identity of some samples."""
        return Count(count=write.curation.split(split.identity, split.new, split.samples))

    @router.post("/moves", dependencies=enroll)
    def move(move: Move) -> dict[str, Any]:
        """Let samples be of another identity."""
        return asdict(write.curation.move(move.samples, move.identity, new=move.new))

    @router.post("/restorations", dependencies=enroll)
    def restore(what: Restoration) -> Count:
        """Enroll again who, or what, was removed."""
        if (what.identity is None) == (not what.samples):
            raise Refused(400, "restoration", "Expected an identity, or samples.")
        if what.identity is not None:
            return Count(count=write.curation.restore(what.identity, what.new))
        return Count(count=write.curation.restore_samples(what.samples).samples)

    @router.post("/purges", dependencies=admin)
    def purge(what: Purge) -> dict[str, Any]:
        """Delete for good: pictures, vectors, names, answers. It cannot be undone. The receipt is told this once."""
        purged = write.curation.purge
        receipt = purged(what.identities, strangers=what.strangers, answers_before=what.answers_before)
        repeated.forget()
        return receipt.to_dict()

    # -- samples ----------------------------------------------------------------------------------

    @router.get("/samples", dependencies=ask)
    def samples(
        identity: str | None = None,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[SampleRow]:
        """Return samples by id, some at a time: those after an id."""
        return [row for row in read.samples(identity) if row.id > after][:limit]

    @router.post("/samples", dependencies=enroll, openapi_extra=FORM, status_code=201, responses=ALREADY)
    async def add_samples(
        request: Request,
        response: Response,
        identity: Name,
        conflict: Annotated[bool, Query(description="Also what looks like another identity.")] = False,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> dict[str, Any]:
        """Enroll pictures of an identity, who is made if it is new. Durable when it is answered.

        201 when something is new, 200 when all was enrolled already. A picture that is refused is named; the others
        are enrolled. Where all are refused, the first one says why.
        """
        pictures = await pictures_of(request)
        async with one_by_one if idempotency_key else contextlib.nullcontext():
            known = await added(identity, pictures, conflict, idempotency_key)
        response.status_code = 201 if known["enrolled"] else 200
        return known

    one_by_one = asyncio.Lock()  # of requests with a key: the same one may come twice at once

    async def added(
        identity: str, pictures: list[images.NamedSample], conflict: bool, idempotency_key: str | None
    ) -> dict[str, Any]:
        digest = hashlib.sha256(f"{conflict} {identity}".encode("utf-8", "replace"))
        for picture in pictures:
            digest.update(hashlib.sha256(picture).digest())
        known = repeated.answer(idempotency_key, digest.digest())
        if known is None:
            conflicts: Conflicts = "allow" if conflict else "refuse when sure"
            items = [(identity, picture) for picture in pictures]
            done = await asyncio.to_thread(write.enroll_many, items, conflicts=conflicts)
            if not done.enrolled and not done.already:
                raise done.refused[0].error
            known = repeated.keep(idempotency_key, digest.digest(), _enrolled(done))
        return known

    @router.get("/samples/{sample}", dependencies=ask)
    def sample(sample: Row) -> SampleRow:
        """Return a sample."""
        return _sample(read, sample)

    @router.get("/samples/{sample}/picture", dependencies=enroll, response_class=Response, responses=PICTURE)
    def sample_picture(sample: Row, request: Request) -> Response:
        """Return the picture of a sample as it was kept."""
        return _kept(read, sample, request, small=False)

    @router.get("/samples/{sample}/thumbnail", dependencies=ask, response_class=Response, responses=PICTURE)
    def sample_thumbnail(sample: Row, request: Request) -> Response:
        """Return the picture of a sample, 160 pixels at most, as PNG."""
        return _kept(read, sample, request, small=True)

    @router.delete("/samples/{sample}", dependencies=enroll)
    def remove_sample(sample: Row) -> dict[str, Any]:
        """Take a sample out of use; it can be restored."""
        return asdict(write.curation.remove_samples([sample]))

    @router.post("/removals", dependencies=enroll)
    def remove_samples(what: SampleIds) -> dict[str, Any]:
        """Take samples out of use, as one change; they can be restored."""
        return asdict(write.curation.remove_samples(what.samples))

    # -- strangers --------------------------------------------------------------------------------

    @router.get("/strangers", dependencies=ask)
    def strangers() -> list[StrangerRow]:
        """Return the samples of those whom the threshold is learned from."""
        return read.strangers()

    @router.post("/strangers", dependencies=enroll, openapi_extra=FORM, status_code=201)
    async def add_strangers(request: Request, name: Name) -> dict[str, Any]:
        """Let the threshold learn from pictures of somebody who is not enrolled."""
        pictures = await pictures_of(request)

        def learned() -> dict[str, Any]:
            before = write.outlook()
            _, refused = write.calibrate(strangers_given=[(name, picture) for picture in pictures])
            change = describe.change(before, write.outlook())
            return {
                "count": len(pictures) - len(refused),
                "refused": [told(each) for each in refused],
                "change": change,
            }

        return await asyncio.to_thread(learned)

    @router.put("/strangers/{name:path}", dependencies=enroll)
    def set_stranger(name: str, counts: bool) -> Count:
        """Let a stranger count, or no more."""
        return Count(count=write.set_stranger(name, counts))

    return router


def _identity(gallery: Gallery, name: str) -> IdentityRow:
    name = clean_name(name)
    found = next((row for row in gallery.identities() if row.name == name), None)
    if found is None:
        raise Missing(f"{name!r} is not enrolled.", remedy="See: GET /api/v1/identities")
    return found


def _quality(gallery: Gallery, sample: int) -> dict[str, Any] | None:
    """Return the measures of a sample's picture, and whether it is smaller than what the tower takes; None without."""
    data, shape = gallery.picture(sample), gallery.tower_record()[0].card.input.shape
    if data is None or len(shape) != 3:
        return None
    measures = image_quality(data)
    return {**measures, "small": measures["size"] < min(shape[:2])}


def _sample(gallery: Gallery, sample: int) -> SampleRow:
    with gallery.reading() as state:
        found = state.store.samples(ids=[sample])
    if not found:
        raise Missing(f"There is no enrolled sample {sample}.", remedy="See: GET /api/v1/samples")
    return found[0]


def _kept(gallery: Gallery, sample: int, request: Request, small: bool) -> Response:
    """Return the picture of an enrolled sample, or that it is what the client has."""
    row = _sample(gallery, sample)
    tag = f'"{row.digest[:32]}{"s" if small else ""}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    data = gallery.picture(sample)
    if data is None:
        raise Missing(f"No picture was kept of sample {sample}.")
    return picture_response(thumbnail(data) if small else data, tag)


def _enrolled(done: Enrollment) -> dict[str, Any]:
    return {
        "enrolled": [{"identity": name, "source": source} for name, source in done.enrolled],
        "already": [{"identity": name, "source": source} for name, source in done.already],
        "refused": [told(each).model_dump() for each in done.refused],
        "revision": done.revision,
    }


class _Repeated:
    """Answers by the keys of their requests: who repeats one gets the same answer. The newest are remembered.

    A picture that is enrolled already is not enrolled again in any case, also after the service was started anew.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[bytes, dict[str, Any]]] = OrderedDict()

    def answer(self, key: str | None, digest: bytes) -> dict[str, Any] | None:
        """Return what was answered for a key. Raises Refused for another request by the same key."""
        found = self._known.get(key) if key else None
        if found is not None and found[0] != digest:
            raise Refused(422, "other_request", "Another request came with this Idempotency-Key.", "Use a new key.")
        return None if found is None else found[1]

    def forget(self) -> None:
        """Forget all: answers name people."""
        self._known.clear()

    def keep(self, key: str | None, digest: bytes, answer: dict[str, Any]) -> dict[str, Any]:
        """Remember an answer."""
        if key:
            self._known[key] = digest, answer
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return answer
