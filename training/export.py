"""From a Keras model to a tower file, which must answer as the model does."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import Cohort, Damaged, Tower, TowerFile
from siamese_index.towers.card import Card
from siamese_index.towers.heads import with_head

from .networks import Networks

LARGEST_DIFFERENCE = 1e-4
LEAST_COSINE = 0.9999


def export(
    models: Networks,
    card: Card,
    cohort: Cohort,
    samples: NDArray[Any],
    learned: NDArray[Any],
    detector: bytes | None = None,
    base: TowerFile | None = None,
) -> TowerFile:
    """Return a tower file of the model that serves, and of the one that training goes on from.

    With a `base` they are the head behind it; `learned` (n, …) is what they take of `samples`.

    Raises Damaged unless ONNX Runtime and Keras agree on `samples` (n, *shape): largest absolute
    difference <= 1e-4 and cosine >= 0.9999.
    """
    tower, taken = models.served, learned.astype(np.float32)
    expected = np.asarray(tower.predict(taken, verbose=0))
    with tempfile.TemporaryDirectory() as folder:
        graph, model = Path(folder) / "tower.onnx", Path(folder) / "tower.keras"
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tower(np.zeros((1, *taken.shape[1:]), np.float32))  # Keras exports only what was called
            tower.export(graph, format="onnx", verbose=False)
        models.averaged.save(model)
        onnx = canonical(graph.read_bytes())
        if base is not None:
            onnx, detector = with_head(base.onnx, onnx), base.detector
        content = TowerFile(onnx, model.read_bytes(), card, cohort, detector)
    served = Tower.of(content).embed(samples)
    difference, cosine = float(np.abs(served - expected).max()), float(np.sum(served * expected, axis=1).min())
    if not (difference <= LARGEST_DIFFERENCE and cosine >= LEAST_COSINE):
        raise Damaged(
            "The exported tower does not answer as the trained one.",
            f"Largest difference {difference:.2g} (at most {LARGEST_DIFFERENCE}), cosine {cosine:.6f}.",
            "Report this, with the versions of keras, tf2onnx and onnxruntime.",
        )
    return content


def canonical(onnx: bytes) -> bytes:
    """Return the graph with values and nodes named and ordered by their use.

    tf2onnx names and orders constants as it happens to meet them, and a tower's id is its graph's
    hash: the same training shall give the same tower.
    """
    from onnx import load_from_string

    model = load_from_string(onnx)
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return onnx  # what lies in inner graphs refers to names outside
    outside = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        node.name = f"node{number}"
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                if name and name not in outside:
                    values[i] = names.setdefault(name, f"value{len(names)}")
    constants = {names[c.name]: c for c in graph.initializer if c.name in names}
    ordered = [constants[name] for name in names.values() if name in constants]
    for name, constant in constants.items():
        constant.name = name
    kept = [type(constant).FromString(constant.SerializeToString()) for constant in ordered]
    graph.doc_string = ""
    del graph.initializer[:]
    del graph.value_info[:]
    graph.initializer.extend(kept)
    return bytes(model.SerializeToString(deterministic=True))
