"""The gate between Keras and the tower file. Loads Keras: runs in a child process."""

import subprocess
import sys
import textwrap

import pytest


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
