"""Train a tower: choose, read, split by identity, fit, measure on identities never seen, export.

The story in order; `fit` is it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Cohort, NotInstalled, Tower, TowerFile
from siamese_index import __version__ as version
from siamese_index.analysis.comparison import tower_figures
from siamese_index.thresholds.planning import Planner
from siamese_index.towers.card import Card, TowerInput, TrainingRecord, packed
from siamese_index.vectors import unit

from .batch_builder import BatchBuilder, Sampler, feed
from .data import Data, Duplicates, Source, framed
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
from .progress import OnProgress
from .recipe import Choice, Recipe, choose
from .split import Split, richest, split

if TYPE_CHECKING:
    import keras

LOOKED_AT = 1000  # samples that a look during the training searches
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
) -> Trained:
    """Train a tower and return it, with the held-out identities as its strangers.

    `recipe` None is chosen from the data. `on_progress` is called with {"stage": …} and {"step": …, "of": …,
    "loss": …, "rank1": …}. `start` is a Keras model to continue from. `folder` receives the checkpoint, the log and
    the report. Of each picture the largest face is learned where there is a `detector` (a YuNet). When `interrupted`
    the best tower so far is returned. Raises BadInput when the data cannot train a tower.
    """
    began = time.monotonic()
    choice = choose(source.items, recipe, settings.size, pairs=source.pairs is not None)
    frame, shape = framed(choice.shape, settings.frame, choice.recipe.input.frame, detector)
    data = Data(source.items, shape, on_progress, frame=frame, duplicates=settings.duplicates)
    recipe = _adapted(choice.recipe, settings, data, source)
    parts = split(data, settings.holdout, settings.seed)
    on_progress(_told(choice, data, parts))

    keras = _keras(settings, recipe)
    from . import losses
    from .artifacts import write_artifacts
    from .export import export

    sampler = _sampler(source, data, parts, recipe, settings.seed)
    known = data.take(parts.seen[:: max(1, len(parts.seen) // 2000)])
    models = _models(keras, start, shape, recipe, known)
    options = {key: value for key, value in recipe.loss.items() if key != "name"}
    head, loss = losses.objective(recipe.loss["name"], sampler.identities, options)
    trainable = keras.Model(models.tower.input, head(models.tower.output)) if head else models.tower

    shown = parts.seen[np.unique(data.whose[parts.seen], return_index=True)[1]][:64]  # one sample of each identity

    def look(weights: Weights, done: float) -> dict[str, float]:
        models.averaged.set_weights(weights)
        if done >= SETTLED:
            refuse_collapsed(embed(models.served, data, shown))
        return _figures(models.served, data, parts, settings.fpir)

    samples = len(parts.seen) * recipe.feeding.classes
    state = TrainingState(steps=settings.steps or recipe.fit.steps or _steps(samples, recipe))
    checkpoint = Checkpoint(folder / CHECKPOINT, _key(recipe, settings, data, state.steps, start)) if folder else None
    deadline = None if settings.time_budget is None else began + max(1.0, settings.time_budget - EXPORT)
    plan = LoopSettings(recipe.fit, look, on_progress, checkpoint, deadline, interrupted)
    builder = BatchBuilder(data, sampler, recipe.augment, known)
    logs = [_tensorboard(keras, folder)] if settings.tensorboard and folder else []
    on_progress({"stage": "fit", "steps": state.steps, "parameters": models.tower.count_params()})
    state = _run(keras, trainable, models.tower, builder, loss, plan, state, settings.resume, logs)

    on_progress({"stage": "export", "ended": state.ended, "step": state.best_at})
    models.averaged.set_weights(state.best)
    measured = _measured(models.served, data, parts)
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
    card = Card(
        input=_input(data, recipe.tower),
        dimension=int(models.served.output_shape[-1]),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        training=record,
        held_out=_held_out(measured, data, parts, settings.fpir),
        versions={"siamese-index": version, "keras": keras.__version__},
    )
    good = np.flatnonzero(data.whose >= 0)
    checked = data.take(good[:: max(1, len(good) // 64)][:64])
    cohort = measured if settings.cohort else Cohort()
    made = export(models.served, models.averaged, card, cohort, checked, detector)
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


@dataclass(frozen=True)
class Models:
    """The tower that learns, its double in float32 with averaged weights, and what serves."""

    tower: keras.Model
    averaged: keras.Model
    served: keras.Model
    continued: bool


def _adapted(recipe: Recipe, settings: Settings, data: Data, source: Source) -> Recipe:
    """Return the recipe as these data allow it, and as the settings want it."""
    if settings.dimension:
        recipe = replace(recipe, tower={**recipe.tower, "dimension": settings.dimension})
    feeding = recipe.feeding
    height, width = (*data.shape, 0)[:2]
    few = len(data) < FEW_PICTURES * len(data.names)
    if feeding.classes > 2 and (height != width or not few):
        feeding = replace(feeding, classes=1)  # a turned picture would not fit, or teaches nothing new
    if source.pairs is not None:
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


def _told(choice: Choice, data: Data, parts: Split) -> dict[str, Any]:
    counts = np.bincount(data.whose[parts.seen], minlength=len(data.names))
    rich = richest(data)
    alone = [] if rich is None else [f"{data.names[rich]} has most of the samples: it is learned from, not held out."]
    return {
        "stage": "data",
        "recipe": choice.recipe.name,
        "why": [*choice.why, *alone],
        "shape": list(choice.shape),
        "identities": int(np.sum(counts > 0)),
        "samples": len(parts.seen),
        "single": int(np.sum(counts == 1)),
        "held_out_identities": len(np.unique(data.whose[parts.unseen])),
        "held_out_samples": len(parts.unseen),
        "left_out": data.left_out,
    }


def _keras(settings: Settings, recipe: Recipe) -> Any:
    """Import Keras and make it do the same each time."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    gpu = bool(tf.config.list_physical_devices("GPU"))
    precision = recipe.fit.precision
    # Half precision pays on a GPU with tensor cores; on a CPU it is slower.
    keras.config.set_dtype_policy(("mixed_float16" if gpu else "float32") if precision == "auto" else precision)
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    return keras


