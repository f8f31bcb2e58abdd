"""What a gallery holds, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from siamese_index.towers.card import Card

Fusion = Literal["best", "mean", "best-two"]


class NewSample(NamedTuple):
    """A sample on its way in: enrolled, or of a stranger."""

    name: str
    digest: bytes  # SHA-256
    source: str
    kept: bytes | None  # the picture as the gallery keeps it


@dataclass(frozen=True, slots=True)
class IdentityRow:
    id: int
    name: str
    samples: int
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class SampleRow:
    id: int
    identity: str
    source: str
    digest: str  # SHA-256 of the sample as it came in, hexadecimal
    kept: bool  # whether the gallery holds the picture
    enrolled: str  # UTC time, for people; order comes from ids


@dataclass(frozen=True, slots=True)
class TowerRow:
    id: int
    sha256: str
    dimension: int
    card: Card
    report: dict[str, Any] | None  # the comparison with the tower that was active when this one was made
    has_network: bool  # False: vectors of an embedder outside


@dataclass(frozen=True, slots=True)
class StrangerRow:
    """A sample of somebody who is not enrolled, by the active tower."""

    id: int
    name: str
    source: str  # "given" by the user, or brought by the "tower"
    added: str  # when, UTC
    kept: bool  # whether its picture is kept
    state: str  # "counts", "removed", "enrolled as NAME", "looks like NAME: set aside"
    nearest: str | None  # the nearest identity
    distance: float | None  # to it


@dataclass(frozen=True, slots=True)
class GallerySettings:
    """What the gallery was told, and has learned."""

    tower: int | None  # the active tower's row id
    target_fpir: float
    keep_pictures: bool
    fusion: Fusion
    log: bool  # whether answers are kept
    confidence: float | None  # that the target is kept; None: it is kept on average
    strict: bool  # a match that its evidence does not support is unknown
    shift: bool  # whether the threshold moves with the probe
    identities: int  # how many are enrolled
    sha256: str | None  # of the active tower
