"""Backbones of keras.applications and functions of one's own. Run by test_fitting.py in a process of its own."""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import pytest

from siamese_index import BadInput, Missing, Tower
from siamese_index.samples.sources import items
from siamese_index.training import recipe, towers
from siamese_index.training.data import Source
from siamese_index.training.fit import Settings, fit

WORLD, FOLDER = map(Path, sys.argv[1:])
OWN = """
import keras
def tiny(shape, units=4):
    layers = keras.layers
    return keras.Sequential([keras.Input(shape), layers.AveragePooling2D(8), layers.Flatten(), layers.Dense(units)])
def nothing(shape):
    return 3
def broken(shape):
    return list(5)
"""


def made(tower, steps=2, **options):
    content = {"name": "mine", "tower": tower, "loss": {"name": "cosface"}, "input": {"size": 32}}
    mine = recipe.parse({**content, "feeding": {"batch": 8}, "fit": options})
    settings = Settings(steps=steps, dimension=16, holdout=0)
    return fit(Source(items(WORLD / "learn")), mine, settings, lambda said: None).file


def first_kernel(file):
    (FOLDER / "t.keras").write_bytes(file.keras)
    model = keras.saving.load_model(FOLDER / "t.keras", compile=False)
    return next(w for w in model.get_layer("backbone").weights if w.path.endswith("Conv1/kernel")).numpy()


theirs = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.35)
for layer in theirs.layers:  # as if it had been trained: its statistics are those of its input
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.0
theirs(np.random.default_rng(0).uniform(-1, 1, (16, 32, 32, 3)).astype("float32"), training=True)
theirs.save_weights(FOLDER / "mine.weights.h5")
backbone = {"name": "application:MobileNetV2", "alpha": 0.35, "weights": str(FOLDER / "mine.weights.h5")}

frozen = made(backbone, steps=2, frozen=0.99, average=0.0)
kernel = theirs.get_layer("Conv1").kernel.numpy()
assert np.array_equal(first_kernel(frozen), kernel), "frozen: the weights are those of the file"
thawed = made(backbone, steps=4, frozen=0.5, average=0.0)
assert not np.array_equal(first_kernel(thawed), kernel), "then it learns, too"
assert thawed.card.training.ended == "all steps"

half = made(backbone, precision="mixed_bfloat16")
assert Tower(half.onnx, half.card, half.id).dimension == 16  # exported in float32, and ONNX Runtime agreed

with pytest.raises(Missing, match="no such weights"):
    made({**backbone, "weights": "nowhere.h5"})
with pytest.raises(BadInput, match="has no 'MobileNet9'"):
    made({"name": "application:MobileNet9"})
with pytest.raises(BadInput, match="does not take these options"):
    made({"name": "application:MobileNetV2", "depth_of_field": 3})
with pytest.raises(BadInput, match="cannot be built for"):
    made({"name": "application:InceptionV3"})  # it wants 75 pixels and more
with pytest.raises(BadInput, match="no tower 'resnest'"):
    made({"name": "resnest"})

(FOLDER / "mymodels.py").write_text(OWN)
sys.path.insert(0, str(FOLDER))
own = made({"name": "mymodels:tiny", "units": 7})
assert own.card.training.recipe["tower"]["name"] == "mymodels:tiny" and own.card.dimension == 16
with pytest.raises(BadInput, match="returned int"):
    made({"name": "mymodels:nothing"})
with pytest.raises(Missing, match="cannot be found"):
    made({"name": "mymodels:absent"})
with pytest.raises(BadInput, match="does not take these options"):
    made({"name": "mymodels:tiny", "untis": 7})
with pytest.raises(BadInput, match=r"'mymodels:broken' failed.\nTypeError: 'int' object is not iterable"):
    made({"name": "mymodels:broken"})

# Statistics that keep 0.999 of themselves at each step would never arrive in so few: what serves has to be what learned.
slow = made({"name": "application:MobileNetV2", "alpha": 0.35}, steps=8)  # collapsed, it would be refused
shown = [item for _, item in items(WORLD / "learn")][:64]
vectors = Tower(slow.onnx, slow.card, slow.id).embed_samples([Path(path).read_bytes() for path in shown])
assert np.sqrt(2 - 2 * np.sum(vectors.mean(axis=0) ** 2)) > 0.5

# Keras' ways of preparing pixels, as layers that can be saved.
pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype("float32")
for name in ("MobileNetV2", "VGG16", "DenseNet121", "EfficientNetB0"):
    make = getattr(keras.applications, name)
    inputs = keras.Input((8, 8, 3))
    prepared = towers._preprocessed(inputs, make)
    ours = pixels if prepared is inputs else np.asarray(keras.Model(inputs, prepared)(pixels))
    wanted = sys.modules[make.__module__].preprocess_input(pixels.copy())
    assert np.allclose(ours, wanted, atol=1e-4), name
