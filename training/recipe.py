"""A recipe: which tower, fed how, with which loss. A small TOML file, and the place to add one's own."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from siamese_index import BadInput, Missing, SiameseIndexError, Unreadable
from siamese_index.files import refused
from siamese_index.samples import images
from siamese_index.samples.augment import Jitter
from siamese_index.samples.framing import FRAMES
from siamese_index.samples.items import Item, Items
from siamese_index.vectors import unpack

from .losses import GRADED, ON_COSINES, ON_PAIRS, ON_VECTORS
from .towers import BUILDERS, OF_ANY

FOLDER = Path(__file__).parent / "recipes"
MINIMUM_IDENTITIES = 4
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class Input:
    """What the tower takes; None and "auto" are chosen from the data."""

    size: int | None = None  # the longer side in pixels
    square: bool = False  # when the pictures nearly are: they can be turned
    colour: str = "auto"  # auto, grey or colour
    frame: str = "whole"  # or strokes: a window around what is drawn, in which small drawings are larger


@dataclass(frozen=True)
class Feeding:
    """What a batch is made of."""

    by: str = "identities"  # identities, pairs or triplets
    batch: int = 64  # pictures
    samples: int = 1  # of each identity in a batch of identities
    genuine: float = 0.5  # the share of genuine pairs in a batch of pairs
    hard: float = 0.0  # the share of a batch's identities that are taken for others easily; on a network (--from)
    classes: int = 1  # 4: a picture turned by a quarter is of another identity; 8: mirrored too; 2: mirrored


@dataclass(frozen=True)
class Fit:
    """How the weights are found: AdamW with warm-up and cosine decay."""

    steps: int | None = None  # None: `passes` times through the pictures, within 300 to `most`
    passes: int = 60
    most: int = 2500
    rate: float = 2e-3  # the highest learning rate
    weight_decay: float = 0.02
    warm_up: float = 0.05  # the share of the steps in which the rate rises
    average: float = 0.998  # a step's share that remains of the moving average of weights; 0: none
    rounds: int = 20  # how often the held-out identities are looked at
    tolerance: float = 1.0  # standard errors by which a later moment may be worse than the best
    patience: int = 10  # rounds without a better FNIR after which it stops
    frozen: float = 0.0  # the share of the steps in which a pretrained backbone is left as it is
    precision: str = "auto"  # auto: mixed_float16 on a GPU; float32, mixed_float16, mixed_bfloat16


@dataclass(frozen=True)
class Recipe:
    """How to train one kind of tower."""

    name: str
    about: str
    tower: dict[str, Any] = field(default_factory=lambda: {"name": "resnet"})  # name, options of `towers`
    loss: dict[str, Any] = field(default_factory=lambda: {"name": "cosface"})  # name, options of `losses`
    input: Input = Input()
    feeding: Feeding = Feeding()
    augment: Jitter = field(default_factory=Jitter)
    fit: Fit = Fit()

    def to_dict(self) -> dict[str, Any]:
        """Return what `parse` takes: a tower's card holds it."""
        return asdict(self)