def _sampler(source: Source, data: Data, parts: Split, recipe: Recipe, seed: int) -> Sampler:
    whose = np.unique(data.whose[parts.seen], return_inverse=True)[1].astype(np.int64)
    if source.pairs is None or source.genuine is None:
        return Sampler(parts.seen, whose, recipe.feeding, seed)
    learned = np.isin(source.pairs, parts.seen).all(axis=1)  # a pair across the split would show what is held out
    return Sampler(parts.seen, whose, recipe.feeding, seed, source.pairs[learned], source.genuine[learned])


def _models(keras: Any, start: bytes | None, shape: tuple[int, ...], recipe: Recipe, known: NDArray[Any]) -> Models:
    from .towers import build, mirrored, with_views

    dimension = int(recipe.tower.get("dimension", 128))
    tower = _continued(keras, start, shape, dimension)
    continued = tower is not None
    if tower is None:
        tower = build(shape, dimension, recipe.tower, known)
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        averaged = build(shape, dimension, recipe.tower, known)
        keras.config.set_dtype_policy(policy)
    else:
        averaged = keras.models.clone_model(tower)
    served = averaged
    if len(shape) == 3:
        served = mirrored(served) if recipe.tower.get("mirrored") else served
        served = with_views(served) if recipe.tower.get("looks") else served
    return Models(tower, averaged, served, continued)


def _continued(keras: Any, start: bytes | None, shape: tuple[int, ...], dimension: int) -> keras.Model | None:
    """Return the model to continue from, or None when it takes other samples or gives other vectors."""
    if start is None:
        return None
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.keras"
        path.write_bytes(start)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (TypeError, ValueError):  # of layers that are not Keras' own
            return None
    return model if tuple(model.input_shape[1:]) == shape and model.output_shape[-1] == dimension else None


def _figures(served: keras.Model, data: Data, parts: Split, fpir: float) -> dict[str, float]:
    """Return the figures of the watched identities' searches among all held-out ones, of a part when they are many."""
    part = parts.unseen[:: max(1, len(parts.unseen) // LOOKED_AT)]
    names = [data.names[i] for i in data.whose[part]]
    watched = {data.names[i] for i in data.whose[parts.watched]}
    figures = tower_figures(embed(served, data, part), names, watched, fpir) if len(part) else {}
    if not figures.get("searches"):
        return {}
    low, high = figures["fnir_interval"]
    noise = (high - low) / (2 * 1.96)  # one standard error of the FNIR
    return {"rank1": figures["rank1"], "fnir": figures["fnir"], "eer": figures["eer"], "noise": noise}


def embed(tower: keras.Model, data: Data, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors (k, d) of samples by position."""
    rows = [
        np.asarray(tower.predict_on_batch(data.take(positions[i : i + 256]).astype(np.float32)))
        for i in range(0, len(positions), 256)
    ]
    return np.concatenate(rows) if rows else np.zeros((0, tower.output_shape[-1]), np.float32)


def _steps(pictures: int, recipe: Recipe) -> int:
    return int(np.clip(recipe.fit.passes * pictures / recipe.feeding.batch, 300, max(300, recipe.fit.most)))


def _key(recipe: Recipe, settings: Settings, data: Data, steps: int, start: bytes | None) -> str:
    """Return what must be equal for a checkpoint to fit."""
    same = {k: v for k, v in asdict(settings).items() if k not in ("resume", "tensorboard", "time_budget", "cohort")}
    content = [recipe.to_dict(), same, data.digest(), data.shape, steps, hashlib.sha256(start or b"").hexdigest()]
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


def _measured(served: keras.Model, data: Data, parts: Split) -> Cohort:
    """Return the held-out samples' vectors."""
    names = tuple(data.names[i] for i in data.whose[parts.unseen])
    digests = tuple(data.digests[i].tobytes().hex() for i in parts.unseen)
    return Cohort(names, digests, embed(served, data, parts.unseen))


def _held_out(measured: Cohort, data: Data, parts: Split, fpir: float) -> dict[str, Any]:
    """Return the figures on held-out identities: on those that did not choose the moment, when there are such."""
    if not len(measured):
        return {"searches": 0, "identities": 0}
    held_out, chose = set(measured.names), {data.names[i] for i in data.whose[parts.watched]}
    searched = (held_out - chose) or held_out
    figures = tower_figures(measured.vectors, measured.names, searched, fpir)
    figures["chose_the_moment"] = held_out == chose  # then their figures are a little kind
    with contextlib.suppress(BadInput):  # too few to plan with
        planner = Planner(measured.vectors, measured.names)
        figures["plan"] = [asdict(planner.plan(n, fpir)) for n in (10, 100, 1000) if n <= planner.others]
    plain = data.take(parts.unseen) if len(data.shape) == 1 else np.zeros((0, 0))
    if len(plain) and plain.any(axis=1).all():  # what a tower of vectors has to beat
        figures["plain"] = tower_figures(unit(plain), measured.names, searched, fpir)
    return figures
