"""Rows of a benchmark's table, and times of works that take turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def ratio(what: str, ours: Any, theirs: Any, reach: str | None) -> dict[str, Any]:
    """Return the median of the ratios of pairs, with its quartiles."""
    ratios = np.array(ours) / np.array(theirs)
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return {"what": what, "figure": float(middle), "spread": f"({low:.3g} … {high:.3g})", "reach": reach}


def row(what: str, figure: float, reach: str | None) -> dict[str, Any]:
    """Return a figure that was measured once."""
    return {"what": what, "figure": float(figure), "spread": "", "reach": reach}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def timed(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turns(works: Sequence[Callable[[Any], Any]], inputs: Sequence[Any], rest: float = 0.0) -> list[list[float]]:
    """Time several works on each input in turn: what slows the machine for a moment slows all of them.

    Between them lie `rest` seconds: as long as threads of one library spin, those of another wait.
    """
    times: list[list[float]] = [[] for _ in works]
    for given in inputs:
        for work, list_ in zip(works, times, strict=True):
            time.sleep(rest)
            list_.append(timed(lambda w=work, g=given: w(g)))
    return times
