"""Rows of a benchmark's table."""

from __future__ import annotations

import sys
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
