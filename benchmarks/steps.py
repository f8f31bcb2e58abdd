"""A fed step beside a bare one: `steps.py RECIPE FOLDER` prints the ratios as JSON. In a process of its own: Keras."""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from siamese_index.samples.sources import items
from siamese_index.training import losses, recipe
from siamese_index.training.batch_builder import BatchBuilder, Sampler, feed
from siamese_index.training.data import Data
from siamese_index.training.towers import build

STEPS, RUNS = 20, 7

choice = recipe.choose(items(sys.argv[2]), recipe.named(sys.argv[1]))
chosen = choice.recipe
data = Data(items(sys.argv[2]), choice.shape, list, frame=choice.recipe.input.frame)
good = np.flatnonzero(data.whose >= 0)
known = data.take(good[:500])
sampler = Sampler(good, data.whose[good].astype(np.int64), chosen.feeding, 0)
builder = BatchBuilder(data, sampler, chosen.augment, known)
tower = build(choice.shape, 128, chosen.tower, known)
head, loss = losses.objective(
    chosen.loss["name"], sampler.identities, {k: v for k, v in chosen.loss.items() if k != "name"}
)
model = keras.Model(tower.input, head(tower.output))
model.compile(optimizer=keras.optimizers.AdamW(1e-3, clipnorm=1.0), loss=loss)
x, y = builder.build(0)


def bare():
    for _ in range(STEPS):
        model.train_on_batch(x, y)


def fed():
    model.fit(feed(builder, 0, STEPS), epochs=1, verbose=0, shuffle=False)


bare(), fed()
ratios = []
for _ in range(RUNS):
    seconds = []
    for run in (fed, bare):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    ratios.append(seconds[0] / seconds[1])
print(json.dumps({"median": float(np.median(ratios)), "runs": RUNS, "all": [round(r, 3) for r in ratios]}))
