"""A tower as a Keras model or for LiteRT: from pixels to unit vectors, held against the tower itself."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Damaged, Tower, TowerFile
from siamese_index.towers.adapting import whitenings

from .export import LARGEST_DIFFERENCE
from .process import CONVERTED, require, work

KINDS = ("keras", "litert")


def convert(file: TowerFile, to: str) -> bytes:
    """Return a tower as a file of Keras (.keras) or LiteRT (.tflite), made in a process of its own.

    Raises BadInput for a tower of which there is no whole Keras model, NotInstalled, or Damaged where what was made
    does not answer as the tower does.
    """
    card = file.card
    if to not in KINDS:
        raise BadInput(f"A tower cannot be converted to {to!r}.", f"There are {' and '.join(KINDS)}.")
    why = ""
    if card.tuned:
        why = "Its Keras model is the head alone, behind somebody's network."
    elif file.keras is None:
        why = "It was made elsewhere, or adapted." if card.imported or card.adapted else "It has none."
    elif card.optimized:
        why = "Its Keras model is of before it was made 8-bit."
    if why:
        raise BadInput(f"There is no Keras model of this tower, so no {to}.", why, "Its network:  --to onnx")
    require("keras", "tensorflow")
    with tempfile.TemporaryDirectory(prefix="sidx-") as out:
        given = Path(out) / "given.tower"
        file.write(given)
        work({"convert": to, "tower": str(given)}, Path(out))
        return (Path(out) / CONVERTED).read_bytes()


def converted(file: TowerFile, to: str) -> bytes:
    """Return the tower as `to`. Run by the child."""
    import keras

    model = _whole(keras, file)
    samples = _examples(file.card.input.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("tower.keras" if to == "keras" else "tower.tflite")
        if to == "keras":
            model.save(path)
            found = keras.saving.load_model(path, compile=False, safe_mode=True).predict(samples, verbose=0)
        else:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model(samples[:1])
                model.export(path, format="litert", verbose=False)
                found = _by_litert(path, samples)
        data = path.read_bytes()
    difference = float(np.abs(Tower.of(file).embed(samples.astype(np.float32)) - np.asarray(found)).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise Damaged(f"As {to} the tower does not answer as it should.", f"Largest difference {difference:.2g}.")
    return data


def _whole(keras: Any, file: TowerFile) -> Any:
    """Return the Keras model that answers as the tower: with its views, and with a whitening that it has behind it."""
    from .towers import mirrored, with_views

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.keras"
        path.write_bytes(file.keras or b"")
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (TypeError, ValueError) as error:
            raise BadInput("The tower's Keras model cannot be opened.", str(error).splitlines()[0][:200]) from None
    options = (file.card.training.recipe or {}).get("tower", {})
    if len(file.card.input.shape) == 3:
        model = mirrored(model) if options.get("mirrored") else model
        model = with_views(model) if options.get("looks") else model
    for matrix, mean in whitenings(file.onnx):
        behind = keras.layers.Dense(len(mean), name=f"whitening_{len(model.layers)}")
        vectors = keras.layers.UnitNormalization()(behind(model.output))
        behind.set_weights([matrix, -mean @ matrix])
        model = keras.Model(model.input, vectors, name="whitened")
    return model


def _examples(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return samples (16, *shape): noise, fine and coarse."""
    rng = np.random.default_rng(0)
    if len(shape) == 1:
        return rng.normal(size=(16, *shape)).astype(np.float32)
    height, width, channels = shape
    fine = rng.integers(0, 256, (8, *shape))
    small = rng.integers(0, 256, (8, -(-height // 8), -(-width // 8), channels))
    coarse = small.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return np.concatenate([fine, coarse]).astype(np.float32)


def _by_litert(path: Path, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what LiteRT's interpreter answers, one sample at a time."""
    import tensorflow as tf

    opened = tf.lite.Interpreter(str(path))
    opened.allocate_tensors()
    taken, given = opened.get_input_details()[0]["index"], opened.get_output_details()[0]["index"]
    rows = []
    for sample in samples:
        opened.set_tensor(taken, sample[None])
        opened.invoke()
        rows.append(np.asarray(opened.get_tensor(given)))
    return np.concatenate(rows).astype(np.float32)
