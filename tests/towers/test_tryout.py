"""Towers of strangers: what cannot embed two pictures within limits is refused before a gallery takes it in."""

import io
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from siamese_index import Damaged, Gallery, Tower, TowerFile
from siamese_index.towers import tryout
from siamese_index.towers.card import Card, TowerInput


def network(nodes, *, further=(), inputs=(), dimension=4, shape=("n", 8, 8, 1)):
    """Return a graph from pixels to `template` by these nodes, in front of what brings that to unit length."""
    weights = {"weights": np.random.default_rng(0).normal(size=(64, dimension)).astype(np.float32)}
    graph = helper.make_graph(
        [*nodes, helper.make_node("LpNormalization", ["value"], ["template"], axis=1, p=2)],
        "tower",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape), *inputs],
        [helper.make_tensor_value_info("template", TensorProto.FLOAT, [shape[0], dimension])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()] + list(further),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


FLAT = [
    helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
    helper.make_node("MatMul", ["flat", "weights"], ["value"]),
]


def endless():
    """A loop that runs 2^62 times."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["goes_on"]),
            helper.make_node("Mul", ["x", "x"], ["squared"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("squared", TensorProto.FLOAT, None),
        ],
    )
    many = numpy_helper.from_array(np.array(2**62, np.int64), "many")
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["start"]),
        helper.make_node("Loop", ["many", "", "start"], ["value"], body=body),
    ]
    return network(nodes, further=[many])


def greedy():
    """Sixteen gigabytes of zeros, summed up."""
    size = numpy_helper.from_array(np.array([1 << 32], np.int64), "size")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "zero"], ["value"]),
    ]
    return network(nodes, further=[size])


def tower(model, shape=(8, 8, 1), dimension=4):
    return TowerFile(model.SerializeToString(), None, Card(TowerInput(shape), dimension))


second = helper.make_tensor_value_info("second", TensorProto.FLOAT, ["n", 8, 8, 1])


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (tower(network(FLAT), dimension=7), "its card says"),
        (tower(network(FLAT), shape=(9, 9, 1)), "cannot be run"),
        (tower(network(FLAT), shape=(8, 8, 3)), "cannot be run"),
        (tower(network(FLAT, shape=("n", 1, 8, 8))), "cannot be run"),
        (tower(network(FLAT, inputs=[second])), "cannot be run"),
        (tower(network([helper.make_node("Nonsense", ["pixels"], ["value"])])), "cannot be opened"),
        (tower(network([*FLAT[:1], helper.make_node("Sub", ["flat", "flat"], ["value"])], dimension=64), (8, 8, 1), 64),
         "not of unit length"),
        (tower(greedy()), "memory"),
    ],
    ids=["dimension", "size", "channels", "channels first", "two inputs", "unknown operator", "zero", "greedy"],
)  # fmt: skip
def test_what_cannot_embed_is_refused_with_the_reason(file, why, tmp_path):
    with pytest.raises(Damaged, match=why):
        Gallery.create(tmp_path / "g.gallery", file)
    assert not (tmp_path / "g.gallery").exists()


def test_what_never_ends_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(tryout, "SECONDS", 3.0)
    with pytest.raises(Damaged, match="more than 3 s|ended the process"):
        Gallery.create(tmp_path / "g.gallery", tower(endless()))


def test_a_sound_tower_is_tried_once_and_taken(tmp_path, monkeypatch):
    file = tower(network(FLAT))
    Gallery.create(tmp_path / "a.gallery", file).close()
    monkeypatch.setattr(tryout.subprocess, "run", None)  # a second try would fail
    Gallery.create(tmp_path / "b.gallery", file).close()


def test_a_candidate_is_tried_too(gallery):
    with pytest.raises(Damaged, match="cannot be run"):
        gallery.add_tower(tower(network(FLAT), shape=(9, 9, 1)))
    assert len(gallery.towers()) == 1


def test_weights_in_other_files_are_refused(tmp_path):
    model = network(FLAT)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    TowerFile((tmp_path / "net.onnx").read_bytes(), None, tower(model).card).write(tmp_path / "a.tower")
    with pytest.raises(Damaged, match="weights in other files"):
        TowerFile.read(tmp_path / "a.tower")


def test_a_compressed_calibration_is_refused_unread(tmp_path):
    tower(network(FLAT)).write(tmp_path / "a.tower")
    packed = io.BytesIO()
    np.savez_compressed(packed, names=np.zeros(0, "U1"), digests=np.zeros(0, "U64"), vectors=np.zeros((10_000_000, 4)))
    with zipfile.ZipFile(tmp_path / "a.tower") as old, zipfile.ZipFile(tmp_path / "b.tower", "w") as new:
        for name in old.namelist():
            new.writestr(name, packed.getvalue() if name == "calibration.npz" else old.read(name))
    with pytest.raises(Damaged, match="compressed"):
        TowerFile.read(tmp_path / "b.tower")


@pytest.mark.parametrize("dimension", [-5, 1.5, True, 10**12, "8", None])
def test_a_card_says_no_nonsense(tmp_path, dimension, sidx):
    file = tower(network(FLAT))
    file.write(tmp_path / "a.tower")
    import json

    card = {**file.card.to_dict(), "dimension": dimension}
    with zipfile.ZipFile(tmp_path / "a.tower") as old, zipfile.ZipFile(tmp_path / "b.tower", "w") as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(card) if name == "card.json" else old.read(name))
    with pytest.raises(Damaged, match="dimension"):
        TowerFile.read(tmp_path / "b.tower")


def test_the_command_refuses_in_three_lines(tmp_path, sidx):
    tower(network(FLAT), shape=(9, 9, 1)).write(tmp_path / "a.tower")
    done = sidx("init", "--tower", "a.tower", "-g", "g.gallery")
    assert done.returncode == 6 and len(done.stderr.splitlines()) == 3 and "bug" not in done.stderr
    shutil.rmtree(tmp_path / "none", ignore_errors=True)


def test_a_tower_that_fails_while_it_serves_says_so():
    opened = Tower.of(replace(tower(network(FLAT)), card=Card(TowerInput((9, 9, 1)), 4)))
    with pytest.raises(Damaged, match="cannot be run"):
        opened.embed(np.zeros((1, 9, 9, 1), np.uint8))
