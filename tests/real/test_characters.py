"""Omniglot: trained on one background set, one-shot on alphabets of the other (Lake, Salakhutdinov, Tenenbaum).

For a part of the steps: `make bench-training PART=omniglot` trains in full.
"""

import numpy as np
import pytest

from siamese_index import Tower
from siamese_index.training import train

pytestmark = [pytest.mark.real, pytest.mark.keras]
ALPHABETS = ("Japanese_(katakana)", "Sanskrit", "Tagalog")  # those of the second set that the first has not


def test_twenty_way_one_shot_on_alphabets_never_seen(real_data, tmp_path):
    made = train(real_data("omniglot_small1.zip") / "images_background_small1", steps=450)
    made.write(tmp_path / "characters.tower")
    tower = Tower.open(tmp_path / "characters.tower")
    rng = np.random.default_rng(0)
    errors = {}
    for alphabet in ALPHABETS:
        folder = real_data("omniglot_small2.zip") / "images_background_small2" / alphabet
        # (characters, drawers, dimension): files are sorted by drawer
        vectors = np.stack(
            [
                tower.embed([tower.prepare(p.read_bytes()) for p in sorted(c.iterdir())])
                for c in sorted(folder.iterdir())
            ]
        )
        wrong = []
        for _ in range(400):
            characters = rng.permutation(len(vectors))[:20]
            enrolled, probe = rng.permutation(20)[:2]  # two drawers
            found = (vectors[characters, probe] @ vectors[characters, enrolled].T).argmax(axis=1)
            wrong.append(np.mean(found != np.arange(len(characters))))
        errors[alphabet] = float(np.mean(wrong))
    mean = float(np.mean(list(errors.values())))
    print(f"\nOmniglot 20-way one-shot: error {mean:.3f} {errors}, {made.card.training.seconds} s of training")
    assert mean <= 0.25
