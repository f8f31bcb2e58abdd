"""The threshold from searches too few to count: a quantile of a distribution that is fitted to them.

The nearest distance of a search is a minimum over the enrolled, and its logarithm is nearly normal with a longer
tail to the left. Measured on people, characters and drawn laws (docs/benchmarks.md); scipy is not used, since its
import takes as long as an identification.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# What is known of nearest distances before any is seen, and how many searches that knowledge is worth.
_SPREAD, _SPREAD_WORTH = 0.12, 2.0  # the standard deviation of their logarithms
_SKEWNESS, _SKEWNESS_WORTH = -0.7, 40.0  # of the minimum of twenty; -1.14 in Gumbel's limit


def quantile(distances: NDArray[np.float64], effective: float, target: float) -> float:
    """Return the distance that a share `target` of further searches is expected to fall below.

    From nearest distances (n,) above 0 that are worth `effective` independent ones, at least one. A prediction
    quantile of the normal law of their logarithms, mean + t * sd * sqrt(1 + 1/n) with Student's t (Geisser, 1993),
    corrected for skewness by Cornish and Fisher (1937). Spread and skewness are those of the sample, drawn towards
    what is usual; the skewness is never to the right.
    """
    logs = np.log(distances)
    mean, deviation, worth = float(logs.mean()), float(logs.std()), max(1.0, effective)
    freedom = worth - 1 + _SPREAD_WORTH
    spread = math.sqrt((worth * deviation**2 + _SPREAD_WORTH * _SPREAD**2) / freedom)
    skewness = float(np.mean((logs - mean) ** 3)) / max(deviation, 1e-6) ** 3
    skewness = min(0.0, (worth * skewness + _SKEWNESS_WORTH * _SKEWNESS) / (worth + _SKEWNESS_WORTH))
    z = normal_quantile(target)
    t = student_quantile(z, target, freedom) * math.sqrt(1 + 1 / worth)
    return math.exp(mean + (t + skewness * (z * z - 1) / 6) * spread)


def normal_quantile(share: float) -> float:
    """Return the standard normal quantile of a share in (0, 1)."""
    low, high = -40.0, 40.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(-middle / math.sqrt(2)) / 2 < share else (low, middle)
    return (low + high) / 2


def student_quantile(z: float, share: float, freedom: float) -> float:
    """Return Student's quantile of a share in (0, 1), whose normal quantile is `z`.

    Of two degrees of `freedom` or more: below three that of two, in closed form; then by Abramowitz & Stegun (1964),
    26.7.5.
    """
    if freedom < 3:
        return (2 * share - 1) / math.sqrt(2 * share * (1 - share))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def weibull(distances: NDArray[np.float64], beyond: float) -> tuple[float, float]:
    """Return (shape, scale) of Weibull's law for distances (n,), of which only those above `beyond` were seen.

    The distribution of minima (Fisher & Tippett, 1928). Maximum likelihood where it is cut off below: the scale in
    closed form, the shape from a grid.
    """
    seen = distances / beyond
    shapes = np.geomspace(1.0, 200.0, 200)
    logs = np.log(seen)
    powers = np.exp(np.minimum(shapes[:, None] * logs[None], 600.0)).mean(axis=1) - 1
    likelihood = np.log(shapes) - np.log(np.maximum(powers, 1e-300)) + (shapes - 1) * logs.mean()
    # A law of which little is seen can be nearly anything: drawn towards the spread of what is.
    usual = 1 / max(0.78 * float(logs.std()), 1e-3)
    likelihood -= (np.log(shapes / usual) / 0.5) ** 2 / (2 * len(distances))
    best = int(np.argmax(likelihood))
    return float(shapes[best]), float(beyond * powers[best] ** (1 / shapes[best]))
