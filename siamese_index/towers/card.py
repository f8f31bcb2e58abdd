"""A tower's card: what it takes, what it was trained on, how good it is. Validated wherever one is read.

Its JSON is described in docs/formats.md; keys that this version does not know are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.samples.faces import Points
from siamese_index.samples.framing import ALL_FRAMES

FORMAT = 3  # since 2 a tower's id is of all that changes a vector, since 3 of the shape of its input, too
_SIDE, _NUMBERS, _VIEWS = 4096, 65536, 1024  # at most
LONGEST = 65536  # numbers of a vector


@dataclass(frozen=True, slots=True)
class TowerInput:
    """What a tower takes of each sample."""

    shape: tuple[int, ...]  # (height, width, channels) of uint8 pixels, or (d,) of float32 numbers
    frame: str = "whole"  # one of `framing.ALL_FRAMES`; of pictures alone
    views: int = 1  # of each sample (test-time augmentation): so many less samples fit into a run
    at_once: int | None = None  # how many samples a run takes at most; None: any number
    template: Points = ()  # of the frame "face": where it puts a face's five points, in pixels of its input

    @classmethod
    def parse(cls, content: Any) -> TowerInput:
        """Return the input that a card's JSON describes. Raises ValueError."""
        if not isinstance(content, dict):
            raise ValueError("its card has no input")
        if "numbers" in content:
            return cls((_count(content, "numbers", _NUMBERS),))
        height, width = (_count(content, key, _SIDE) for key in ("height", "width"))
        if type(content.get("channels")) is not int or content["channels"] not in (1, 3):
            raise ValueError(f"its card says {content.get('channels')!r} channels; 1 or 3 are possible")
        frame = content.get("frame", "whole")
        if frame not in ALL_FRAMES:
            raise ValueError(f"its card asks for the frame {frame!r}, which this version does not know")
        views = _count({"looks": 1, **content}, "looks", _VIEWS)
        at_once = _count(content, "at_once", _VIEWS) if "at_once" in content else None
        template = _points(content.get("template")) if frame == "face" else ()
        return cls((height, width, content["channels"]), frame, views, at_once, template)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `parse` takes."""
        if len(self.shape) == 1:
            return {"numbers": self.shape[0]}
        named = dict(zip(("height", "width", "channels"), self.shape, strict=True))
        further: dict[str, Any] = {"looks": self.views if self.views > 1 else None, "at_once": self.at_once}
        further["template"] = [list(point) for point in self.template] or None
        return {**named, "frame": self.frame, **{key: value for key, value in further.items() if value is not None}}


@dataclass(frozen=True)
class TrainingRecord:
    """How a tower was trained; of towers made elsewhere most is not known."""

    recipe: dict[str, Any] | None = None  # what `training.recipe.parse` takes
    why: list[str] = field(default_factory=list)  # why it was chosen, in sentences
    settings: dict[str, Any] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)  # names of those it learned from
    held_out: list[str] = field(default_factory=list)  # names of those it never saw
    chose: list[str] = field(default_factory=list)  # of these, those that chose the moment: they never judge it
    learned: str = ""  # the first 8 bytes of the SHA-256 of each sample it learned from, ascending, as base64
    samples: int = 0
    left_out: int = 0  # samples that could not be read
    data_sha256: str = ""  # over all samples, whatever their order
    steps: int = 0
    kept_from_step: int = 0
    ended: str = ""
    continued: bool = False  # whether it went on from another tower's weights
    parameters: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def and_from(self, identities: Iterable[str], digests: NDArray[np.uint8]) -> TrainingRecord:
        """Return the record of a tower that has learned from these samples, too: SHA-256 sums (n, 32)."""
        from base64 import b64decode

        before = np.zeros((0, 32), np.uint8)
        if self.learned:
            first = np.frombuffer(b64decode(self.learned), np.uint8).reshape(-1, 8)
            before = np.hstack([first, np.zeros((len(first), 24), np.uint8)])
        learned = packed(np.concatenate([before, digests]))
        names = sorted({*self.identities, *identities})
        return replace(self, identities=names, learned=learned, samples=self.samples + len(digests))

    def has_learned_from(self, digests: Iterable[bytes]) -> set[bytes]:
        """Return which samples of these (SHA-256) it learned from."""
        from base64 import b64decode

        known = np.frombuffer(b64decode(self.learned), ">u8")
        return {digest for digest in digests if _is_among(int.from_bytes(digest[:8], "big"), known)}


def packed(digests: NDArray[np.uint8], most: int = 50_000) -> str:
    """Return SHA-256 sums (n, 32) as `TrainingRecord.learned` keeps them: all, or of very many an even part."""
    from base64 import b64encode

    first = np.sort(np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0])
    return b64encode(first[:: max(1, -(-len(first) // most))].tobytes()).decode()


def _are_digests(text: str) -> bool:
    from binascii import a2b_base64

    try:
        return len(a2b_base64(text, strict_mode=True)) % 8 == 0 if text else True
    except ValueError:
        return False


def _is_among(value: int, ascending: NDArray[Any]) -> bool:
    at = int(np.searchsorted(ascending, np.uint64(value)))
    return at < len(ascending) and int(ascending[at]) == value


@dataclass(frozen=True)
class Card:
    """Everything that is known of a tower beside its network."""

    input: TowerInput
    dimension: int  # length of its vectors
    made: str = ""  # UTC
    training: TrainingRecord = field(default_factory=TrainingRecord)
    held_out: dict[str, Any] = field(default_factory=dict)  # `comparison.tower_figures` on identities it never saw
    versions: dict[str, str] = field(default_factory=dict)
    optimized: dict[str, str] | None = None  # of which tower this is a smaller one, and in which numbers
    adapted: dict[str, str] | None = None  # of which tower this is one with a whitening behind it
    tuned: dict[str, Any] | None = (
        None  # of which tower this is one with a head behind it, and how long its vectors are
    )
    imported: dict[str, Any] | None = None  # of a network made elsewhere: its file, and what was put before it
    format: int = FORMAT
    further: dict[str, Any] = field(default_factory=dict)  # keys that this version does not know

    @classmethod
    def parse(cls, content: Any) -> Card:
        """Return the card in a JSON object. Raises ValueError for one that contradicts itself."""
        if not isinstance(content, dict):
            raise ValueError("its card is not an object")
        wanted = {
            "held_out": dict,
            "versions": dict,
            "optimized": (dict, type(None)),
            "imported": (dict, type(None)),
            "adapted": (dict, type(None)),
            "tuned": (dict, type(None)),
            "made": str,
            "format": int,
        }
        _refuse_other_types(content, wanted, "card")
        if content.get("format", FORMAT) < 1:
            raise ValueError(f"its card says format {content['format']}")
        taken = content.get("input")
        if content.get("format", FORMAT) < 2 and isinstance(taken, dict) and taken.get("frame") == "face":
            raise ValueError("its frame is face, which format 1 has not")
        training = {} if content.get("training") is None else content["training"]
        if not isinstance(training, dict):
            raise ValueError("its card's training is not an object")
        known = {f.name: f for f in fields(TrainingRecord)}
        defaults = vars(TrainingRecord())
        kinds: dict[str, Any] = {
            name: (int, float) if isinstance(v, float) else type(v) for name, v in defaults.items()
        }
        kinds["recipe"] = (dict, type(None))
        _refuse_other_types(training, kinds, "card's training")
        if not _are_digests(training.get("learned", "")):
            raise ValueError("its card's training has digests that are not base64 of 8 bytes each")
        for key in ("identities", "held_out", "chose"):
            if not all(isinstance(name, str) for name in training.get(key, ())):
                raise ValueError(f"its card's training names {key} that are not text")
        ours = {f.name for f in fields(cls)} - {"further"}
        return cls(
            input=TowerInput.parse(content.get("input")),
            dimension=_count(content, "dimension", LONGEST),
            training=TrainingRecord(**{key: value for key, value in training.items() if key in known}),
            **{key: content[key] for key in wanted if key in content},
            further={key: value for key, value in content.items() if key not in ours},
        )

    @classmethod
    def of_vectors(cls, dimension: int) -> Card:
        """Return the card of an embedder outside, of which only the length of its vectors is known."""
        return cls(TowerInput((dimension,)), dimension)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `parse` takes."""
        return {
            "format": self.format,
            "input": self.input.to_dict(),
            "dimension": self.dimension,
            "made": self.made,
            "training": vars(self.training),
            "held_out": self.held_out,
            "versions": self.versions,
            **({"optimized": self.optimized} if self.optimized else {}),
            **({"imported": self.imported} if self.imported else {}),
            **({"adapted": self.adapted} if self.adapted else {}),
            **({"tuned": self.tuned} if self.tuned else {}),
            **self.further,
        }

    def with_figures(self, held_out: Mapping[str, Any]) -> Card:
        """Return the card with other figures of how good the tower is."""
        return replace(self, held_out=dict(held_out))


def _points(value: Any) -> Points:
    fine = isinstance(value, list) and len(value) == 5 and all(isinstance(p, list) and len(p) == 2 for p in value)
    numbers = [n for point in value for n in point] if fine else []
    if not numbers or not all(type(n) in (int, float) and -_SIDE < n < 2 * _SIDE for n in numbers):
        raise ValueError("its card's template is not five points")
    points = tuple((float(x), float(y)) for x, y in value)
    if float(np.asarray(points).std(axis=0).min()) < 1:
        raise ValueError("its card's template has its points in one place")
    return points


def _count(content: Mapping[str, Any], key: str, most: int) -> int:
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"its card says {key} {value!r}; 1 to {most:,} are possible")
    return value


def _refuse_other_types(content: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    for key, kind in wanted.items():
        if key in content and (not isinstance(content[key], kind) or (kind is int and isinstance(content[key], bool))):
            raise ValueError(f"its {what} has a {key} of another type: {str(content[key])[:60]!r}")