def named(recipe: str) -> Recipe:
    """Return the recipe of that name, or of a .toml file. Raises Missing or BadInput."""
    path = path_of(recipe)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refused(path, error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a TOML file.", str(error)) from None
    return parse({"name": path.stem, **content}, str(path))


def path_of(recipe: str) -> Path:
    """Return the file of a recipe by name, or the .toml file that it is. Raises Missing."""
    if recipe.endswith(".toml"):
        return Path(recipe)
    if recipe not in names():
        raise Missing(
            f"There is no recipe {recipe!r}.", f"There are {', '.join(names())}.", "Or give a file: --recipe mine.toml"
        )
    return FOLDER / f"{recipe}.toml"


def names() -> list[str]:
    """Return the names of the recipes that come with the program."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def parse(content: dict[str, Any], where: str = "recipe") -> Recipe:
    """Return the recipe in a table. Raises BadInput naming what is not known, or of the wrong type."""
    content = {"about": "", **content}
    sections = {"input": Input, "feeding": Feeding, "augment": Jitter, "fit": Fit}
    _refuse_unknown(content, [f.name for f in fields(Recipe)], where)
    made = {}
    for key, value in content.items():
        if key in sections and isinstance(value, dict):
            made[key] = _section(sections[key], value, f"{where}: [{key}]")
        elif isinstance(value, dict if key in ("tower", "loss") or key in sections else str):
            made[key] = value
        else:
            raise BadInput(f"{where}: {key} is {value!r}.", "Expected a table." if key != "about" else "Expected text.")
    for key in ("tower", "loss"):
        if not isinstance(made.get(key, {"name": ""}).get("name"), str):
            raise BadInput(
                f"{where}: [{key}] has no name.", f'Such as name = "{"resnet" if key == "tower" else "cosface"}"'
            )
    recipe = Recipe(**made)
    _refuse_impossible(recipe, where)
    return recipe


def _section(kind: type, values: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    _refuse_unknown(values, list(known), where)
    for key, value in values.items():
        default = known[key].default
        wanted = (int, type(None)) if default is None else (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(default, bool)):
            raise BadInput(f"{where} {key} is {value!r}.", f"Expected something like {default!r}.")
    return kind(**values)


def _refuse_options(function: Callable[..., Any], options: dict[str, Any], what: str) -> None:
    """Raise BadInput naming an option that a function does not take, or that is of another type than its default."""
    known = {p.name: p.default for p in inspect.signature(function).parameters.values() if p.default is not p.empty}
    for key, value in options.items():
        if key not in known:
            raise BadInput(f"{what} has no {key!r}.", f"It takes {', '.join(known) or 'none'}.")
        default = known[key]
        wanted: Any = (int, float) if isinstance(default, float) else type(default)
        right = isinstance(value, wanted) and (isinstance(value, bool) == isinstance(default, bool))
        if isinstance(default, (tuple, list)):
            right = isinstance(value, (tuple, list)) and all(isinstance(each, int) for each in value)
            default = list(default)
        if not right:
            raise BadInput(f"{what}: {key} is {value!r}.", f"Expected something like {default!r}.")


def _refuse_unknown(values: dict[str, Any], known: list[str], where: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise BadInput(f"{where}: {unknown[0]!r} is not known.", f"Known: {', '.join(known)}.")


def _refuse_impossible(recipe: Recipe, where: str) -> None:
    feeding, fit = recipe.feeding, recipe.fit
    rules = [
        (feeding.by in ("identities", "pairs", "triplets"), "[feeding] by is identities, pairs or triplets"),
        (recipe.input.colour in ("auto", "grey", "colour"), "[input] colour is auto, grey or colour"),
        (recipe.input.frame in FRAMES, f"[input] frame is {' or '.join(FRAMES)}"),
        (recipe.input.size is None or 8 <= recipe.input.size <= 1024, "[input] size is 8 to 1024"),
        (2 <= feeding.batch <= 65536, "[feeding] batch is 2 to 65536"),
        (1 <= feeding.samples <= feeding.batch, "[feeding] samples is 1 to batch"),
        (0 < feeding.genuine <= 1, "[feeding] genuine is above 0, at most 1"),
        (0 <= feeding.hard <= 0.5, "[feeding] hard is 0 to 0.5"),
        (feeding.classes in (1, 2, 4, 8), "[feeding] classes is 1, 2, 4 or 8"),
        (fit.steps is None or fit.steps >= 1, "[fit] steps is at least 1"),
        (fit.rate > 0 and fit.weight_decay >= 0, "[fit] rate is above 0, weight_decay at least 0"),
        (all(0 <= s < 1 for s in (fit.average, fit.warm_up, fit.frozen)), "[fit] average, warm_up, frozen: 0 … 1"),
        (fit.tolerance >= 0, "[fit] tolerance is at least 0"),
        (fit.rounds >= 1 and fit.patience >= 1, "[fit] rounds and patience are at least 1"),
        (fit.precision in PRECISIONS, f"[fit] precision is one of {', '.join(PRECISIONS)}"),
    ]  # fmt: skip
    loss = recipe.loss["name"]
    functions = ON_VECTORS | ON_COSINES | GRADED
    for table, known, others in ((recipe.tower, BUILDERS, (*OF_ANY, "normalise")), (recipe.loss, functions, ("name",))):
        if table["name"] in known:
            options = {key: value for key, value in table.items() if key not in others}
            _refuse_options(known[table["name"]], options, f"{where}: {table['name']}")
    if loss in ON_VECTORS:  # it compares within the batch, so that must hold what it compares
        rules += [
            (feeding.by != "identities" or feeding.samples > 1, f"the loss {loss} wants [feeding] samples above 1"),
            (feeding.by != "pairs" or loss in ON_PAIRS, f"the loss {loss} cannot be fed by pairs"),
            (feeding.by == "identities" or loss != "circle", "the loss circle wants [feeding] by identities"),
        ]
    for holds, rule in rules:
        if not holds:
            raise BadInput(f"{where}: this cannot be.", f"{rule}.")


# -- choosing ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A recipe for certain data, the shape of its tower's input, and why."""

    recipe: Recipe
    shape: tuple[int, ...]  # (height, width, channels) of pictures, or (d,) of vectors
    why: tuple[str, ...]


def choose(
    items: Items, wanted: Recipe | None, size: int | None = None, *, pairs: bool = False, graded: bool = False
) -> Choice:
    """Look at a sample of the data and choose what `wanted` leaves open; all of it when it is None.

    `pairs`: they come as a list of pairs; `graded`: whose labels say how alike they are.

    Raises BadInput or Unreadable when nothing can be learned from the data.
    """
    identities = len(set(items.names))
    if identities < MINIMUM_IDENTITIES:
        raise BadInput(
            f"{identities} {'identity' if identities == 1 else 'identities'} cannot train a tower.",
            f"At least {MINIMUM_IDENTITIES} are needed: some to learn from, some to measure with.",
            "Add some; a public data set of the same kind helps too.",
        )
    looked, vectors = _sample(items[:: max(1, len(items) // 200)])
    if vectors:
        if looked:
            raise BadInput("These are pictures and vectors.", remedy="Train a tower on one of them.")
        if size is not None:
            raise BadInput("Vectors have no size in pixels.", remedy="Leave --size out.")
        return _for_vectors(vectors, wanted)
    if pairs and wanted is None:
        name = "graded" if graded else "pairs"
        chosen = _for_pictures(looked, named(name), size)
        return replace(chosen, why=(f"They are {'graded ' if graded else ''}pairs: recipe {name}.", *chosen.why))
    return _for_pictures(looked, wanted, size)


def _sample(items: Sequence[Item]) -> tuple[list[images.Pixels], list[int]]:
    looked, vectors = [], []
    for _, sample in items:
        try:
            data = images.read(sample)
            if data[:6] == b"\x93NUMPY":
                vectors.append(len(unpack(data)))
            else:
                looked.append(images.decode(data, 3))
        except SiameseIndexError:
            continue  # counted and listed when all are read
    if not looked and not vectors:
        raise Unreadable("None of the pictures can be read.", remedy="Look at one: are they pictures?")
    return looked, vectors


def _for_vectors(lengths: list[int], wanted: Recipe | None) -> Choice:
    length = lengths[0]
    if len(set(lengths)) > 1:
        raise BadInput("The vectors have different lengths.", f"Found {sorted(set(lengths))[:5]}.")
    recipe = wanted or named("vectors")
    if recipe.tower["name"] not in ("mlp",) and ":" not in recipe.tower["name"]:
        raise BadInput(f"The recipe {recipe.name!r} is for pictures; these are vectors.", remedy="Use --recipe vectors")
    return Choice(recipe, (length,), (f"They are vectors of {length} numbers: recipe {recipe.name}.",))


def _for_pictures(looked: list[images.Pixels], wanted: Recipe | None, size: int | None) -> Choice:
    # Strokes on a plain ground: nearly every pixel is as dark or as light as it gets.
    coloured = float(np.mean([np.ptp(p.astype(np.int16), axis=2).max() > 24 for p in looked]))
    extreme = float(np.median([np.mean((p < p.min() + 40) | (p > p.max() - 40)) for p in looked]))
    ratio = float(np.median([p.shape[0] / p.shape[1] for p in looked]))
    largest = int(np.median([max(p.shape[:2]) for p in looked]))
    why = []
    if wanted is None:
        drawings = coloured <= 0.05 and extreme > 0.8
        wanted = named("drawings" if drawings else "photos")
        why.append(
            f"They look like {wanted.name}: {extreme:.0%} of a picture is as dark or as light as it gets"
            f"{', none has colour' if coloured == 0 else f', {coloured:.0%} have colour'}."
        )
    colour = wanted.input.colour == "colour" or (wanted.input.colour == "auto" and coloured > 0.05)
    usual = wanted.input.size or 64
    side = size or min(usual, max(24, largest))
    if wanted.input.square and 0.8 < ratio < 1.25:
        height = width = side
    else:
        height, width = (side, round(side / ratio)) if ratio >= 1 else (round(side * ratio), side)
    height, width = max(8, height), max(8, width)
    because = "as asked" if size else f"what {wanted.name} take" if side == usual else "the size of the pictures"
    why.append(f"{height} x {width} pixels ({because}), {'colour' if colour else 'grey'}.")
    return Choice(wanted, (height, width, 3 if colour else 1), tuple(why))
