"""The loss against plain numpy, its gradient against differences. Loads Keras: runs in a child process."""

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.keras
def test_the_loss_is_its_formula_and_its_gradient_is_right():
    script = """
        import numpy as np, tensorflow as tf
        from siamese_index.training.losses import cosine_head, cosine_margin

        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(6, 5)).astype("float32")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        labels = np.array([0, 1, 2, 3, 0, 1])
        head, loss = cosine_head(4), cosine_margin(scale=16.0, margin=0.25)
        cosines = np.asarray(head(vectors))
        directions = np.asarray(head.directions)
        directions = directions / np.linalg.norm(directions, axis=0)
        assert np.allclose(cosines, vectors @ directions, atol=1e-6)

        def plain(c):
            logits = 16.0 * (c - 0.25 * np.eye(4)[labels])
            logits -= logits.max(axis=1, keepdims=True)
            return -(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))[np.arange(6), labels].mean()

        c = tf.constant(cosines)
        with tf.GradientTape() as tape:
            tape.watch(c)
            value = tf.reduce_mean(loss(tf.constant(labels), c))
        assert abs(float(value) - plain(cosines.astype(float))) < 1e-5
        gradient = tape.gradient(value, c).numpy()
        for i, j in [(0, 0), (3, 1), (5, 2)]:
            step = np.zeros_like(cosines, dtype=float); step[i, j] = 1e-5
            difference = (plain(cosines + step) - plain(cosines - step)) / 2e-5
            assert abs(gradient[i, j] - difference) < 1e-4, (gradient[i, j], difference)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
