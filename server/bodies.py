"""What comes in and goes out, as JSON or in parts: the shapes that OpenAPI tells of."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.datastructures import FormData, UploadFile

from siamese_index import Decision
from siamese_index.samples import sources
from siamese_index.samples.images import NamedSample
from siamese_index.samples.names import NAME_LIMIT

from .problems import Refused

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LIMIT)]
Row = Annotated[int, Field(ge=1, le=(1 << 53) - 1)]  # what JSON can count exactly
MOST = 64  # pictures of one request
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                    },
                }
            }
        },
    }
}


_BINARY = {"type": "string", "format": "binary"}
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {f"image/{kind}": {"schema": _BINARY} for kind in ("png", "jpeg", "webp", "bmp")}},
    304: {"description": "It is what the client has."},
}


class Body(BaseModel):
    """A JSON object that comes in; what it does not know is refused, and what is of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RefusedPicture(BaseModel):
    """A picture that could not be answered for, or was not enrolled."""

    source: str
    code: str
    detail: str
    remedy: str = ""


class Identification(BaseModel):
    """An answer for each picture, or for each face in it: each as `sidx identify --json` prints it."""

    answers: list[Decision]
    refused: list[RefusedPicture]


class Identity(BaseModel):
    """An identity, and one of its samples to show."""

    id: int
    name: str
    samples: int
    tags: dict[str, str]
    sample: int | None


class IdentityPage(BaseModel):
    """Some identities, by name."""

    identities: list[Identity]
    next: str | None = Field(None, description="`after` of the next page; null at the end.")


class Count(BaseModel):
    """How many it was."""

    count: int


@contextlib.asynccontextmanager
async def form_of(request: Request, files: int) -> AsyncIterator[FormData]:
    """Yield a form with so many files at most. Raises Refused for one that cannot be read."""
    try:
        form = await request.form(max_files=files, max_fields=MOST)
    except (UnicodeError, LookupError):
        raise Refused(400, "form", "The form is in an encoding that is not known.") from None
    try:
        yield form
    finally:
        await form.close()


async def pictures_of(request: Request) -> list[NamedSample]:
    """Return the pictures of a request: the files of a form, or its body. Raises Refused."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with form_of(request, MOST) as form:
            files = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
            found = [NamedSample(await file.read(), file.filename or f"picture {i}") for i, file in enumerate(files)]
    elif kind in ("", "application/octet-stream", "application/x-npy") or kind.startswith("image/"):
        data = await request.body()
        found = [NamedSample(data, "picture")] if data else []
    else:
        raise Refused(415, "media_type", f"A body of {kind} is not read.", "Send multipart/form-data, or a picture.")
    found = [sample for each in found for sample in _rows(each)]
    if not found:
        raise Refused(400, "no_picture", "There is no picture in the request.", "Send it as a file of a form.")
    return found


def pairs_of(tags: Sequence[str]) -> dict[str, str]:
    """Return tags that are given as KEY=VALUE. Raises Refused."""
    lost = next((each for each in tags if "=" not in each), None)
    if lost is not None:
        raise Refused(400, "tag", f"{lost[:60]!r} is no tag.", "Expected KEY=VALUE.")
    found = {each.partition("=")[0]: each.partition("=")[2] for each in tags}
    if len(found) != len(tags):
        raise Refused(400, "tag", "A tag is given twice.")
    return found


def _rows(sample: NamedSample) -> list[NamedSample]:
    """Return a sample, or each row of an array of vectors."""
    if sample[:6] != b"\x93NUMPY":
        return [sample]
    return [each for each in sources.piped(sample, sample.source) if isinstance(each, NamedSample)]
