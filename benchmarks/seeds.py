"""The recipes this project grew from, written afresh: their pairs, their feeding, their networks, their losses.

    python benchmarks/seeds.py {fashion-mnist|mnist|orl-faces} DATA LIMIT

trains one until it reaches the figure that it reports, or LIMIT seconds have passed, and prints a JSON
line with the seconds it took and where it stood. What is timed begins with the process.
"""

import json
import os
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops

from benchmarks.protocols import garments, impostors_and_genuine, one_each, orl_pairs, read


def siamese(arm, loss, optimizer):
    a, b = keras.Input(arm.input_shape[1:]), keras.Input(arm.input_shape[1:])
    difference = layers.Subtract()([arm(a), arm(b)])
    distance = ops.sqrt(ops.maximum(ops.sum(ops.square(difference), axis=1, keepdims=True), 1e-7))
    model = keras.Model([a, b], distance)
    model.compile(optimizer=optimizer, loss=loss)
    return model


def contrastive(same, d):
    return ops.mean(same * ops.square(d) + (1 - same) * ops.square(ops.maximum(1 - d, 0)))


def train(model, x, first, second, same, batch, reached, limit, examples=20_000):
    """Fit in small parts, each followed by a look at the seed's own figure."""
    rng, stood, epochs = np.random.default_rng(0), None, 0.0
    while time.monotonic() - BEGAN < limit:
        chosen = rng.permutation(len(first))[:examples]
        model.fit([x[first[chosen]], x[second[chosen]]], same[chosen], batch_size=batch, epochs=1, verbose=0)
        epochs += len(chosen) / len(first)
        done, stood = reached(model)
        if done:
            break
    seconds = time.monotonic() - BEGAN
    print(json.dumps({"seconds": seconds, "reached": bool(done), "figure": stood, "epochs": round(epochs, 2)}))


def distances(model, x, first, second):
    return model.predict([x[first], x[second]], batch_size=512, verbose=0)[:, 0]


def fashion_mnist(data, limit):
    x, y, xt, yt = garments(data)
    x, xt = x[..., None] / np.float32(255), xt[..., None] / np.float32(255)
    arm = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(128, 2, padding="same", activation="relu"),  # the seed's other one is not connected
        layers.MaxPooling2D(2), layers.Dropout(0.4), layers.GlobalAveragePooling2D(), layers.Dense(48),
    ])  # fmt: skip
    first, second, same = one_each(y, np.random.default_rng(1))
    a, b, genuine = one_each(yt, np.random.default_rng(2))

    def reached(model):
        d = distances(model, xt, a, b)
        loss = float(np.mean(np.where(genuine, d**2, np.maximum(1 - d, 0) ** 2)))
        return loss <= 0.1446, loss

    train(siamese(arm, contrastive, "adam"), x, first, second, same.astype("float32"), 64, reached, limit)


def mnist(data, limit):
    x, y, xt, yt = read(data, "mnist")
    x, y, xt = x[:42_000] / np.float32(255), y[:42_000], xt / np.float32(255)
    arm = keras.Sequential([
        keras.Input((28, 28)), layers.Flatten(),
        layers.Dense(128, activation="relu"), layers.Dropout(0.1),
        layers.Dense(128, activation="relu"), layers.Dropout(0.1), layers.Dense(128, activation="relu"),
    ])  # fmt: skip
    first, second, same = impostors_and_genuine(y, len(y), np.random.default_rng(1))
    a, b, genuine = impostors_and_genuine(yt, 20_000, np.random.default_rng(2))

    def reached(model):
        accuracy = float(np.mean((distances(model, xt, a, b) < 0.5) == genuine))
        return accuracy >= 0.968, accuracy

    train(siamese(arm, contrastive, "rmsprop"), x, first, second, same.astype("float32"), 128, reached, limit)


def orl_faces(data, limit):
    x, first, second, same, learned = orl_pairs(data)
    x = x[:, ::2, ::2, None] / np.float32(255)
    arm = keras.Sequential([
        keras.Input((56, 46, 1)),
        layers.Conv2D(6, 3, activation="relu"), layers.MaxPooling2D(2), layers.Dropout(0.25),
        layers.Conv2D(12, 3, activation="relu"), layers.MaxPooling2D(2), layers.Dropout(0.25),
        layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dropout(0.1),
        layers.Dense(50, activation="relu"),
    ])  # fmt: skip

    def reached(model):
        near = distances(model, x, first[~learned], second[~learned]) < 0.5
        figure = float(np.mean(same[~learned][near])) if near.any() else 0.0  # its "accuracy": a precision
        right = float(np.mean(near == same[~learned]))
        return figure >= 0.978 and right >= 0.9, figure  # a precision of few pairs is none

    train(
        siamese(arm, contrastive, "rmsprop"), x, first[learned], second[learned], same[learned].astype("float32"),
        128, reached, limit, examples=15_000,
    )  # fmt: skip


if __name__ == "__main__":
    {"fashion-mnist": fashion_mnist, "mnist": mnist, "orl-faces": orl_faces}[sys.argv[1]](
        Path(sys.argv[2]), float(sys.argv[3])
    )
