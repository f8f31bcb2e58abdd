"""What is asked of each probe, and on what terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from siamese_index.errors import BadInput
from siamese_index.samples.names import Tags, clean_name, clean_tags

LEAST = 1e-9  # of a share: fewer than one stranger in so many nobody can promise


class Asked(TypedDict, total=False):
    """The options of a question, as keyword arguments: `Question` says what they mean."""

    k: int
    fpir: float | None
    threshold: float | None
    exact: bool
    tags: Tags
    strict: bool
    largest: bool
    exclude: Sequence[str]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each probe. Raises BadInput for a question that has no answer."""

    k: int = 5  # candidates to list
    fpir: float | None = None  # share of strangers that may match, instead of the gallery's
    threshold: float | None = None  # a distance (0..2) instead of a learned one
    exact: bool = False  # also candidates on which the verdict does not depend
    tags: tuple[tuple[str, str], ...] = ()  # only identities that have all of these
    strict: bool = False  # a match that its evidence does not support is unknown
    largest: bool = False  # of several subjects in a picture only the largest
    exclude: tuple[str, ...] = ()  # enrolled names that are not searched

    @classmethod
    def of(cls, asked: Asked) -> Question:
        """Return the question with these options."""
        excluded = asked.get("exclude", ())
        if isinstance(excluded, str):
            raise BadInput(f"exclude cannot be {excluded!r}.", "Expected a list of names.")
        options: dict[str, Any] = {
            **asked,
            "tags": clean_tags(asked.get("tags")),
            "exclude": tuple(sorted({clean_name(name) for name in excluded})),
        }
        return cls(**options)

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int):
            raise BadInput(f"k cannot be {self.k!r}.", "Expected 1 to 1000.")
        for name in ("fpir", "threshold"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float, np.number))):
                raise BadInput(f"{name} cannot be {value!r}.", "Expected a number.")
        for name in ("exact", "strict", "largest"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise BadInput(f"{name} cannot be {getattr(self, name)!r}.", "Expected True or False.")
        if not 1 <= self.k <= 1000:
            raise BadInput(f"{self.k} candidates cannot be listed.", "Expected 1 to 1000.")
        if self.fpir is not None and self.threshold is not None:
            raise BadInput("--fpir and --threshold exclude each other.", "One derives the distance, the other sets it.")
        if self.fpir is not None:
            share(self.fpir)
        if self.threshold is not None:
            object.__setattr__(self, "threshold", float(self.threshold))  # numpy's own cannot be written as JSON
        if self.threshold is not None and not 0 <= self.threshold <= 2:
            raise BadInput(f"{self.threshold} is not a distance between unit vectors.", "Expected 0 to 2.")


def share(value: float) -> float:
    """Return `value` if it lies between LEAST and 1. Raises BadInput."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not LEAST <= value < 1:
        raise BadInput(f"{str(value)[:60]!s} is not a share.", f"Expected {LEAST:g} and more, below 1, such as 0.01.")
    return float(value)
