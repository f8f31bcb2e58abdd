"""A graph from pixels to unit vectors: nodes before and behind somebody's network, and any batch if it allows that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput

Numbers = tuple[float, ...]
FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}  # by ONNX' number of the type
UINT8 = 2


@dataclass(frozen=True)
class Preparation:
    """What is done to pixels (0..255, RGB) before the network: channels reordered, then (pixel - mean) / std."""

    order: str = "rgb"  # or bgr: how the network takes colours
    mean: Numbers = (0.0,)  # one, or one a channel, in the network's order
    std: Numbers = (1.0,)

    def __post_init__(self) -> None:
        for numbers in (self.mean, self.std):
            kinds = isinstance(numbers, (tuple, list)) and all(isinstance(n, (int, float)) for n in numbers)
            if not kinds or not numbers:
                raise BadInput(f"{numbers!r} is no mean or standard deviation.", "Expected numbers, such as (127.5,).")
        if self.order not in ("rgb", "bgr"):
            raise BadInput(f"There is no order {self.order!r}.", "There are rgb and bgr.")
        if not all(np.isfinite(self.mean)) or not all(np.isfinite(self.std)) or not all(self.std):
            raise BadInput("A mean and a standard deviation are finite numbers, and the latter is not 0.")

    def applied(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return pixels (n, h, w, channels) as the network takes them, channels last."""
        ordered = pixels[..., ::-1] if self.order == "bgr" else pixels
        prepared: NDArray[np.float64] = (ordered.astype(np.float64) - np.asarray(self.mean)) / np.asarray(self.std)
        return prepared


@dataclass(frozen=True)
class PictureInput:
    """What a graph's picture input is."""

    name: str
    type: int
    channels_first: bool
    height: int
    width: int
    channels: int

    def arranged(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values (n, h, w, channels) in the layout and type of the input."""
        laid = np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self.channels_first else values
        return laid.astype(np.uint8 if self.type == UINT8 else FLOATS[self.type])


def has_halves(graph: Any) -> bool:
    """Whether a part of the graph is in float16."""
    values = (*graph.input, *graph.output)
    return any(tensor.data_type == 10 for tensor in graph.initializer) or any(
        value.type.tensor_type.elem_type == 10 for value in values
    )


def composed(model: Any, shape: PictureInput, value: str, preparation: Preparation, dimension: int, way: str) -> bytes:
    """Return the graph from float32 pixels (n, h, w, channels), RGB, to unit vectors (n, dimension)."""
    from onnx import TensorProto, helper, numpy_helper

    made = type(model)()
    made.CopyFrom(model)
    graph = made.graph
    nodes = list(graph.node)
    free = way != "one at a time"
    batch = "n" if free else 1
    our = _free_prefix(graph)
    pixels = helper.make_tensor_value_info(
        f"{our}pixels", TensorProto.FLOAT, [batch, shape.height, shape.width, shape.channels]
    )
    before: list[Any] = []
    last = pixels.name

    def add(kind: str, constant: NDArray[Any] | None = None, **options: Any) -> None:
        nonlocal last
        inputs = [last]
        if constant is not None:
            inputs.append(f"{our}{len(before)}")
            graph.initializer.append(numpy_helper.from_array(constant, inputs[1]))
        last = f"{our}before{len(before)}"
        before.append(helper.make_node(kind, inputs, [last], **options))

    if preparation.order == "bgr" and shape.channels == 3:
        add("Gather", np.array([2, 1, 0], np.int64), axis=3)
    if any(preparation.mean):
        add("Sub", np.asarray(preparation.mean, np.float32))
    if any(s != 1 for s in preparation.std):
        add("Div", np.asarray(preparation.std, np.float32))
    if shape.channels_first:
        add("Transpose", perm=[0, 3, 1, 2])
    if shape.type != TensorProto.FLOAT:
        add("Cast", to=shape.type)
    before.append(helper.make_node("Identity", [last], [shape.name]))
    behind = [
        helper.make_node("Cast", [value], [f"{our}floats"], to=TensorProto.FLOAT),
        # A network may drop the axis of a batch of one: its shape is made, not flattened.
        helper.make_node("Reshape", [f"{our}floats", f"{our}shape"], [f"{our}flat"]),
        helper.make_node("LpNormalization", [f"{our}flat"], [f"{our}template"], axis=1, p=2),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([-1, dimension], np.int64), f"{our}shape"))
    if way == "reshaped":
        _free_batch(graph, nodes, our)
    del graph.node[:]
    graph.node.extend([*before, *nodes, *behind])
    del graph.input[:]
    graph.input.append(pixels)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(f"{our}template", TensorProto.FLOAT, [batch, dimension]))
    del graph.value_info[:]
    made.ir_version = max(made.ir_version, 4)  # since then weights need not be listed as inputs
    return bytes(made.SerializeToString(deterministic=True))


def _free_batch(graph: Any, nodes: list[Any], our: str) -> None:
    """Let constant shapes that begin with a batch of 1 keep whatever batch comes in."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    for number, node in enumerate(nodes):
        if node.op_type != "Reshape" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        wanted = numpy_helper.to_array(constants[node.input[1]]).copy()
        if wanted.ndim != 1 or not len(wanted) or wanted[0] != 1:
            continue
        wanted[0] = -1 if not (wanted == -1).any() and not (wanted == 0).any() else 0
        name = f"{our}shape{number}"
        graph.initializer.append(numpy_helper.from_array(wanted, name))
        node.input[1] = name


def _free_prefix(graph: Any) -> str:
    """Return what no name in the graph begins with."""
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    number = 0
    while any(name.startswith(f"siamese_index/{number}/") for name in names):
        number += 1
    return f"siamese_index/{number}/"
