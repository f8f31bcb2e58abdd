"""Train a tower: choose, read, split by identity, fit, measure on identities never seen, export.

The story in order; `fit` is it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Cohort, NotInstalled, Tower, TowerFile
from siamese_index import __version__ as version
from siamese_index.samples.framing import FRAMES
from siamese_index.towers.adapting import applied, whitened
from siamese_index.towers.card import Card, TowerInput, TrainingRecord, packed

from .batch_builder import BatchBuilder, Sampler, feed
from .data import Data, Duplicates, Source, framed
from .features import Features, nearest_identities
from .loop import (
    CHECKPOINT,
    Checkpoint,
    LoopSettings,
    TrainingState,
    Weights,
    refuse_collapsed,
    variables,
    watcher,
)
from .measuring import Measuring
from .networks import LearnedSamples, embed, estimate_statistics, networks, slow_normalisations, started
from .progress import OnProgress
from .recipe import Choice, Recipe, choose, named
from .split import Split, richest, split, taught_before, taught_to

if TYPE_CHECKING:
    import keras

SETTLED = 0.25  # share of the steps before which the statistics of deep backbones are not yet theirs
EXPORT = 15.0  # seconds of a time budget that are kept for measuring and exporting


@dataclass(frozen=True)
class Settings:
    """One run of a recipe. None is what the recipe says, or chooses from the data."""

    size: int | None = None  # the longer side in pixels
    dimension: int | None = None
    steps: int | None = None
    holdout: float = 0.2  # share of identities kept out of training, to measure and to be strangers
    seed: int = 0
    fpir: float = 0.01
    time_budget: float | None = None  # seconds for everything
    cohort: bool = True  # whether the tower carries the held-out identities' vectors
    resume: bool = False
    tensorboard: bool = False
    duplicates: Duplicates = "leave-out"
    frame: str | None = None  # instead of the recipe's
    face_model: str | None = None  # for the frame "face": the file of a YuNet


@dataclass(frozen=True)
class Trained:
    """A trained tower, and the data it was trained on, which are decoded already."""

    file: TowerFile
    data: Data

    def embedded(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors (k, dimension) of samples by position, as the tower that serves gives them."""
        tower = Tower.of(self.file)
        rows = [tower.embed(self.data.take(positions[i : i + 256])) for i in range(0, len(positions), 256)]
        return np.concatenate(rows) if rows else np.zeros((0, tower.dimension), np.float32)


