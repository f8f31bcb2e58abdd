"""Networks of others as towers: equal to the original, one at a time where they must be, refused with the reason."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from siamese_index import BadInput, Gallery, Missing, Tower, TowerFile
from siamese_index.samples import images
from siamese_index.towers.composing import Preparation
from siamese_index.towers.foreign import PRESETS, import_network
from tests.towers.networks_of_others import linear, with_random_weights


@pytest.fixture
def saved(tmp_path):
    def save(model, name="net.onnx"):
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return save


def opened(imported):
    return Tower(imported.file.onnx, imported.file.card, imported.file.id)


def pictures(shape, count=5, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def by_itself(path, prepared, output=None):
    """Run the network as its maker would, one picture at a time; (n, d) of unit length."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name, wanted = session.get_inputs()[0].name, output or session.get_outputs()[0].name
    rows = np.stack([session.run([wanted], {name: one[None]})[0].reshape(-1) for one in prepared])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# -- somebody's face embedder -----------------------------------------------------------------------


def test_two_exports_of_one_face_embedder_equal_their_originals_and_each_other(real_models):
    seen = pictures((150, 150, 3))
    plain, told = real_models("face_embedder_rgb.onnx"), real_models("face_embedder_bgr_unnormalised.onnx")
    first = opened(import_network(plain))
    mean = np.array([104.298, 117.001, 122.782], np.float32)
    second = opened(import_network(told, Preparation("bgr", tuple(mean.tolist()), (255.0,))))
    rgb = seen.astype(np.float32).transpose(0, 3, 1, 2)
    bgr = ((seen[..., ::-1].astype(np.float32) - mean) / 255).transpose(0, 3, 1, 2)
    assert np.abs(first.embed(seen) - by_itself(plain, rgb)).max() <= 1e-5
    assert np.abs(second.embed(seen) - by_itself(told, np.ascontiguousarray(bgr))).max() <= 1e-5
    assert np.abs(first.embed(seen) - second.embed(seen)).max() <= 1e-4
    swapped = opened(import_network(told, Preparation("rgb", tuple(mean.tolist()), (255.0,))))
    assert np.abs(first.embed(seen) - swapped.embed(seen)).max() > 1e-2
    assert first._at_once == 64


def test_presets_are_measured_beside_each_other_and_the_best_is_named(sidx, real_models, real_data, tmp_path):
    faces, network = real_data("orl_faces.zip") / "orl_faces", str(real_models("face_embedder_rgb.onnx"))
    done = sidx(
        "towers", "import", network, "-o", "f.tower", "--preset", "imagenet", "--data", str(faces), "--fpir", "0.05"
    )
    rows = {row["preset"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0 and set(rows) == set(PRESETS), done.stderr
    assert [name for name, row in rows.items() if row["written"]] == ["imagenet"]
    assert rows["raw"]["rank1"] > 0.95 > rows["imagenet"]["rank1"] and rows["raw"]["fnir"] < 0.2
    assert "With raw the same network misses fewer" in done.stderr
    file = TowerFile.read(tmp_path / "f.tower")
    assert len(file.cohort) == 400 and file.card.held_out["rank1"] == rows["imagenet"]["rank1"]
    enrolled = sidx("enroll", "s1", str(faces / "s1" / "1.pgm"), "--tower", "f.tower", "-g", "f.gallery")
    assert enrolled.returncode == 0, enrolled.stderr


# -- networks of many makers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["squeezenet", "shufflenet", "inception_v1", "inception_v2", "densenet121", "resnet50"]
)
def test_networks_of_the_onnx_tests_import_and_equal_the_original(name, saved):
    """The three with over 100 million weights are left out here; they passed, too."""
    model = with_random_weights(name)
    last = model.graph.node[-1]
    output = last.input[0] if last.op_type == "Softmax" else model.graph.output[0].name
    imported = import_network(saved(model), Preparation(std=(255.0,)), output=output)
    seen = pictures((224, 224, 3), 3)
    with_output = with_random_weights(name)
    if output != with_output.graph.output[0].name:
        with_output.graph.output.append(onnx.ValueInfoProto(name=output))
    wanted = by_itself(saved(with_output, "o.onnx"), (seen.astype(np.float32) / 255).transpose(0, 3, 1, 2), output)
    tower = opened(imported)
    assert np.abs(tower.embed(seen) - wanted).max() <= 1e-5
    assert tower._at_once > 1  # the batch of 1 was a habit of its exporter


def test_a_softmax_is_warned_of_and_the_value_before_it_named(saved):
    path = saved(with_random_weights("squeezenet"))
    (word,) = import_network(path).words
    assert "softmax" in word
    assert import_network(path, output=word.split("--output ")[1]).words == ()


# -- layouts, types, batches ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "seen"),
    [
        (("n", 3, 12, 10), TensorProto.FLOAT, (12, 10, 3)),
        (("n", 12, 10, 3), TensorProto.FLOAT, (12, 10, 3)),
        (("n", 1, 12, 10), TensorProto.FLOAT, (12, 10, 1)),
        ((1, 3, 12, 10), TensorProto.FLOAT, (12, 10, 3)),
        (("n", 12, 10, 3), TensorProto.UINT8, (12, 10, 3)),
        (("n", 3, 12, 10), TensorProto.FLOAT16, (12, 10, 3)),
    ],
)
def test_layout_type_and_size_are_read_from_the_graph(saved, shape, kind, seen):
    nodes = [
        helper.make_node("Cast", ["picture"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
    ]
    path = saved(linear(nodes, shape=shape, kind=kind))
    tower = opened(import_network(path))
    given = pictures(seen)
    laid = given.transpose(0, 3, 1, 2) if shape[1] in (1, 3) else given
    types = {TensorProto.FLOAT: np.float32, TensorProto.UINT8: np.uint8, TensorProto.FLOAT16: np.float16}
    wanted = by_itself(path, np.ascontiguousarray(laid).astype(types[kind]))
    assert tower.shape == seen
    assert np.abs(tower.embed(given) - wanted).max() <= 1e-5


def test_a_network_that_takes_any_size_is_told_one(saved):
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "small"], ["vector"]),
    ]
    small = {"small": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)}
    path = saved(linear(nodes, shape=("n", 3, "h", "w"), further=small))
    with pytest.raises(BadInput, match="any size"):
        import_network(path)
    assert opened(import_network(path, size=(20, 30))).shape == (20, 30, 3)
    with pytest.raises(BadInput, match="no others"):
        import_network(saved(linear()), size=(20, 30))


