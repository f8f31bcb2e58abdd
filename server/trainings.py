"""Trainings as jobs: one at a time, with events that can be listened to, and an end that can be asked for."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from siamese_index import Missing, SiameseIndexError
from siamese_index.training import Retraining, retrain

from .problems import Refused, of_error, without_place

KEPT = 20  # jobs that are remembered
LOOKED_EVERY = 0.2  # seconds
QUIET = 15.0  # seconds after which a listener is told that the job goes on
JobState = Literal["running", "done", "failed", "cancelled"]


class _Cancelled(Exception):
    """Ends a training: its process is stopped, nothing is stored."""


@dataclass
class Job:
    """A retraining: how far it is, and what it made."""

    id: str
    state: JobState
    began: str
    settings: dict[str, Any]
    ended: str | None = None
    tower: str | None = None  # the candidate
    comparison: dict[str, Any] | None = None  # with the active tower
    problem: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)
    cancel: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object, with the last event."""
        row = asdict(self)
        del row["events"], row["cancel"]
        return {**row, "last": self.events[-1] if self.events else None}


class Trainings:
    """The trainings of a service."""

    def __init__(self, gallery: str, alone: bool) -> None:
        self._gallery, self._alone, self._jobs = gallery, alone, dict[str, Job]()
        self._one = threading.Lock()

    def all(self) -> list[Job]:
        """Return the trainings, the newest first. Raises Refused in one of several processes."""
        self._refuse_many()
        return [*self._jobs.values()][::-1]

    def job(self, id_: str) -> Job:
        """Return a training. Raises Missing."""
        self._refuse_many()
        if id_ not in self._jobs:
            raise Missing(f"There is no training {id_!r}.", remedy="See: GET /api/v1/trainings")
        return self._jobs[id_]

    def start(self, settings: dict[str, Any]) -> Job:
        """Begin a retraining. Raises Refused while another one runs."""
        self._refuse_many()
        with self._one:
            if any(job.state == "running" for job in self._jobs.values()):
                raise Refused(409, "running", "A training runs already.", "Wait for it, or cancel it.")
            job = Job(secrets.token_hex(4), "running", _now(), settings)
            self._jobs[job.id] = job
            while len(self._jobs) > KEPT:
                del self._jobs[next(iter(self._jobs))]
        threading.Thread(target=self._run, args=(job,), name=f"training {job.id}", daemon=True).start()
        return job

    def cancel(self, id_: str) -> Job:
        """Ask a training to end. Its process is stopped within seconds; the active tower stays. Raises Missing."""
        job = self.job(id_)
        job.cancel = True
        return job

    async def events(self, id_: str) -> AsyncIterator[str]:
        """Yield the events of a training from its beginning as server-sent events, until it ends. Raises Missing."""
        job, told, quiet = self.job(id_), 0, 0.0
        while True:
            ended, fresh = job.state != "running", job.events[told:]
            for each in fresh:
                told += 1
                yield f"id: {told}\nevent: progress\ndata: {json.dumps(each)}\n\n"
            if ended:
                yield f"event: {job.state}\ndata: {json.dumps(job.to_dict())}\n\n"
                return
            quiet = 0.0 if fresh else quiet + LOOKED_EVERY
            if quiet >= QUIET:
                quiet = 0.0
                yield ": it goes on\n\n"
            await asyncio.sleep(LOOKED_EVERY)

    def _refuse_many(self) -> None:
        if not self._alone:
            raise Refused(
                501,
                "one_process",
                "A service of several processes trains nothing.",
                "sidx retrain, or leave out --workers.",
            )

    def close(self) -> None:
        """Ask what runs to end."""
        for job in self._jobs.values():
            job.cancel = True

    def _run(self, job: Job) -> None:
        def tell(said: dict[str, Any]) -> None:
            if job.cancel:
                raise _Cancelled
            job.events.append(_plain(said))

        made: Retraining | None = None
        state: JobState = "failed"
        try:
            made = retrain(self._gallery, on_progress=tell, **job.settings)
            job.tower, job.comparison, state = made.tower, made.comparison, "done"
        except _Cancelled:
            state = "cancelled"
        except SiameseIndexError as error:
            job.problem = of_error(without_place(error, self._gallery)).model_dump()
        except Exception as error:  # noqa: BLE001  # it is told to whoever listens, and does not end the service
            job.problem = {"detail": f"{type(error).__name__} in the training."}
        job.ended, job.state = _now(), state


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what a page does not need: lists of files."""
    return {key: value for key, value in said.items() if isinstance(value, (str, int, float, bool, type(None)))}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
