"""Pictures embedded by the workers of a Dask cluster: in order, each once, whoever of them dies."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from siamese_index._package import __version__
from siamese_index.errors import BadInput, Damaged, Missing, NotInstalled, SiameseIndexError

from .card import Card
from .embedding import Embedded, embedded, prepared
from .tower import Tower
from .tower_file import TowerFile

PICTURES = 32  # per task: what a lost worker has to do again
PATIENCE = 60.0  # seconds without a worker before it is an error
_AHEAD = 4  # tasks per worker that wait at most


class Workers:
    """A connection to a Dask scheduler (tcp://host:8786). Close it, or use it with `with`."""

    def __init__(self, address: str, file: TowerFile, tower: Tower) -> None:
        """Raises NotInstalled, Missing when nobody answers, BadInput for workers of another version."""
        try:
            from distributed import Client
        except ImportError as error:
            raise NotInstalled(
                "Workers need Dask.", f"{error}.", "In the folder of its source: pip install '.[dask]'"
            ) from None
        try:
            connect: Any = Client
            self._client = connect(address, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise Missing(
                f"{address}: no Dask scheduler answers.", f"{str(error).splitlines()[0]}.", "Start one: dask scheduler"
            ) from None
        try:
            self._tower, self._address = tower.id, address
            self._wait_for_workers()
            self._same_version()
            # Sent once to each worker, which opens it by its hash.
            self._content = self._client.scatter(
                (file.onnx, tower.card.to_dict(), file.detector), broadcast=True, hash=True
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster as it was."""
        self._client.close()

    def embed(self, samples: Iterable[bytes], floor: Mapping[str, float]) -> Iterator[Embedded | SiameseIndexError]:
        """Embed samples there, in order; the error of each that cannot be read, or is below the floor."""
        waiting, begun = iter(samples), deque[Any]()
        while True:
            at_once = _AHEAD * max(1, len(self._client.nthreads()))
            while len(begun) < at_once and (batch := list(itertools.islice(waiting, PICTURES))):
                # A task whose worker died is simply done again: what it yields depends on its bytes alone.
                begun.append(self._client.submit(_embed, self._tower, self._content, batch, dict(floor), pure=False))
            if not begun:
                return
            yield from self._result(begun.popleft())

    def _result(self, task: Any) -> list[Embedded | SiameseIndexError]:
        from distributed import TimeoutError as TooLate

        while True:
            try:
                found: list[Embedded | SiameseIndexError] = task.result(timeout=PATIENCE)
                return found
            except TooLate:
                self._wait_for_workers()  # raises when there is none; else they are merely slow
            except SiameseIndexError:
                raise
            except Exception as error:
                raise Missing(
                    f"{self._address}: the workers failed.",
                    f"{type(error).__name__}: {str(error).splitlines()[0]}",
                    "What was enrolled so far is kept: run the same command again.",
                ) from error

    def _wait_for_workers(self) -> None:
        from distributed import TimeoutError as TooLate

        try:
            self._client.wait_for_workers(1, timeout=PATIENCE)
        except TooLate:
            raise Missing(
                f"{self._address}: there are no workers.",
                f"Waited {PATIENCE:.0f} s.",
                f"Start some: dask worker {self._address}",
            ) from None

    def _same_version(self) -> None:
        for worker, version in self._client.run(_version).items():
            if version != __version__:
                raise BadInput(
                    f"{worker} has siamese-index {version or 'not installed'}; here is {__version__}.",
                    "Vectors of two versions may differ.",
                    f"On the worker: pip install siamese-index=={__version__}",
                )


def _version() -> str:
    return __version__


def _embed(
    tower: str, content: tuple[bytes, dict[str, Any], bytes | None], batch: list[bytes], floor: dict[str, float]
) -> list[Embedded | SiameseIndexError]:
    """Run by a worker."""
    if tower not in _opened:
        file = TowerFile(content[0], None, Card.parse(content[1]), detector=content[2])
        if file.id != tower:
            raise Damaged("The tower that reached this worker is not the one that was sent.")
        _opened.clear()
        _opened[tower] = Tower.of(file)
    opened = _opened[tower]
    return list(embedded(opened, [prepared(opened, sample, floor) for sample in batch]))


_opened: dict[str, Tower] = {}  # in a worker: the one that it serves, by its hash