def quantised():
    nodes = [
        helper.make_node("Flatten", ["picture"], ["flat"], axis=1),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "eights", "zero"], ["product"]),
        helper.make_node("Cast", ["product"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["vector"]),
    ]
    eights = np.random.default_rng(0).integers(-100, 100, (192, 16)).astype(np.int8)
    return linear(nodes, further={"eights": eights})


def with_batch_statistics():
    nodes = [
        helper.make_node("BatchNormalization", ["picture", "scale", "shift", "mean before", "var before"],
                         ["normal", "mean", "var"], training_mode=1),
        helper.make_node("Flatten", ["normal"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
    ]  # fmt: skip
    # All different: ONNX Runtime makes one of equal constants, and changes those of the statistics as it runs.
    rng = np.random.default_rng(0)
    names = ("scale", "shift", "mean before", "var before")
    return linear(nodes, further={name: rng.uniform(0.5, 1.5, 3).astype(np.float32) for name in names})


def with_a_class_token():
    """As vision transformers are exported: a token of a batch of 1 is put before the others."""
    nodes = [
        helper.make_node("Reshape", ["picture", "tokens"], ["sequence"]),
        helper.make_node("Concat", ["token", "sequence"], ["all"], axis=1),
        helper.make_node("Flatten", ["all"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "more"], ["vector"]),
    ]
    rng = np.random.default_rng(0)
    further = {
        "tokens": np.array([1, 3, 64], np.int64),
        "token": rng.normal(size=(1, 1, 64)).astype(np.float32),
        "more": rng.normal(size=(256, 16)).astype(np.float32),
    }
    return linear(nodes, shape=(1, 3, 8, 8), further=further)


@pytest.mark.parametrize("make", [quantised, with_batch_statistics, with_a_class_token])
def test_what_depends_on_its_batch_is_served_one_at_a_time(make, saved, tmp_path):
    path = saved(make())
    imported = import_network(path)
    assert imported.file.card.input.at_once == 1 and "one picture at a time" in imported.words[-1]
    imported.file.write(tmp_path / "t.tower")
    tower = Tower.open(tmp_path / "t.tower")
    seen = pictures((8, 8, 3), 9)
    wanted = by_itself(path, np.ascontiguousarray(seen.transpose(0, 3, 1, 2)).astype(np.float32))
    assert np.abs(tower.embed(seen) - wanted).max() <= 1e-5


def test_a_constant_shape_that_begins_with_one_takes_any_batch(saved):
    nodes = [
        helper.make_node("Reshape", ["picture", "flat shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
    ]
    path = saved(linear(nodes, shape=(1, 3, 8, 8), further={"flat shape": np.array([1, -1], np.int64)}))
    imported = import_network(path)
    assert imported.file.card.input.at_once is None and imported.words == ()


def test_weights_that_lie_in_a_file_of_their_own_become_a_part_of_the_tower(tmp_path):
    model = linear()
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")
    imported = import_network(tmp_path / "net.onnx")
    (tmp_path / "weights.bin").unlink()
    assert opened(imported).embed(pictures((8, 8, 3))).shape == (5, 16)
    with pytest.raises((BadInput, Missing)):
        import_network(tmp_path / "net.onnx")


# -- what cannot serve ------------------------------------------------------------------------------


def nan():
    return linear([helper.make_node("Flatten", ["picture"], ["flat"], axis=1), helper.make_node("Sub", ["flat", "flat"], ["z"]),
                   helper.make_node("Div", ["z", "z"], ["vector"])])  # fmt: skip


def zero():
    return linear([helper.make_node("Flatten", ["picture"], ["flat"], axis=1), helper.make_node("Sub", ["flat", "flat"], ["vector"])])  # fmt: skip


def constant():
    return linear([*zero().graph.node[:1], helper.make_node("Sub", ["flat", "flat"], ["z"]), helper.make_node("Cos", ["z"], ["vector"])])  # fmt: skip


def labels():
    flat = [*linear().graph.node, helper.make_node("ArgMax", ["vector"], ["label"], axis=1)]
    return linear(flat, outputs=[helper.make_tensor_value_info("label", TensorProto.INT64, ["n", 1])])


def two_inputs():
    return linear(inputs=(helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1]),))


def text():
    return linear(shape=("n", 128), kind=TensorProto.INT64)


def unknown():
    return linear([helper.make_node("Frobnicate", ["picture"], ["vector"], domain="com.example")])


@pytest.mark.parametrize(
    ("make", "why"),
    [(nan, "not finite"), (zero, "no length"), (constant, "same for every picture"), (labels, "labels or text"),
     (two_inputs, "one picture"), (text, "no pictures"), (unknown, "cannot be run"),
     (lambda: linear(shape=("n", 4, 8, 8)), "1 or 3 channels"), (lambda: linear(opset=6), "opset 6")],
)  # fmt: skip
def test_a_network_that_cannot_serve_is_refused_with_the_reason(make, why, saved):
    with pytest.raises(BadInput, match=why):
        import_network(saved(make()))


@pytest.mark.parametrize(
    "preparation", [{"order": "gbr"}, {"mean": (1.0, 2.0)}, {"std": (0.0,)}, {"std": (1.0, float("nan"), 1.0)}]
)
def test_a_preparation_that_makes_no_sense_is_refused(preparation, saved):
    with pytest.raises(BadInput):
        import_network(saved(linear()), Preparation(**preparation))


def test_what_is_no_network_is_refused(tmp_path, saved):
    with pytest.raises(Missing):
        import_network(tmp_path / "nothing.onnx")
    (tmp_path / "words.onnx").write_text("hello")
    with pytest.raises(BadInput, match="not an ONNX network"):
        import_network(tmp_path / "words.onnx")
    with pytest.raises(BadInput, match="no value 'nowhere'"):
        import_network(saved(linear()), output="nowhere")


# -- the commands -----------------------------------------------------------------------------------


def test_a_network_goes_the_way_from_file_to_answer(sidx, saved, tmp_path, person):
    """Import, enroll, identify, take it out, and put it into another gallery."""
    saved(linear(shape=("n", 1, 32, 32)))
    refused = sidx("init", "--tower", "net.onnx", "-g", "g.gallery")
    assert refused.returncode == 6 and "sidx towers import net.onnx -o net.tower" in refused.stderr
    made = sidx("towers", "import", "net.onnx", "-o", "net.tower", "--mean", "127.5", "--std", "127.5")
    assert made.returncode == 0 and json.loads(made.stdout)["largest_difference"] <= 1e-5, made.stderr
    for n in range(3):
        done = sidx("enroll", f"p{n}", str(person(n, 0)), "--tower", "net.tower", "-g", "g.gallery")
        assert done.returncode == 0, done.stderr
    answer = json.loads(sidx("identify", str(person(1, 0)), "--threshold", "0.01", "-g", "g.gallery").stdout)
    assert (answer["verdict"], answer["identity"]) == ("match", "p1")
    with Gallery.open(tmp_path / "g.gallery") as gallery:
        kept = gallery.picture(2)
        prepared = (images.fit(images.decode(kept, 1), 32, 32).astype(np.float32) - 127.5) / 127.5
        wanted = by_itself(tmp_path / "net.onnx", prepared.transpose(2, 0, 1)[None])
        assert np.abs(gallery.template(2) - wanted[0]).max() <= 1e-5
    assert sidx("towers", "export", "-o", "again.tower", "-g", "g.gallery").returncode == 0
    assert TowerFile.read(tmp_path / "again.tower").id == TowerFile.read(tmp_path / "net.tower").id
    assert sidx("towers", "export", "--to", "onnx", "-o", "out.onnx", "-g", "g.gallery").returncode == 0
    assert (tmp_path / "out.onnx").read_bytes() == TowerFile.read(tmp_path / "net.tower").onnx
    assert sidx("towers", "export", "--to", "paper", "-g", "g.gallery").returncode == 2
    other = sidx("towers", "import", "net.onnx", "-o", "raw.tower")
    assert other.returncode == 0
    added = sidx("towers", "add", "raw.tower", "-g", "g.gallery")
    assert "is a candidate" in added.stderr
    shown = json.loads(sidx("towers", "show", "-g", "g.gallery").stdout)
    assert shown["imported"]["mean"] == [127.5] and shown["imported"]["file"] == "net.onnx"


@pytest.mark.parametrize(
    "words",
    [["--preset", "pm1", "--mean", "3"], ["--preset", "best"], ["--mean", "a,b"], ["--fpir", "0.1"], ["--size", "big"],
     ["--size", "1x2x3"], ["--order", "gbr"], ["--frame", "corner"]],
)  # fmt: skip
def test_import_options_that_make_no_sense_are_refused(sidx, saved, words):
    saved(linear())
    done = sidx("towers", "import", "net.onnx", "-o", "net.tower", *words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_import_overwrites_nothing_but_a_tower(sidx, saved, tmp_path):
    saved(linear())
    (tmp_path / "diary.txt").write_text("dear diary")
    assert sidx("towers", "import", "net.onnx", "-o", "diary.txt").returncode == 2
    assert sidx("towers", "import", "net.onnx", "-o", "net.onnx").returncode == 2
    assert (tmp_path / "diary.txt").read_text() == "dear diary"


# -- what a hostile user found ----------------------------------------------------------------------


def squeezed():
    """As .squeeze() is exported: of a batch of one the axis of the batch is dropped, too."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["mean"]),
        helper.make_node("Squeeze", ["mean"], ["vector"]),
    ]
    return linear(nodes)


def half():
    nodes = [
        helper.make_node("Flatten", ["picture"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "halves"], ["vector"]),
    ]
    halves = np.random.default_rng(0).normal(0, 0.01, (192, 16)).astype(np.float16)
    outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT16, ["n", 16])]
    return linear(nodes, kind=TensorProto.FLOAT16, further={"halves": halves}, outputs=outputs)


def with_a_bias_of_one_row():
    nodes = [
        helper.make_node("Reshape", ["bias", "row"], ["across"]),
        helper.make_node("Add", ["picture", "across"], ["moved"]),
        helper.make_node("Flatten", ["moved"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["vector"]),
    ]
    return linear(nodes, further={"bias": np.ones(3, np.float32), "row": np.array([1, -1, 1, 1], np.int64)})


@pytest.mark.parametrize("make", [squeezed, half, with_a_bias_of_one_row])
def test_networks_that_are_exported_so_serve_one_and_many_alike(make, saved, tmp_path):
    path = saved(make())
    imported = import_network(path)
    tower = opened(imported)
    seen = pictures((8, 8, 3), 70)
    laid = np.ascontiguousarray(seen.transpose(0, 3, 1, 2)).astype(np.float16 if make is half else np.float32)
    wanted = by_itself(path, laid)
    allowed = 1e-3 if make is half else 1e-5
    assert tower._at_once == 64
    assert np.abs(tower.embed(seen) - wanted).max() <= allowed
    assert np.abs(tower.embed(seen[:1]) - wanted[:1]).max() <= allowed


def test_what_was_exported_is_imported_again(saved, tmp_path):
    first = import_network(saved(linear()), Preparation(std=(255.0,)))
    (tmp_path / "again.onnx").write_bytes(first.file.onnx)
    second = import_network(tmp_path / "again.onnx")
    seen = pictures((8, 8, 3))
    assert np.abs(opened(second).embed(seen) - opened(first).embed(seen)).max() <= 1e-5


def of_any_length():
    nodes = [helper.make_node("NonZero", ["picture"], ["found"]), helper.make_node("Cast", ["found"], ["vector"], to=1)]
    return linear(nodes)


def in_a_circle():
    return linear([helper.make_node("Identity", ["a"], ["vector"]), helper.make_node("Identity", ["vector"], ["a"])])


@pytest.mark.parametrize(
    ("make", "preparation", "why"),
    [(of_any_length, {}, "another length"), (in_a_circle, {}, "cannot be run"),
     (lambda: linear(shape=(4, 3, 8, 8)), {}, "4 pictures at a time"),
     (lambda: linear(shape=("n", 3, 4100, 8)), {}, "a side"),
     (lambda: linear(kind=TensorProto.UINT8), {"std": (255.0,)}, "whole numbers")],
)  # fmt: skip
def test_more_that_cannot_serve_is_refused_with_the_reason(make, preparation, why, saved):
    with pytest.raises(BadInput, match=why):
        import_network(saved(make()), Preparation(**preparation))
