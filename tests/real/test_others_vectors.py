"""Somebody else's vectors of ORL faces (dlib's network, 128 numbers): a tower trained on them is told what to beat."""

import numpy as np
import pytest

from siamese_index.training import train

pytestmark = [pytest.mark.real, pytest.mark.keras]


def test_a_tower_of_good_vectors_is_no_worse_and_says_what_the_plain_ones_do(real_data):
    made = train(real_data("orl_dlib128.npy"), holdout=0.3)
    figures = made.card.held_out
    print(f"\ndlib's vectors: rank-1 {figures['plain']['rank1']:.3f}, through a tower {figures['rank1']:.3f}")
    assert made.card.input.shape == (128,) and figures["identities"] == 11
    assert figures["plain"]["rank1"] >= 0.98
    assert figures["rank1"] >= 0.95


def test_the_file_is_one_of_forty_people_with_ten_pictures(real_data):
    assert np.load(real_data("orl_dlib128.npy"), mmap_mode="r").shape == (40, 10, 128)
