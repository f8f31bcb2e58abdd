"""Networks that others made, for tests: the nine of onnx' own tests, and small ones with what goes wrong in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def with_random_weights(name: str, seed: int = 0) -> onnx.ModelProto:
    """Return one of the nine; they come with constants for weights, with which every picture is the same."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(seed)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(n) for n in shapes[node.input[0]])
        if len(shape) > 1:
            weights = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            weights = rng.uniform(0.5, 1.5, shape)
        graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    return model


def linear(
    nodes: list[onnx.NodeProto] | None = None,
    *,
    shape: tuple[int | str, ...] = ("n", 3, 8, 8),
    output: str = "vector",
    kind: int = TensorProto.FLOAT,
    further: dict[str, np.ndarray] | None = None,
    inputs: tuple[onnx.ValueInfoProto, ...] = (),
    outputs: tuple[onnx.ValueInfoProto, ...] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a network from pictures to 16 numbers: flattened and multiplied; `nodes` instead where they are given."""
    size = int(np.prod([n for n in shape[1:] if isinstance(n, int)]))
    weights = {"weights": np.random.default_rng(0).normal(0, 1 / size, (size, 16)).astype(np.float32)} | (further or {})
    default = [
        helper.make_node("Flatten", ["picture"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
    ]
    graph = helper.make_graph(
        nodes or default,
        "network",
        [helper.make_tensor_value_info("picture", kind, shape), *inputs],
        outputs or [helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], None])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
