"""A tower adapted to the people it serves, by a closed form: its vectors whitened by how one identity's differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Damaged, NotInstalled
from siamese_index.vectors import Vectors

from .card import TrainingRecord
from .tower import Tower
from .tower_file import Cohort, TowerFile

LARGEST_DIFFERENCE = 1e-4
_OUR = "siamese_index/adapted"  # begins the names of what is added


def whitening(vectors: Vectors, identities: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (matrix (d, d), mean (d,)): what (vector - mean) @ matrix differs by within an identity is alike each way.

    The inverse square root of the within-class covariance of `vectors` (n, d), shrunken towards a multiple of the unit
    matrix by OAS (Chen et al., 2010, equation 23); the mean is that of the identities' means. Raises BadInput where no
    identity has two vectors.
    """
    groups, whose, counts = np.unique(identities, return_inverse=True, return_counts=True)
    rows = vectors.astype(np.float64)
    means = np.zeros((len(groups), rows.shape[1]))
    np.add.at(means, whose, rows)
    means /= counts[:, None]
    within = (rows - means[whose])[counts[whose] > 1]
    free = int(np.sum(counts - 1))
    if free < 1:
        raise BadInput("No identity has two samples: how they vary is not known.")
    covariance = within.T @ within / free
    dimension, trace = len(covariance), float(np.trace(covariance))
    squared = float(np.sum(covariance**2))
    above = (1 - 2 / dimension) * squared + trace**2
    below = (free + 1 - 2 / dimension) * (squared - trace**2 / dimension)
    shrinkage = 1.0 if below <= 0 else min(1.0, above / below)
    target = trace / dimension * np.eye(dimension)
    spread, axes = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * target)
    spread = np.maximum(spread, 1e-12 * spread.max())
    matrix = (axes / np.sqrt(spread)) @ axes.T
    matrix /= np.linalg.norm(matrix, 2)  # only directions count
    return matrix.astype(np.float32), means.mean(axis=0).astype(np.float32)


def applied(vectors: Vectors, matrix: NDArray[np.float32], mean: NDArray[np.float32]) -> Vectors:
    """Return unit vectors (n, d) as the adapted tower gives them."""
    moved = (vectors - mean) @ matrix
    unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return unit


def whitened(file: TowerFile, matrix: NDArray[np.float32], mean: NDArray[np.float32]) -> TowerFile:
    """Return the tower with (vector - mean) @ matrix, of unit length again, behind it. Its card says nothing of that.

    Raises NotInstalled, or Damaged where the graph does not answer as this arithmetic does.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise NotInstalled("Adapting a tower needs onnx.", remedy="pip install onnx") from None
    model = onnx.load_from_string(file.onnx)
    graph = model.graph
    output = graph.output[0].name
    number = sum(tensor.name.startswith(_OUR) for tensor in graph.initializer)  # adapted before
    name = f"{_OUR}{number}/"
    for node in graph.node:
        for names in (node.input, node.output):
            for i, each in enumerate(names):
                if each == output:
                    names[i] = f"{name}before"
    for constant, what in ((mean, "mean"), (matrix, "matrix")):
        graph.initializer.append(numpy_helper.from_array(constant.astype(np.float32), f"{name}{what}"))
    graph.node.extend(
        [
            helper.make_node("Sub", [f"{name}before", f"{name}mean"], [f"{name}centred"]),
            helper.make_node("MatMul", [f"{name}centred", f"{name}matrix"], [f"{name}moved"]),
            helper.make_node("LpNormalization", [f"{name}moved"], [output], axis=1, p=2),
        ]
    )
    made = replace(file, onnx=bytes(model.SerializeToString(deterministic=True)))
    shape, rng = file.card.input.shape, np.random.default_rng(0)
    pixels, numbers = rng.integers(0, 256, (4, *shape), np.uint8), rng.normal(size=(4, *shape)).astype(np.float32)
    taken: Any = pixels if len(shape) == 3 else numbers
    before, after = (Tower.of(each).embed(taken) for each in (file, made))
    difference = float(np.abs(applied(before, matrix, mean) - after).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise Damaged("The adapted tower does not answer as it should.", f"Largest difference {difference:.2g}.")
    return made


def whitenings(onnx: bytes) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the (matrix, mean) of each whitening behind a network, in their order. Raises NotInstalled."""
    try:
        from onnx import load_from_string, numpy_helper
    except ImportError:
        raise NotInstalled("Reading a network needs onnx.", remedy="pip install onnx") from None
    constants = {tensor.name: tensor for tensor in load_from_string(onnx).graph.initializer}
    found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    while f"{_OUR}{2 * len(found)}/matrix" in constants:
        name = f"{_OUR}{2 * len(found)}/"
        found.append(
            (numpy_helper.to_array(constants[f"{name}matrix"]), numpy_helper.to_array(constants[f"{name}mean"]))
        )
    return found


def adapted(
    file: TowerFile, matrix: NDArray[np.float32], mean: NDArray[np.float32], record: TrainingRecord, cohort: Cohort
) -> TowerFile:
    """Return the tower `whitened`, as one of its own: with a record, and with the strangers that `cohort` is."""
    card = replace(file.card, training=record, optimized=None, adapted={"from": file.id}, held_out={})
    return replace(whitened(file, matrix, mean), keras=None, card=card, cohort=cohort)
