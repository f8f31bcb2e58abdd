"""The gallery as the service has it open: once to ask, once to read, once to write, so that none waits for another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from siamese_index import Decision, Gallery, Refusal
from siamese_index.samples.images import NamedSample
from siamese_index.thresholds.question import Asked
from siamese_index.towers.tower import BATCH

from .problems import Refused

WAITING = 128  # pictures of all requests that wait for the tower; beyond it 429
Answers = list[Decision | Refusal]  # of one picture
Told = Callable[[Sequence[Decision], float | None], None]


@dataclass(frozen=True)
class _Request:
    pictures: Sequence[NamedSample]
    asked: Asked
    done: Future[list[Answers]]


class Galleries:
    """One gallery, open three times. Whoever writes takes turns; whoever asks is answered with others, in batches."""

    def __init__(self, path: str | Path, told: Sequence[Told] = ()) -> None:
        """`told` are called with answers, and the seconds that they took, None for those of a visit."""
        self._told = told
        with contextlib.ExitStack() as opened:
            self.ask, self.read, self.write = (opened.enter_context(Gallery.open(path)) for _ in range(3))
            self._opened = opened.pop_all()
        self.path = self.read.path
        self._requests: deque[_Request] = deque()
        self._some, self._closed, self.waiting = threading.Condition(), False, 0  # pictures that wait for an answer
        self._asker = threading.Thread(target=self._answer, name="asker", daemon=True)
        self._asker.start()

    def close(self) -> None:
        """Answer who waits, and close."""
        with self._some:
            self._closed = True
            self._some.notify()
        self._asker.join(30)
        self._opened.close()

    async def identify(self, pictures: Sequence[NamedSample], asked: Asked) -> list[Answers]:
        """Return the answers of each picture. Raises Refused when too many wait, and what `Gallery.identify` does."""
        with self._some:
            if self.waiting and self.waiting + len(pictures) > WAITING:
                raise Refused(429, "too_many", f"{self.waiting} pictures wait for an answer.", Retry_After="1")
            request = _Request(pictures, asked, Future())
            self._requests.append(request)
            self.waiting += len(pictures)
            self._some.notify()
        began = time.perf_counter()
        try:
            found = await asyncio.wrap_future(request.done)
            decisions = [each for answers in found for each in answers if isinstance(each, Decision)]
            self.tell(decisions, time.perf_counter() - began)
            return found
        finally:
            with self._some:
                self.waiting -= len(pictures)

    def tell(self, decisions: Sequence[Decision], seconds: float | None) -> None:
        """Tell those who count or publish answers."""
        for told in self._told:
            told(decisions, seconds)

    def _answer(self) -> None:
        while requests := self._next():
            asking = [request for request in requests if request.done.set_running_or_notify_cancel()]
            try:
                pictures = [picture for request in asking for picture in request.pictures]
                answers = iter(list(self.ask.identify_each(pictures, **requests[0].asked)))
                for request in asking:
                    request.done.set_result([next(answers) for _ in request.pictures])
            except Exception as error:  # noqa: BLE001  # it is whoever asked who has to hear of it
                for request in asking:
                    if not request.done.done():
                        request.done.set_exception(error)

    def _next(self) -> list[_Request]:
        """Wait; return the first request with those behind it of the same question, to a batch; none at the end."""
        with self._some:
            self._some.wait_for(lambda: self._requests or self._closed)
            found: list[_Request] = []
            size = 0
            while self._requests and (not found or (size < BATCH and self._requests[0].asked == found[0].asked)):
                found.append(self._requests.popleft())
                size += len(found[-1].pictures)
            return found
