"""The reasons of an answer, in words and as a picture."""

import numpy as np
import pytest

from siamese_index import Missing
from siamese_index.analysis.explain import explain, occlusion


def test_the_words_follow_the_verdict(gallery, person, world):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(6)])
    found = explain(gallery, person(2, 0))
    assert found.decision.verdict == "match"
    assert "'p2', at distance 0.0000" in found.words[0] and "within the threshold" in found.words[1]
    assert found.words[-1] == "Verdict: match, 'p2'."
    assert "independent ones" in found.words[2]
    unknown = explain(gallery, sorted((world / "strangers").rglob("*.png"))[0], threshold=1e-6)
    assert "beyond the threshold" in unknown.words[1]
    assert "was set, not learned" in unknown.words[2]
    assert unknown.words[-1] == "Verdict: unknown, nobody who is enrolled."


def test_without_anybody_there_is_nothing_to_draw(gallery, person):
    found = explain(gallery, person(0, 0))
    assert (found.strip, found.words) == (None, ("Nobody is enrolled yet: sidx enroll NAME PICTURE",))


def test_the_strip_shows_probe_map_and_the_nearest_two(gallery, person):
    gallery.enroll_many([(f"p{n}", person(n, 0)) for n in range(6)])
    strip = explain(gallery, person(2, 1)).strip
    assert strip.shape == (220, 800, 3)
    panels = np.split(strip, 4, axis=1)
    assert all(panel.std() > 10 for panel in panels)
    assert np.ptp(panels[1].astype(int), axis=2).max() > 60  # the map has colour
    assert np.ptp(panels[0].astype(int), axis=2).max() < 10  # the drawing has none


def test_covering_what_a_picture_shows_takes_it_farther(gallery, person):
    gallery.enroll("ada", [person(0, 0)])
    prepared = gallery.tower.prepare(person(0, 0).read_bytes())
    heat = occlusion(gallery.tower, prepared, gallery.template(gallery.samples("ada")[0].id))
    assert heat.shape == (8, 8) and heat.min() >= -1e-5  # from the very same picture any cover only takes it away
    inked = np.abs(prepared[:, :, 0].astype(int) - int(np.median(prepared))) > 100
    ink = inked.reshape(8, inked.shape[0] // 8, 8, inked.shape[1] // 8).sum(axis=(1, 3))
    assert heat[ink > 0].mean() > heat[ink == 0].mean()
    with pytest.raises(Missing, match="no sample 99"):
        gallery.template(99)
