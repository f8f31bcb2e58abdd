"""Routes of the gallery as a whole: its operating point, audit, history, towers, trainings, copies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from numpy.typing import NDArray
from pydantic import Field
from starlette.responses import StreamingResponse

from siamese_index import Gallery, Missing, __version__, describe
from siamese_index.analysis.operating_points import operating_points
from siamese_index.curation.history import HistoryRow
from siamese_index.errors import Outdated
from siamese_index.samples.images import NamedSample
from siamese_index.store.rows import Fusion
from siamese_index.thresholds.question import LEAST
from siamese_index.thresholds.statistics import share_interval

from .access import Access
from .bodies import MOST, Body, Count, Name, Row, form_of
from .galleries import Galleries
from .problems import Refused, hidden
from .trainings import Trainings

CURVE = 400  # distances of each kind that a page draws
# Target FPIRs that a page offers: 0.1 % to 50 %, each a quarter to a third more than the one before.
_STEPS = (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8)
TARGETS = tuple(float(f"{step}e{power}") for power in (-3, -2, -1) for step in _STEPS if step * 10.0**power <= 0.5)


class Target(Body):
    """How it is decided from now on; what is left out stays."""

    target_fpir: Annotated[float, Query(ge=LEAST, lt=1)] | None = None
    fusion: Fusion | Literal["auto"] | None = None
    confidence: Annotated[float, Query(ge=0, lt=1)] | None = None
    strict: bool | None = None


class Findings(Body):
    """Findings of the audit, by their ids."""

    findings: Annotated[list[str], Field(min_length=1)]


class TrainingTerms(Body):
    """How to train a better tower."""

    steps: Annotated[int, Query(ge=1, le=1_000_000)] | None = None
    time_budget: Annotated[float, Query(gt=0)] | None = None  # seconds
    scratch: bool = False
    without: list[Name] = Field(default_factory=list)


def routes(served: Galleries, access: Access, trainings: Trainings) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["gallery"])
    read, write = served.read, served.write
    ask, enroll, admin = ([Depends(access.may(role))] for role in ("ask", "enroll", "admin"))

    @router.get("/gallery", dependencies=ask)
    def gallery(request: Request) -> dict[str, Any]:
        """Return the gallery at a glance: the facts of `sidx status`."""
        with read.reading() as state:
            row, outlook, learned = state.active, state.outlook(), state.threshold(None)
            settings = state.settings
            return {
                "name": Path(str(served.path)).name,
                "version": __version__,
                "revision": state.revision[0],
                "identities": settings.identities,
                "samples": sum(identity.samples for identity in state.store.identities()),
                "tower": row.sha256,
                "takes": "pictures" if row.has_network else "vectors",
                "dimension": row.dimension,
                "threshold": learned.tau,
                "target_fpir": settings.target_fpir,
                "promised": learned.evidence.promised,
                "missing_strangers": learned.evidence.missing,
                "misses": outlook.misses,
                "mated_searches": outlook.mated,
                "suspects": len(outlook.suspects),
                "strict": settings.strict,
                "log": settings.log,
                "read_only": access.read_only,
                "role": access.role(request),
                "says": describe.evidence(learned.evidence, enrolled=settings.identities > 0),
            }

    # -- the operating point ----------------------------------------------------------------------

    @router.get("/operating-point", dependencies=ask)
    def operating_point() -> dict[str, Any]:
        """Return the threshold, what it rests on, what other targets would cost, and the distances of searches."""
        return _operating_point(read)

    @router.put("/operating-point", dependencies=admin)
    def set_operating_point(wanted: Target) -> dict[str, Any]:
        """Set the target, and how it is decided; the threshold is learned anew."""
        if wanted.strict is not None:
            write.set_strict(wanted.strict)
        if wanted.target_fpir is not None or wanted.fusion is not None or wanted.confidence is not None:
            write.calibrate(fpir=wanted.target_fpir, fusion=wanted.fusion, confidence=wanted.confidence)
        return _operating_point(write)

    # -- audit and evaluation ---------------------------------------------------------------------

    @router.get("/audit", dependencies=enroll)
    def audit() -> dict[str, Any]:
        """Examine what is enrolled; each finding has an id, and how the error rates would move without it."""
        found = read.audit()
        told = {key: getattr(found, key) for key in ("threshold", "fnir", "mated", "fpir", "strangers")}
        return {**told, "findings": [finding.to_dict() for finding in found.findings]}

    @router.post("/audit", dependencies=enroll)
    def apply_findings(wanted: Findings) -> dict[str, Any]:
        """Carry out what findings propose, as one change."""
        found = {finding.id: finding for finding in read.audit().findings}
        lost = next((each for each in wanted.findings if each not in found), None)
        if lost is not None:
            raise Outdated(f"There is no finding {lost!r}, or not any more.", remedy="Examine it again.")
        before = write.outlook()
        done = write.curation.apply([found[each] for each in dict.fromkeys(wanted.findings)])
        return {"done": done, "change": describe.change(before, write.outlook())}

    @router.post("/evaluations", dependencies=ask)
    async def evaluate(request: Request, fpir: Annotated[float | None, Query(ge=LEAST, lt=1)] = None) -> dict[str, Any]:
        """Count errors on the pictures of a form. The names of its parts say whom they show; who is not enrolled is a
        stranger.
        """
        from starlette.datastructures import UploadFile

        from siamese_index.analysis.evaluation import evaluate as counted

        async with form_of(request, MOST * MOST) as form:
            files = [(name, each) for name, each in form.multi_items() if isinstance(each, UploadFile)]
            items = [(name, NamedSample(await each.read(), each.filename or name)) for name, each in files]
        if not items:
            raise Refused(
                400, "no_picture", "There is no picture in the request.", "Name each part after whom it shows."
            )
        found = await asyncio.to_thread(counted, read, items, fpir=fpir)
        return found.to_dict()

    @router.get("/health", dependencies=ask)
    def health() -> dict[str, Any]:
        """Return what is wrong with the files of the gallery (the findings of `sidx doctor`), and whether those who ask
        still look like the strangers that the threshold was learned from.
        """
        from siamese_index.analysis.doctor import examine
        from siamese_index.analysis.log_check import check_log

        found, asked = examine(served.path), check_log(read)
        return {
            "facts": found.facts,
            "problems": [{"what": hidden(f.what, served.path), "fixable": f.fixable} for f in found.findings],
            "drift": {**asdict(asked), "says": describe.drift(asked)},
        }

    # -- history ----------------------------------------------------------------------------------

    @router.get("/history", dependencies=ask)
    def history(limit: Annotated[int, Query(ge=1, le=10_000)] = 50) -> list[HistoryRow]:
        """Return the changes of the gallery, the newest first."""
        return read.curation.history(limit)

    @router.post("/undo", dependencies=admin)
    def undo(
        count: Annotated[int, Query(ge=1, le=1000)] = 1,
        revision: Annotated[Row | None, Query(description="Only if this is still the newest change.")] = None,
    ) -> list[HistoryRow]:
        """Take back the newest changes that hold, one by one."""
        return write.curation.undo(count, newest=revision)

    @router.post("/redo", dependencies=admin)
    def redo() -> HistoryRow:
        """Take back the last undo, if nothing was changed since."""
        return write.curation.redo()

    # -- towers and trainings ---------------------------------------------------------------------

    @router.get("/towers", dependencies=ask)
    def towers() -> list[dict[str, Any]]:
        """Return the towers of the gallery in the order they came, with the figures they were judged by."""
        return [
            {
                "tower": row.sha256,
                "active": active,
                "dimension": row.dimension,
                "takes_pictures": row.has_network,
                "learned_from": len(row.card.training.identities),
                "held_out": row.card.held_out,
                "report": row.report,
            }
            for row, active in read.towers()
        ]

    @router.post("/towers/rollback", dependencies=admin)
    def rollback() -> dict[str, Any]:
        """Go back to the tower before the active one."""
        return {"tower": write.rollback()}

    @router.post("/towers/{tower}/promotion", dependencies=admin)
    def promote(tower: str) -> Count:
        """Make a stored tower active; the count is of samples that it had to embed."""
        return Count(count=write.promote(tower))

    @router.get("/trainings", dependencies=ask)
    def all_trainings() -> list[dict[str, Any]]:
        """Return the trainings since the service was started, the newest first."""
        return [job.to_dict() for job in trainings.all()]

    @router.post("/trainings", dependencies=admin, status_code=202)
    def start_training(terms: TrainingTerms, response: Response) -> dict[str, Any]:
        """Train a better tower from what is enrolled. It waits as a candidate until it is promoted."""
        given = {key: value for key, value in terms.model_dump().items() if value not in (None, [], False)}
        job = trainings.start(given)
        response.headers["Location"] = f"/api/v1/trainings/{job.id}"
        return job.to_dict()

    @router.get("/trainings/{job}", dependencies=ask)
    def training(job: str) -> dict[str, Any]:
        """Return how far a training is."""
        return trainings.job(job).to_dict()

    @router.get(
        "/trainings/{job}/events",
        dependencies=ask,
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    def events(job: str) -> StreamingResponse:
        """Return the events of a training as they come (server-sent events), from its beginning."""
        trainings.job(job)
        told: AsyncIterator[str] = trainings.events(job)
        return StreamingResponse(told, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @router.delete("/trainings/{job}", dependencies=admin)
    def cancel_training(job: str) -> dict[str, Any]:
        """Ask a training to end; nothing of it is stored."""
        return trainings.cancel(job).to_dict()

    @router.post("/backups", dependencies=admin, status_code=201)
    def backup(removed: bool = True, pictures: bool = True) -> dict[str, Any]:
        """Write a copy of the gallery beside it, also while it is in use."""
        if not isinstance(served.path, Path):
            raise Missing("A gallery on a server is backed up where there is a disk.", remedy="sidx backup FILE -g …")
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        path = served.path.with_name(f"{served.path.name}.{stamp}.backup")
        write.backup(path, removed=removed, pictures=pictures)
        return {"file": path.name, "bytes": path.stat().st_size, "revision": write.revision}

    return router


def _operating_point(gallery: Gallery) -> dict[str, Any]:
    with gallery.reading() as state:
        learned, outlook, searches = state.threshold(None), state.outlook(), state.searches
        settings = state.settings
    low, high = share_interval(outlook.misses, outlook.mated)
    return {
        "threshold": learned.tau,
        "target_fpir": settings.target_fpir,
        "fusion": settings.fusion,
        "confidence": settings.confidence,
        "strict": settings.strict,
        "evidence": asdict(learned.evidence),
        "misses": outlook.misses,
        "mated_searches": outlook.mated,
        "fnir_interval": [low, high],
        "says": describe.evidence(learned.evidence, enrolled=settings.identities > 0),
        "suspects": [describe.suspicion(pair) for pair in outlook.suspects],
        "non_mated": _some(searches.distances),
        "mated": _some(searches.genuine),
        "others": [asdict(point) for point in operating_points(gallery, TARGETS)],
    }


def _some(distances: NDArray[np.float64]) -> dict[str, Any]:
    """Return how many distances there are, and so many of them, evenly spread, that they can be drawn and counted."""
    ordered = np.sort(distances[np.isfinite(distances)])
    at = np.linspace(0, len(ordered) - 1, min(CURVE, len(ordered))).round().astype(np.int64)
    return {"count": len(ordered), "distances": [round(float(each), 4) for each in ordered[at]]}
