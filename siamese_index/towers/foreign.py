"""A network of somebody else as a tower: an ONNX graph with nodes before and behind it, held against the original."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, NotInstalled
from siamese_index.files import path_of, refused
from siamese_index.samples.faces import FaceFinder, template
from siamese_index.samples.framing import refuse_frame
from siamese_index.vectors import Vectors

from .card import Card, TowerInput
from .composing import FLOATS, UINT8, Numbers, PictureInput, Preparation, composed, has_halves
from .tower import BATCH, Tower
from .tower_file import TowerFile

# What a network was given while it was trained: (pixel - mean) / std, per channel in its own order; pixels are 0..255.
PRESETS: Mapping[str, tuple[Numbers, Numbers]] = {
    "raw": ((0.0,), (1.0,)),
    "unit": ((0.0,), (255.0,)),
    "pm1": ((127.5,), (127.5,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
LARGEST_DIFFERENCE = 1e-5  # between a number of the tower's vector and of the original's
LARGEST_DIFFERENCE_OF_HALVES = 1e-3  # of a graph in float16, which is rounded at other places
_LEAST_OPSET = 7
_SIDE = 4096  # pixels at most


@dataclass(frozen=True)
class Imported:
    """A tower of somebody's network, and what its owner should know of it, in sentences."""

    file: TowerFile
    words: tuple[str, ...]
    largest_difference: float  # to the original's vectors


def import_network(
    path: str | Path,
    preparation: Preparation | None = None,
    *,
    frame: str = "whole",
    output: str | None = None,
    size: tuple[int, int] | None = None,
    detector: bytes | None = None,
) -> Imported:
    """Return the network in an .onnx file as a tower: pixels in, unit vectors out.

    `output` is the value that is the vector, by name; else the first output of floats. `size` is (height, width)
    for a network that takes any. `detector` is a YuNet (.onnx), for the frame "face". Raises Missing; NotInstalled
    without onnx; BadInput with the reason for a network that cannot serve: several inputs, labels instead of
    vectors, vectors without length, unknown operators.
    """
    preparation = preparation or Preparation()
    refuse_frame(frame, detector is not None)
    if detector is not None:
        FaceFinder(detector)
    model = _loaded(path_of(path))
    shape = _shape(model.graph, size)
    for numbers, what in ((preparation.mean, "mean"), (preparation.std, "standard deviation")):
        if len(numbers) not in (1, shape.channels):
            raise BadInput(f"{len(numbers)} numbers of {what}, but {shape.channels} channels.", "Give one, or each.")
    if shape.type == UINT8 and (any(preparation.mean) or any(n != 1 for n in preparation.std)):
        raise BadInput("The network takes whole numbers of 0 to 255.", remedy="Leave --preset, --mean and --std out.")
    value = _chosen(model.graph, output)
    pictures = _examples(shape)
    expected = _original(model, shape, value, preparation, pictures)
    words = _warnings(model.graph, value, output is not None)
    half = has_halves(model.graph)
    allowed = LARGEST_DIFFERENCE_OF_HALVES if half else LARGEST_DIFFERENCE
    for way in ("as it is", "reshaped", "one at a time"):
        graph = composed(model, shape, value, preparation, expected.shape[1], way)
        file = TowerFile(
            graph, None, _card(Path(path), shape, frame, value, preparation, expected, way), detector=detector
        )
        try:
            difference, why = _difference(Tower.of(file), pictures, expected), ""
        except Exception as error:  # noqa: BLE001  # of ONNX Runtime, or a tower that gives other shapes
            difference, why = np.inf, str(error).replace("\x1b", "").splitlines()[0][:300]
        if difference <= allowed:
            break
    else:
        far = f"Its vectors differ by up to {difference:.2g}; {allowed} is allowed."
        why = why or f"{far} Is it random, or are its numbers huge?"
        raise BadInput(f"{path}: as a tower the network does not answer as it does by itself.", why)
    if way == "one at a time":
        words.append("It takes one picture at a time: its answer depends on what is in a batch, or its batch is fixed.")
    if half:
        words.append(f"It calculates in half precision: its vectors are the original's within {allowed}.")
    return Imported(file, tuple(words), difference)


def _card(
    path: Path, shape: PictureInput, frame: str, value: str, preparation: Preparation, expected: Vectors, way: str
) -> Card:
    taken = TowerInput(
        (shape.height, shape.width, shape.channels),
        frame,
        at_once=1 if way == "one at a time" else None,
        template=template(shape.height, shape.width) if frame == "face" else (),
    )
    told = {
        "file": os.fsencode(path.name).decode("utf-8", "replace"),
        "output": value,
        "order": preparation.order,
        "mean": list(preparation.mean),
        "std": list(preparation.std),
    }
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Card(input=taken, dimension=expected.shape[1], made=made, imported=told)


