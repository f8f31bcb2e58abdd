"""The networks of a training: the tower that learns, its double with averaged weights, and what serves."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .recipe import Recipe

if TYPE_CHECKING:
    import keras


class LearnedSamples(Protocol):
    """What a network learns from, by position."""

    shape: tuple[int, ...]

    def take(self, positions: Any) -> NDArray[Any]:
        """Return samples (k, *shape)."""

    def one_view(self, positions: Any, rng: np.random.Generator) -> NDArray[Any]:
        """Return samples (k, *shape), each perhaps changed a little."""


@dataclass(frozen=True)
class Networks:
    """The tower that learns, its double in float32 with averaged weights, and what serves."""

    tower: keras.Model
    averaged: keras.Model
    served: keras.Model
    continued: bool


def started(seed: int, precision: str) -> Any:
    """Import Keras, make it do the same each time, and return it. `precision` is that of a recipe."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    gpu = bool(tf.config.list_physical_devices("GPU"))
    # Half precision pays on a GPU with tensor cores; on a CPU it is slower.
    keras.config.set_dtype_policy(("mixed_float16" if gpu else "float32") if precision == "auto" else precision)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return keras


def networks(
    keras: Any,
    start: bytes | None,
    shape: tuple[int, ...],
    recipe: Recipe,
    known: NDArray[Any],
    whitening: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> Networks:
    """Return new networks for samples of a `shape`, or ones that go on from `start`, a Keras model, if it fits.

    `known` are samples, for a normalisation by their mean; a head begins as `whitening`, (matrix, mean).
    """
    from .towers import build, mirrored, with_views

    dimension = int(recipe.tower.get("dimension", 128))
    tower = _continued(keras, start, shape, dimension)
    continued = tower is not None
    if tower is None:
        tower = build(shape, dimension, recipe.tower, known, whitening)
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        averaged = build(shape, dimension, recipe.tower, known, whitening)
        keras.config.set_dtype_policy(policy)
    else:
        averaged = keras.models.clone_model(tower)
    served = averaged
    if len(shape) == 3:
        served = mirrored(served) if recipe.tower.get("mirrored") else served
        served = with_views(served) if recipe.tower.get("looks") else served
    return Networks(tower, averaged, served, continued)


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


def slow_normalisations(model: keras.Model) -> list[Any]:
    """Return the batch normalisations that keep more than 0.9 of their statistics at each step: those of others.

    With 0.999 (MobileNetV2) the statistics of 150 steps are still the ones that they began with, and what serves would
    be another network than what was trained.
    """
    from keras import Model, layers

    found = []
    for layer in model.layers:
        if isinstance(layer, Model):
            found += slow_normalisations(layer)
        elif isinstance(layer, layers.BatchNormalization) and layer.momentum > 0.9:
            found.append(layer)
    return found


def estimate_statistics(model: keras.Model, slow: list[Any], batches: Iterable[NDArray[Any]]) -> None:
    """Make the statistics of these normalisations the mean of what they see in `batches` (Izmailov et al., 2018)."""
    kept = [layer.momentum for layer in slow]
    for number, batch in enumerate(batches):
        for layer in slow:
            layer.momentum = number / (number + 1)
        model(batch.astype(np.float32), training=True)
    for layer, momentum in zip(slow, kept, strict=True):
        layer.momentum = momentum


def embed(tower: keras.Model, data: LearnedSamples, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors (k, d) of samples by position."""
    rows = [
        np.asarray(tower.predict_on_batch(data.take(positions[i : i + 256]).astype(np.float32)))
        for i in range(0, len(positions), 256)
    ]
    return np.concatenate(rows) if rows else np.zeros((0, tower.output_shape[-1]), np.float32)
