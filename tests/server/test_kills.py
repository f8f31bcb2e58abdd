"""A service that is killed under clients who enroll: nothing acknowledged is lost."""

from siamese_index import Gallery
from tests.server.kills import killed_once


def test_every_acknowledged_sample_is_there_after_a_kill(tower_path, tmp_path):
    Gallery.create(tmp_path / "g.gallery", tower_path).close()
    count = 0
    for seed in range(4):
        acknowledged, wrong = killed_once(tmp_path / "g.gallery", seed)
        assert wrong == []
        count += len(acknowledged)
    assert count > 4
