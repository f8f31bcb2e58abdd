"""The gate between Keras and the tower file. Loads Keras: runs in a child process."""

import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Tower
from siamese_index.towers.adapting import whitened
from siamese_index.training.convert import convert


@pytest.mark.keras
def test_a_graph_that_answers_otherwise_than_the_model_is_not_exported():
    script = """
        import keras, numpy as np, pytest
        from siamese_index import Cohort, Damaged
        from siamese_index.towers.card import Card, TowerInput
        from siamese_index.training import towers
        from siamese_index.training.export import export
        from siamese_index.training.networks import Networks

        card = Card(TowerInput((16, 16, 1)), 8)
        pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1), np.uint8)
        sound = towers.build((16, 16, 1), 8, {"name": "resnet", "stages": [2]}, pixels)
        made = export(Networks(sound, sound, sound, False), card, Cohort(), pixels, pixels)
        assert made.keras[:2] == b"PK" and len(made.id) == 64

        # As if the converter had a bug: the graph that it writes is of another model.
        other = towers.build((16, 16, 1), 8, {"name": "resnet", "stages": [2]}, pixels)
        sound.export = other.export
        other(np.zeros((1, 16, 16, 1), "float32"))
        with pytest.raises(Damaged, match="does not answer as the trained one"):
            export(Networks(sound, sound, sound, False), card, Cohort(), pixels, pixels)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.keras
def test_a_tower_becomes_a_keras_model_and_one_for_litert_that_answer_as_it_does(tower_file, sidx, person, tmp_path):
    """Also with a whitening behind it, as a training leaves one where it is proved."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0].astype(np.float32)
    made = whitened(tower_file, turn, np.full(32, 0.05, np.float32))
    Gallery.create(tmp_path / "g.gallery", made).close()
    for to, name in (("keras", "a.keras"), ("litert", "a.tflite")):
        done = sidx("towers", "export", "--to", to, "-o", name, "-g", "g.gallery")
        assert done.returncode == 0, done.stderr
    pixels = Tower.of(made).prepare(person(0, 0).read_bytes())
    expected = Tower.of(made).embed([pixels])
    np.save(tmp_path / "pixels.npy", pixels[None].astype(np.float32))
    script = """
        import keras, numpy as np, tensorflow as tf
        pixels = np.load("pixels.npy")
        model = keras.saving.load_model("a.keras", compile=False, safe_mode=True)
        lite = tf.lite.Interpreter("a.tflite")
        lite.allocate_tensors()
        lite.set_tensor(lite.get_input_details()[0]["index"], pixels)
        lite.invoke()
        np.save("found.npy", [model.predict(pixels, verbose=0), lite.get_tensor(lite.get_output_details()[0]["index"])])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.abs(np.load(tmp_path / "found.npy") - expected).max() < 1e-4


def test_without_a_keras_model_of_the_whole_tower_it_says_why(tower_file, sidx, tmp_path):
    Gallery.create(tmp_path / "g.gallery", replace(tower_file, keras=None)).close()
    done = sidx("towers", "export", "--to", "keras", "-g", "g.gallery")
    assert done.returncode == 2 and "--to onnx" in done.stderr
    assert sidx("towers", "export", "--to", "torch", "-g", "g.gallery").returncode == 2
    with pytest.raises(BadInput, match="head alone"):
        convert(replace(tower_file, card=replace(tower_file.card, tuned={"from": "x", "dimension": 32})), "litert")