def fit(
    source: Source,
    recipe: Recipe | None,
    settings: Settings,
    on_progress: OnProgress,
    start: bytes | None = None,
    folder: Path | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    detector: bytes | None = None,
    base: TowerFile | None = None,
) -> Trained:
    """Train a tower and return it, with the held-out identities as its strangers.

    `recipe` None is chosen from the data. `on_progress` is called with {"stage": …} and {"step": …, "of": …,
    "loss": …, "rank1": …}. `start` is a Keras model to continue from. `folder` receives the checkpoint, the log and
    the report. Of each picture the largest face is learned where there is a `detector` (a YuNet). With a `base` its
    network is kept, and a head behind it is what learns, from vectors that are computed once. When `interrupted`
    the best tower so far is returned. Raises BadInput when the data cannot train a tower.
    """
    began = time.monotonic()
    if base is not None and recipe is None:
        recipe = _head(source)
    pairs = source.pairs is not None
    choice = choose(source.items, recipe, None if base else settings.size, pairs=pairs, graded=source.graded)
    tower = None if base is None else _refuse_no_head(base, choice, settings)
    if tower is not None:
        frame, shape = tower.cutter, tower.shape
    else:
        frame, shape = framed(choice.shape, settings.frame, choice.recipe.input.frame, detector)
    if settings.frame == "box" and not source.items.boxed:
        raise BadInput(
            "The frame box needs boxes.",
            "These data have none.",
            "A table with x, y, w and h, or MegaDetector's .json.",
        )
    data = Data(source.items, shape, on_progress, frame=frame, duplicates=settings.duplicates)
    recipe = _adapted(choice.recipe, settings, data, source, base)
    taught = taught_to(base, data) | taught_before(source, data)
    parts = split(data, settings.holdout, settings.seed, singles=source.graded, taught=taught)
    on_progress(_told(choice, data, parts, base, source.graded))
    learned: LearnedSamples = data
    if tower is not None:
        learned = Features(tower, data, parts.seen, recipe.augment, on_progress, folder)

    keras = started(settings.seed, recipe.fit.precision)
    from . import losses
    from .artifacts import write_artifacts
    from .export import export

    sampler = _sampler(source, data, learned, parts, recipe, settings.seed)
    known = learned.take(parts.seen[:: max(1, len(parts.seen) // 2000)])
    whitening = learned.whitening(data) if isinstance(learned, Features) else None
    samples = len(parts.seen) * recipe.feeding.classes
    steps = settings.steps or recipe.fit.steps or _steps(samples, recipe)
    models = networks(keras, start, learned.shape, recipe, known, whitening)
    options = {key: value for key, value in recipe.loss.items() if key != "name"}
    head, loss = losses.objective(recipe.loss["name"], sampler.identities, options)
    trainable = keras.Model(models.tower.input, head(models.tower.output)) if head else models.tower

    measuring = Measuring(data, learned, parts, settings.fpir, source)
    shown = parts.seen[np.unique(data.whose[parts.seen], return_index=True)[1]][:64]  # one sample of each identity

    slow = slow_normalisations(models.averaged) if recipe.tower.get("weights", "none") == "none" else []

    def set_averaged(weights: Weights, batches: int) -> None:
        models.averaged.set_weights(weights)
        rng = np.random.default_rng(settings.seed)
        if slow:
            drawn = (learned.take(rng.choice(parts.seen, min(64, len(parts.seen)), False)) for _ in range(batches))
            estimate_statistics(models.averaged, slow, drawn)

    def look(weights: Weights, done: float) -> dict[str, float]:
        set_averaged(weights, min(8, 1 + steps // (4 * recipe.fit.rounds)))
        if done >= SETTLED:
            refuse_collapsed(embed(models.served, learned, shown))
        return measuring.moment(models.served)

    state = TrainingState(steps=steps)
    checkpoint = (
        Checkpoint(folder / CHECKPOINT, _key(recipe, settings, data, state.steps, start, base)) if folder else None
    )
    deadline = None if settings.time_budget is None else began + max(1.0, settings.time_budget - EXPORT)
    plan = LoopSettings(recipe.fit, look, on_progress, checkpoint, deadline, interrupted)
    builder = BatchBuilder(learned, sampler, recipe.augment, known)
    logs = [_tensorboard(keras, folder)] if settings.tensorboard and folder else []
    on_progress({"stage": "fit", "steps": state.steps, "parameters": models.tower.count_params()})
    if base is not None and not settings.resume:  # the whitening that it begins as: learning has to be better
        state.best, state.best_figures = models.tower.get_weights(), look(models.tower.get_weights(), 0.0)
    state = _run(keras, trainable, models.tower, builder, loss, plan, state, settings.resume, logs)

    on_progress({"stage": "export", "ended": state.ended, "step": state.best_at})
    set_averaged(state.best, 16)
    measured = measuring.vectors(models.served)
    tried, behind = measuring.closed_form(models.served, measured)
    if behind is not None:
        measured = replace(measured, vectors=applied(measured.vectors, *behind))
    record = TrainingRecord(
        recipe=recipe.to_dict(),
        why=list(choice.why),
        settings=asdict(settings),
        identities=sorted({data.names[i] for i in data.whose[parts.seen]}),
        held_out=sorted(set(measured.names)),
        chose=sorted({data.names[i] for i in data.whose[parts.watched]}),
        learned=packed(data.digests[parts.seen]),
        samples=len(parts.seen),
        left_out=len(data.left_out),
        data_sha256=data.digest(),
        steps=state.steps,
        kept_from_step=state.best_at,
        ended=state.ended,
        continued=models.continued,
        parameters=models.tower.count_params(),
        seconds=round(time.monotonic() - began, 1),
        history=state.history,
    )
    if base is not None:  # what its network has learned from before is learned from, too
        grown = base.card.training.and_from(record.identities, data.digests[parts.seen])
        record = replace(record, identities=grown.identities, learned=grown.learned)
    card = Card(
        input=_input(data, recipe.tower) if base is None else base.card.input,
        dimension=int(models.served.output_shape[-1]),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        training=record,
        held_out=measuring.figures(measured) | ({"closed_form": tried} if tried else {}),
        versions={"siamese-index": version, "keras": keras.__version__},
        imported=None if base is None else base.card.imported,
        tuned=None if base is None else base.card.tuned or {"from": base.id, "dimension": base.card.dimension},
    )
    good = np.flatnonzero(data.whose >= 0)
    checked = good[:: max(1, len(good) // 64)][:64]
    cohort = measured if settings.cohort else Cohort()
    made = export(models, card, cohort, data.take(checked), learned.take(checked), detector, base)
    if behind is not None:
        made = whitened(made, *behind)
    if folder:
        write_artifacts(folder, made, measured, data, parts.unseen, on_progress)
    return Trained(made, data)


def _input(data: Data, tower: dict[str, Any]) -> TowerInput:
    """Return what a card says of the input: all that serving must do before the network."""
    if len(data.shape) == 1:
        return TowerInput(data.shape)
    from .towers import VIEWS

    views = (2 if tower.get("mirrored") else 1) * (VIEWS if tower.get("looks") else 1)
    return TowerInput(data.shape, data.frame.name, views, template=data.frame.points)


def _refuse_no_head(base: TowerFile, choice: Choice, settings: Settings) -> Tower:
    """Open the tower that a head is learned for. Raises BadInput where that cannot be."""
    tower, name = Tower.of(base), choice.recipe.tower["name"]
    if settings.size is not None or settings.frame is not None or settings.face_model is not None:
        raise BadInput(
            "Size, frame and detector are those of the network that a head is learned for.", remedy="Leave them out."
        )
    if name not in HEADS and (":" not in name or name.startswith("application:")):
        raise BadInput(
            f"The recipe {choice.recipe.name!r} learns from pixels; a head learns from vectors.",
            remedy="Leave --recipe out.",
        )
    if len(choice.shape) != len(tower.shape):
        kinds = {1: "vectors", 3: "pictures"}
        raise BadInput(f"The tower takes {kinds[len(tower.shape)]}; these data are {kinds[len(choice.shape)]}.")
    return tower


def _head(source: Source) -> Recipe:
    """Return the recipe of a head, for graded pairs with a loss for these."""
    recipe = named("head")
    if not source.graded:
        return recipe
    return replace(
        recipe, loss={"name": "similarity"}, feeding=replace(recipe.feeding, by="pairs", samples=1, hard=0.0)
    )


HEADS = ("head", "mlp")  # what takes vectors


def _adapted(recipe: Recipe, settings: Settings, data: Data, source: Source, base: TowerFile | None) -> Recipe:
    """Return the recipe as these data allow it, and as the settings want it."""
    if settings.dimension:
        recipe = replace(recipe, tower={**recipe.tower, "dimension": settings.dimension})
    if data.frame.name in FRAMES and len(data.shape) == 3:  # so that a retraining goes on with it
        recipe = replace(recipe, input=replace(recipe.input, frame=data.frame.name))
    if not settings.dimension and base is not None and "dimension" not in recipe.tower:
        recipe = replace(recipe, tower={**recipe.tower, "dimension": base.card.dimension})
    feeding = recipe.feeding
    if feeding.hard and base is None:
        raise BadInput(f"The recipe {recipe.name!r} has [feeding] hard.", "That is for --from.", "Leave it out.")
    height, width = (*data.shape, 0)[:2]
    few = len(data) < FEW_PICTURES * len(data.names)
    if feeding.classes > 2 and (height != width or not few):
        feeding = replace(feeding, classes=1)  # a turned picture would not fit, or teaches nothing new
    if source.pairs is not None:
        if source.graded and recipe.loss["name"] not in _graded_losses():
            raise BadInput(
                f"The recipe {recipe.name!r} learns from 0 and 1; these labels are graded.",
                remedy="Use --recipe graded",
            )
        if recipe.loss["name"] in _on_cosines():
            raise BadInput(
                f"The recipe {recipe.name!r} learns from identities; these are pairs.", remedy="Use --recipe pairs"
            )
        feeding = replace(feeding, classes=1)
    return replace(recipe, feeding=feeding)


FEW_PICTURES = 100  # per identity; with more, turned drawings as further identities teach nothing


def _on_cosines() -> set[str]:
    from .losses import ON_COSINES

    return set(ON_COSINES)


def _graded_losses() -> set[str]:
    from .losses import GRADED

    return set(GRADED)


def _told(choice: Choice, data: Data, parts: Split, base: TowerFile | None, graded: bool) -> dict[str, Any]:
    counts = np.bincount(data.whose[parts.seen], minlength=len(data.names))
    rich = richest(data)
    alone = [] if rich is None else [f"{data.names[rich]} has most of the samples: it is learned from, not held out."]
    return {
        "stage": "data",
        "recipe": choice.recipe.name,
        "why": [*(choice.why if base is None else ("Only a head is learned; the network stays as it is.",)), *alone],
        "shape": list(choice.shape),
        "identities": int(np.sum(counts > 0)),
        "samples": len(parts.seen),
        "single": 0 if graded else int(np.sum(counts == 1)),
        "held_out_identities": len(np.unique(data.whose[parts.unseen])),
        "held_out_samples": len(parts.unseen),
        "left_out": data.left_out,
    }


def _sampler(source: Source, data: Data, learned: LearnedSamples, parts: Split, recipe: Recipe, seed: int) -> Sampler:
    whose = np.unique(data.whose[parts.seen], return_inverse=True)[1].astype(np.int64)
    if source.pairs is not None:  # a pair across the split would show what is held out
        return Sampler(parts.seen, whose, recipe.feeding, seed, *source.within(parts.seen))
    nearest = nearest_identities(learned.take(parts.seen), whose) if recipe.feeding.hard else None
    there = np.unique(data.whose[parts.seen])
    hard = np.array([k for k, i in enumerate(there.tolist()) if data.names[i] in source.hard], np.int64)
    return Sampler(parts.seen, whose, recipe.feeding, seed, nearest=nearest, hard=hard)


def _steps(pictures: int, recipe: Recipe) -> int:
    return int(np.clip(recipe.fit.passes * pictures / recipe.feeding.batch, 300, max(300, recipe.fit.most)))


def _key(
    recipe: Recipe, settings: Settings, data: Data, steps: int, start: bytes | None, base: TowerFile | None
) -> str:
    """Return what must be equal for a checkpoint to fit."""
    same = {k: v for k, v in asdict(settings).items() if k not in ("resume", "tensorboard", "time_budget", "cohort")}
    content = [
        recipe.to_dict(),
        same,
        data.digest(),
        data.shape,
        steps,
        hashlib.sha256(start or b"").hexdigest(),
        base and base.id,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _run(
    keras: Any,
    trainable: keras.Model,
    tower: keras.Model,
    builder: BatchBuilder,
    loss: Any,
    plan: LoopSettings,
    state: TrainingState,
    resume: bool,
    logs: list[Any],
) -> TrainingState:
    """Take all steps, in two phases when a pretrained backbone is frozen at first."""
    saved: Weights | None = None
    if resume:
        if plan.checkpoint is None:
            raise BadInput("There is no folder to resume from.")
        state, saved = plan.checkpoint.load()
        plan.on_progress({"stage": "resume", "step": state.step, "of": state.steps})
    if not plan.fit.frozen:
        state.phase = 1
    while True:
        for layer in tower.layers:
            if layer.name == "backbone":
                layer.trainable = state.phase == 1
        optimizer = keras.optimizers.AdamW(plan.fit.rate, weight_decay=plan.fit.weight_decay, clipnorm=1.0)
        trainable.compile(optimizer=optimizer, loss=loss)
        trainable.optimizer.build(trainable.trainable_variables)
        if saved is not None:
            for variable, value in zip(variables(trainable), saved, strict=True):
                variable.assign(value)
            saved = None
        if state.step < state.steps:
            # With a time budget nobody knows yet how many there will be: `watcher` ends them.
            last = state.steps if plan.deadline is None else state.step + (1 << 40)
            trainable.fit(
                feed(builder, state.step, last),
                epochs=1,
                verbose=0,
                shuffle=False,
                callbacks=[watcher(plan, state, trainable, tower), *logs],
            )
        if state.ended != "frozen" or state.phase == 1:
            break
        state.phase = 1
    if not state.best or (not state.best_figures and state.average):
        state.best, state.best_at = state.average or tower.get_weights(), state.step
    return state


def _tensorboard(keras: Any, folder: Path) -> Any:
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        raise NotInstalled("TensorBoard is not installed.", remedy="pip install tensorboard")
    return keras.callbacks.TensorBoard(folder / "tensorboard", update_freq=10)
