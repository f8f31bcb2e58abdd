"""Galleries and towers that earlier versions of this program wrote: they open, and say what they said.

Those in `earlier` were written by the last version of each schema and format, with the same content: ada and robert
(who was bob) with three vectors each, dan, eve and fay with one, carol removed; twelve strangers, one of them eve.
"""

import gzip
import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Missing, TowerFile
from siamese_index.analysis.doctor import examine
from siamese_index.store.schema import VERSION

EARLIER = Path(__file__).parent / "earlier"
FACTS = json.loads((EARLIER / "facts.json").read_text())


@pytest.fixture(params=range(1, VERSION))
def path(request, tmp_path):
    made = tmp_path / "old.gallery"
    made.write_bytes(gzip.decompress((EARLIER / f"schema-{request.param}.gallery.gz").read_bytes()))
    made.chmod(0o600)
    return made, request.param


def test_a_gallery_of_each_earlier_schema_opens_and_answers(path):
    place, version = path
    with Gallery.open(place) as gallery:
        assert {row.name: row.samples for row in gallery.identities()} == FACTS["identities"]
        tags = {row.name: row.tags for row in gallery.identities() if row.tags}
        assert tags == (FACTS["tags"] if version > 2 else {})
        assert gallery.log() == (version > 1, 3 if version > 1 else 0)
        told = gallery.calibrate_vectors()
        assert told.evidence.target_fpir == 0.05 and round(told.threshold, 4) == FACTS["threshold"]
        assert (told.misses, told.mated, told.strangers, told.enrolled_strangers) == (0, 6, {"given": 12}, 1)
        for probe, wanted in FACTS["answers"]:
            [answer] = gallery.identify_vectors(np.array([probe], np.float32), log=False)
            assert answer.identity == wanted["identity"]
            assert [(c.identity, round(c.distance, 4)) for c in answer.candidates] == [tuple(c) for c in wanted["all"]]
        # What an older program did cannot be undone; what is done from now on can.
        with pytest.raises(Missing, match="nothing to undo"):
            gallery.curation.undo()
        gallery.remove("ada")
        assert gallery.curation.undo()[0].verb == "remove"
        assert gallery.curation.restore("carol") == 1
        with pytest.raises(BadInput, match="cannot be asked"), gallery.past(1):
            pass
    assert examine(place).findings == ()


def test_it_is_the_same_whether_it_was_read_or_written_first(path):
    place, _ = path
    with Gallery.open(place) as gallery:
        read = gallery.threshold(0.2).tau
        gallery.tag("ada", {"room": "1"})
        assert gallery.threshold(0.2).tau == read


def test_a_newer_gallery_is_refused_and_not_touched(path):
    place, _ = path
    with sqlite3.connect(place) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    before = place.read_bytes()
    with pytest.raises(BadInput, match="newer"):
        Gallery.open(place)
    assert place.read_bytes() == before
    assert [p.name for p in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize("name", ["format-1", "format-2"])
def test_a_tower_of_each_earlier_format_serves(name, tmp_path):
    facts = FACTS[name]
    shutil.copy(EARLIER / f"{name}.tower", tmp_path / "old.tower")
    tower = TowerFile.read(tmp_path / "old.tower")
    assert tower.id == facts["id"]
    with Gallery.create(tmp_path / "new.gallery", tmp_path / "old.tower") as gallery:
        vectors, refused = gallery.embed([bytes.fromhex(facts["probe"])])
        assert not refused and np.allclose(vectors[0], facts["vector"], atol=1e-5)