def _difference(tower: Tower, pictures: NDArray[np.uint8], expected: Vectors) -> float:
    """Return the largest difference to the original's vectors: one at a time, some, and a whole batch."""
    batch = np.resize(np.arange(len(pictures)), BATCH)
    found = [tower.embed(pictures) - expected, tower.embed(pictures[:1]) - expected[:1]]
    found.append(tower.embed(pictures[batch]) - expected[batch])
    return float(max(np.abs(each).max() for each in found))


def _loaded(path: Path) -> Any:
    """Return the model in a file, with the weights that lie beside it. Raises Missing, BadInput, NotInstalled."""
    try:
        import onnx
    except ImportError:
        raise NotInstalled("Importing a network needs onnx.", remedy="pip install onnx") from None
    try:
        if path.stat().st_size > 2 << 30:
            raise BadInput(f"{path}: more than 2 GB are not read.")
        model = onnx.load(path)
    except OSError as error:
        raise refused(path, error) from None
    except BadInput:
        raise
    except Exception as error:  # noqa: BLE001  # protobuf's and onnx' errors share no base class
        raise BadInput(f"{path}: this is not an ONNX network.", str(error).splitlines()[0][:200]) from None
    if not model.graph.node or not model.graph.output:
        raise BadInput(f"{path}: this is not an ONNX network.", "It has no nodes.")
    opset = _opset(model)
    if opset < _LEAST_OPSET:
        raise BadInput(
            f"{path}: its operators are of opset {opset}.",
            f"At least {_LEAST_OPSET} is needed.",
            "Convert it with onnx.version_converter, or export it again.",
        )
    return model


def _opset(model: Any) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _shape(graph: Any, size: tuple[int, int] | None) -> PictureInput:
    """Return what the graph's one picture input is. Raises BadInput."""
    stored = {tensor.name for tensor in (*graph.initializer, *graph.sparse_initializer)}
    inputs = [value for value in graph.input if value.name not in stored]  # old graphs list weights as inputs
    if len(inputs) != 1:
        named = ", ".join(value.name for value in inputs) or "none"
        raise BadInput("The network has to take one picture.", f"Its inputs: {named}.")
    value = inputs[0].type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in value.shape.dim]
    if value.elem_type not in (*FLOATS, UINT8):
        raise BadInput("The network takes no pictures.", f"Its input {inputs[0].name} is neither floats nor uint8.")
    if len(dims) != 4:
        raise BadInput(
            "The network takes no pictures.", f"Its input {inputs[0].name} has {len(dims)} axes; a picture's has 4."
        )
    if (dims[0] or 1) > 1:
        raise BadInput(
            f"The network takes {dims[0]} pictures at a time.", "One, or any number, is needed.", "Export it so."
        )
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    if not first and not last:
        raise BadInput("The network takes no pictures.", f"None of its axes is of 1 or 3 channels: {dims}.")
    height, width = (dims[2], dims[3]) if first else (dims[1], dims[2])
    if (height is None or width is None) and size is None:
        raise BadInput("The network takes pictures of any size.", remedy="Say which: --size 112, or --size 160x120")
    if size is not None and (height not in (None, size[0]) or width not in (None, size[1])):
        raise BadInput(f"The network takes pictures of {width} x {height}, no others.", remedy="Leave --size out.")
    if size is not None and not (isinstance(size, tuple) and len(size) == 2 and all(isinstance(n, int) for n in size)):
        raise BadInput(f"{size!r} is no size.", "Expected (height, width).")
    height, width = size or (height, width)
    if not 8 <= min(height or 0, width or 0) <= max(height or 0, width or 0) <= _SIDE:
        raise BadInput(f"The network takes pictures of {width} x {height}.", f"8 to {_SIDE:,} a side are possible.")
    channels = dims[1] if first else dims[3]
    return PictureInput(inputs[0].name, value.elem_type, first, int(height or 0), int(width or 0), int(channels or 0))


