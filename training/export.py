"""From a Keras model to a tower file, which must answer as the model does."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import Cohort, Damaged, Tower, TowerFile

if TYPE_CHECKING:
    import keras

LARGEST_DIFFERENCE = 1e-4
LEAST_COSINE = 0.9999


def export(tower: keras.Model, card: dict[str, Any], cohort: Cohort, pixels: NDArray[np.uint8]) -> TowerFile:
    """Return the model as a tower file.

    Raises Damaged unless ONNX Runtime and Keras agree on `pixels` (n, height, width, channels):
    largest absolute difference <= 1e-4 and cosine >= 0.9999.
    """
    expected = np.asarray(tower.predict(pixels.astype(np.float32), verbose=0))
    with tempfile.TemporaryDirectory() as folder:
        graph, model = Path(folder) / "tower.onnx", Path(folder) / "tower.keras"
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tower(np.zeros((1, *pixels.shape[1:]), np.float32))  # Keras exports only what was called
            tower.export(graph, format="onnx", verbose=False)
        tower.save(model)
        content = TowerFile(graph.read_bytes(), model.read_bytes(), card, cohort)
    served = Tower(content.onnx, card, content.id).embed(pixels)
    difference, cosine = float(np.abs(served - expected).max()), float(np.sum(served * expected, axis=1).min())
    if not (difference <= LARGEST_DIFFERENCE and cosine >= LEAST_COSINE):
        raise Damaged(
            "The exported tower does not answer as the trained one.",
            f"Largest difference {difference:.2g} (at most {LARGEST_DIFFERENCE}), cosine {cosine:.6f}.",
            "Report this, with the versions of keras, tf2onnx and onnxruntime.",
        )
    return content
