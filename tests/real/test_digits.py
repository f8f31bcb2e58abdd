"""MNIST from a local file: same or different, on pairs of the test set (LeCun, Cortes, Burges)."""

import shutil

import numpy as np
import pytest

from siamese_index import Tower
from siamese_index.samples import images
from siamese_index.training import train

pytestmark = [pytest.mark.real, pytest.mark.keras]


def pairs(vectors, labels, count, rng):
    """Distances of as many genuine as impostor pairs, no picture with itself, and which are genuine."""
    first = rng.integers(0, len(labels), count)
    genuine = np.arange(count) % 2 == 0
    second = np.empty(count, np.int64)
    for i, a in enumerate(first):
        while True:
            b = rng.integers(0, len(labels))
            if b != a and (labels[a] == labels[b]) == genuine[i]:
                break
        second[i] = b
    return np.linalg.norm(vectors[first] - vectors[second], axis=1), genuine


def test_same_or_different_on_pairs_of_the_test_set(real_data, tmp_path, monkeypatch):
    home = tmp_path / "keras"
    (home / "datasets").mkdir(parents=True)
    shutil.copy(real_data("mnist.npz"), home / "datasets" / "mnist.npz")
    monkeypatch.setenv("KERAS_HOME", str(home))
    # All ten digits are learned: the pairs are of unseen pictures, not of unseen identities.
    made = train("keras:mnist", recipe="mnist-cnn", holdout=0.0, steps=250)
    made.write(tmp_path / "digits.tower")
    tower = Tower.open(tmp_path / "digits.tower")
    with np.load(home / "datasets" / "mnist.npz") as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
        known, whose = arrays["x_train"][:3000], arrays["y_train"][:3000]

    def embed(pictures):
        return tower.embed([images.fit(p[..., None], *tower.shape[:2]) for p in pictures])

    rng = np.random.default_rng(0)
    distance, genuine = pairs(embed(known), whose, 6000, rng)
    cuts = np.sort(distance)
    tau = cuts[np.argmax([np.mean((distance <= c) == genuine) for c in cuts[::10]]) * 10]  # chosen on training pairs
    distance, genuine = pairs(embed(x), y, 10_000, rng)
    accuracy = float(np.mean((distance <= tau) == genuine))
    print(f"\nMNIST: {accuracy:.4f} of 10,000 pairs of the test set right at {tau:.2f}")
    assert accuracy >= 0.98
