"""Do those who ask still look like the strangers that the threshold was learned from?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .learning import at_least

LEAST = 20  # unknown answers, and strangers, below which nothing is judged
SURE = 0.001  # how improbable the answers must be


@dataclass(frozen=True)
class Drift:
    """How many of the answers that named nobody lie nearer than half of the strangers beyond the threshold do."""

    unknown: int  # answers beyond the threshold
    strangers: int  # searches by strangers beyond the threshold
    near: int  # unknown answers nearer than the median of these
    probability: float | None  # of so many or more, were those who ask like the strangers; None: too few to judge
    alarm: bool


def drift(asked: NDArray[np.float64], strangers: NDArray[np.float64], tau: float | None) -> Drift:
    """Compare nearest distances of probes (n,) and of strangers (m,) beyond a threshold: a binomial test at 0.001.

    An alarm means that those who ask lie nearer to the enrolled than the strangers: more of them are let in than was
    promised, or more of the enrolled are missed.
    """
    beyond = -1.0 if tau is None else tau
    unknown, foreign = asked[asked > beyond], np.sort(strangers[strangers > beyond])
    if tau is None or min(len(unknown), len(foreign)) < LEAST:
        return Drift(len(unknown), len(foreign), 0, None, False)
    near = int(np.sum(unknown < foreign[len(foreign) // 2]))
    # The median is itself measured: it may be as far from the half as chance takes it.
    half = min(0.9, 0.5 + 1.645 * math.sqrt(0.25 / len(foreign)))
    probability = at_least(near, len(unknown), half)
    return Drift(len(unknown), len(foreign), near, probability, probability < SURE)