def _chosen(graph: Any, output: str | None) -> str:
    """Return the name of the value that is the vector. Raises BadInput."""
    values = {name for node in graph.node for name in node.output if name}
    if output is not None:
        if output not in values:
            raise BadInput(f"The network has no value {output!r}.", f"Its outputs: {_names(graph.output)}.")
        return output
    floats = [v for v in graph.output if v.type.tensor_type.elem_type in FLOATS]
    if not floats:
        raise BadInput(
            "The network gives no vectors.",
            f"Its outputs are labels or text: {_names(graph.output)}.",
            "Name the value before them: --output NAME",
        )
    flat = [v for v in floats if len(v.type.tensor_type.shape.dim) == 2]
    return str((flat or floats)[0].name)


def _names(values: Sequence[Any]) -> str:
    return ", ".join(value.name for value in values)


_PASSING = {"Identity", "Flatten", "Reshape", "Squeeze", "Cast", "Dropout"}


def _warnings(graph: Any, value: str, named: bool) -> list[str]:
    """Say what is doubtful about a value as a vector."""
    by = {name: node for node in graph.node for name in node.output}
    words = []
    others = [v.name for v in graph.output if v.name != value]
    if others and not named:
        words.append(f"Of its outputs {value} is taken; the others: {', '.join(others)}. Choose with --output.")
    node = by.get(value)
    while node is not None and node.op_type in _PASSING and node.input:
        node = by.get(node.input[0])
    if node is not None and node.op_type in ("Softmax", "LogSoftmax") and node.input:
        before = by.get(node.input[0])
        while before is not None and before.op_type in _PASSING and before.input:
            before = by.get(before.input[0])
        deeper = before.input[0] if before is not None and before.op_type in ("Gemm", "MatMul") else node.input[0]
        words.append(
            f"{value} is the probabilities of classes (a softmax), which tell strangers apart badly."
            f" Take a value before it: --output {deeper}"
        )
    return words


def _examples(shape: PictureInput) -> NDArray[np.uint8]:
    """Return (7, h, w, channels): coarse and fine noise, and drawn shapes."""
    import cv2

    rng = np.random.default_rng(0)
    size = (shape.height, shape.width)
    made = [rng.integers(0, 256, (*size, shape.channels), np.uint8) for _ in range(2)]
    for cells in (4, 9):
        coarse = rng.integers(0, 256, (cells, cells, shape.channels), np.uint8)
        made.append(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(*size, shape.channels))
    for _ in range(3):
        drawn = np.full((*size, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(5):
            centre = (int(rng.integers(shape.width)), int(rng.integers(shape.height)))
            colour = [int(c) for c in rng.integers(0, 256, 3)]
            cv2.circle(drawn, centre, max(2, int(rng.integers(2, max(3, min(size) // 3)))), colour, -1)
        made.append(drawn[..., : shape.channels])
    return np.stack(made)


def _original(
    model: Any, shape: PictureInput, value: str, preparation: Preparation, pictures: NDArray[np.uint8]
) -> Vectors:
    """Return the unit vectors (n, d) of the network by itself, each picture alone. Raises BadInput."""
    import onnxruntime
    from onnx import ValueInfoProto

    if value not in {v.name for v in model.graph.output}:
        copy = type(model)()
        copy.CopyFrom(model)
        copy.graph.output.append(ValueInfoProto(name=value))
        model = copy
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        prepared = shape.arranged(preparation.applied(pictures))
        rows = [session.run([value], {shape.name: one[None]})[0] for one in prepared]
    except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no public base class
        raise BadInput("The network cannot be run.", str(error).splitlines()[0][:300]) from None
    if not isinstance(rows[0], np.ndarray) or rows[0].dtype.kind != "f":
        raise BadInput(
            f"{value} is no vector of floats.", "Labels cannot be compared.", "Choose another: --output NAME"
        )
    if any(np.shape(row) != np.shape(rows[0]) for row in rows):
        raise BadInput(
            f"{value} has another length for each picture.", "Such outputs are of detectors.", "See --output."
        )
    flat = np.stack([np.asarray(row, np.float64).reshape(-1) for row in rows])
    if flat.shape[1] > 65536:
        raise BadInput(f"{value} has {flat.shape[1]:,} numbers a picture.", "65,536 are possible.", "See --output.")
    lengths = np.linalg.norm(flat, axis=1)
    if not np.isfinite(flat).all() or lengths.min() < 1e-6:
        raise BadInput(
            f"{value} has vectors that are not finite, or of no length.",
            "They have no direction to compare.",
            "Look at --mean, --std and --output.",
        )
    unit: Vectors = (flat / lengths[:, None]).astype(np.float32)
    if float(np.linalg.norm(unit - unit[0], axis=1).max()) < 1e-4:
        raise BadInput(f"{value} is the same for every picture.", "Nothing can be told apart by it.", "See --output.")
    return unit
