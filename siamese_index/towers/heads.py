"""A head behind a network that stays as it is: both as one graph, and the network taken out of it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from siamese_index.errors import Damaged, NotInstalled

from .card import Card
from .tower_file import TowerFile

FEATURES = "siamese_index/features"  # the value between the two
_HEAD = "siamese_index/head/"


def with_head(network: bytes, head: bytes) -> bytes:
    """Return the graph in which `head`, from vectors to vectors, takes what `network` gives.

    Raises NotInstalled, or Damaged where the two speak of different operators. Whoever calls compares the answers.
    """
    onnx = _onnx()
    first, second = onnx.load_from_string(network), onnx.load_from_string(head)
    opset, later = _opset(first), _opset(second)
    if opset != later:
        try:  # a head is a few plain operators; a network may be anything
            second = onnx.version_converter.convert_version(second, opset)
        except Exception as error:  # noqa: BLE001  # the converter's errors share no base class
            raise Damaged(
                "The head cannot be put behind this network.", f"{error} (operator set {later} to {opset})."
            ) from None
    graph, behind = first.graph, second.graph
    _rename(graph, {graph.output[0].name: FEATURES})
    names = {value: f"{_HEAD}{value}" for node in behind.node for value in (*node.input, *node.output) if value}
    names |= {tensor.name: f"{_HEAD}{tensor.name}" for tensor in behind.initializer}
    names[behind.input[0].name] = FEATURES
    _rename(behind, names)
    for node in behind.node:
        node.name = f"{_HEAD}{node.name}"
    graph.node.extend(behind.node)
    graph.initializer.extend(behind.initializer)
    del graph.output[:]
    graph.output.extend(behind.output)
    del graph.value_info[:]
    first.ir_version = max(first.ir_version, second.ir_version if opset == later else 4)
    return bytes(first.SerializeToString(deterministic=True))


def without_head(file: TowerFile) -> TowerFile:
    """Return the tower whose network a head was put behind. Raises Damaged, NotInstalled."""
    onnx = _onnx()
    model = onnx.load_from_string(file.onnx)
    graph, tuned = model.graph, file.card.tuned or {}
    by = {name: node for node in graph.node for name in node.output}
    dimension = tuned.get("dimension")
    if FEATURES not in by or not isinstance(dimension, int):
        raise Damaged("The tower's network cannot be taken out of it.", "Its card says that a head was put behind it.")
    wanted, waiting = set(), [FEATURES]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += by[name].input if name in by else []
    kept = [type(node).FromString(node.SerializeToString()) for node in graph.node if wanted & set(node.output)]
    constants = [type(t).FromString(t.SerializeToString()) for t in graph.initializer if t.name in wanted]
    del graph.node[:], graph.initializer[:], graph.output[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(constants)
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    rows = batch.dim_value or batch.dim_param or None
    graph.output.append(onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, [rows, dimension]))
    card: Card = replace(file.card, dimension=dimension, held_out={})
    return TowerFile(bytes(model.SerializeToString(deterministic=True)), None, card, detector=file.detector)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                values[i] = names.get(name, name)
    for value in (*graph.initializer, *graph.output):
        value.name = names.get(value.name, value.name)


def _opset(model: Any) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.version_converter
    except ImportError:
        raise NotInstalled("Putting a head behind a network needs onnx.", remedy="pip install onnx") from None
    return onnx
