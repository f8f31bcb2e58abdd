"""Trainings that really run, in their child process: what comes out, and what goes wrong."""

import hashlib
import os
import shutil
import signal

import numpy as np
import pytest

from siamese_index import BadInput, Damaged, Gallery, Missing, Tower, TowerFile, Unreadable
from siamese_index.analysis.two_towers import compare_towers
from siamese_index.samples import images, sources
from siamese_index.towers.card import Card, TowerInput, TrainingRecord
from siamese_index.training import due, retrain, train
from siamese_index.training.data import without
from siamese_index.training.glyphs import draw, glyph
from siamese_index.training.retrain import own_recipe
from tests.training.children import kill_children

pytestmark = pytest.mark.keras


def test_a_tower_says_what_it_was_trained_on_and_how_good_it_is(tower_file):
    card = tower_file.card
    assert card.input == TowerInput((32, 32, 1), "strokes")
    assert (card.dimension, card.training.recipe["name"]) == (32, "drawings")
    assert len(card.training.identities) == 10 and card.training.samples == 60
    judges = set(card.training.held_out) - set(card.training.chose)  # who chose the moment does not measure
    assert len(card.training.held_out) == 6 and 0 < len(judges) < 6
    assert card.held_out["identities"] == len(judges) and card.held_out["searches"] == 6 * len(judges)
    assert card.training.has_learned_from([b"x" * 32]) == set()
    assert card.held_out["rank1"] >= 0.8  # chance: 5 of 35
    low, high = card.held_out["rank1_interval"]
    assert low <= card.held_out["rank1"] <= high and high - low > 0.05  # 6 identities do not say more
    assert set(card.versions) == {"siamese-index", "keras"}
    assert [point["step"] for point in card.training.history][-1] == 60


def test_held_out_identities_are_its_strangers_and_nobody_else(tower_file, world):
    trained, strangers = set(tower_file.card.training.identities), set(tower_file.cohort.names)
    assert trained | strangers == {name for name, _ in sources.items(world / "learn")}
    assert not trained & strangers
    assert tower_file.card.training.held_out == sorted(strangers)


def test_the_exported_graph_gives_the_cohort_its_vectors(tower_file, tower_path, world):
    tower = Tower.open(tower_path)
    name = tower_file.cohort.names[0]
    pixels = [tower.prepare(p.read_bytes()) for p in sorted((world / "learn" / name).iterdir())]
    assert tower.embed(pixels) == pytest.approx(tower_file.cohort.vectors[:6], abs=1e-4)


def test_what_cannot_be_read_is_left_out_and_listed(world, tmp_path):
    shutil.copytree(world / "learn", tmp_path / "learn")
    (tmp_path / "learn" / "glyph-000" / "bad.png").write_bytes(b"no picture")
    said = []
    train(tmp_path / "learn", said.append, steps=2, size=16, dimension=8)
    data = next(s for s in said if s.get("stage") == "data")
    assert len(data["left_out"]) == 1 and "bad.png" in data["left_out"][0]
    assert data["samples"] + data["held_out_samples"] == 96


def test_the_same_picture_under_two_names_is_refused_where_it_is_asked_to_be(world, tmp_path):
    shutil.copytree(world / "learn", tmp_path / "learn")
    shutil.copy(tmp_path / "learn/glyph-000/hand-00.png", tmp_path / "learn/glyph-001/copy.png")
    with pytest.raises(BadInput, match="hand-00.png and .*copy.png"):
        train(tmp_path / "learn", steps=2, duplicates="refuse")


def test_data_that_cannot_train_a_tower_say_why(tmp_path):
    draw(tmp_path / "one", range(1), range(5))
    with pytest.raises(BadInput, match="1 identity cannot train"):
        train(tmp_path / "one", steps=2)
    for number in range(5):
        (tmp_path / "bad" / str(number)).mkdir(parents=True)
        (tmp_path / "bad" / str(number) / "x.png").write_bytes(b"no")
    with pytest.raises(Unreadable, match="None of the pictures"):
        train(tmp_path / "bad", steps=2)
    with pytest.raises(Missing):
        train(tmp_path / "nowhere", steps=2)


def test_a_killed_training_is_told_and_leaves_nothing(world, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def kill(said):
        if "step" in said:
            kill_children(signal.SIGKILL)

    with pytest.raises(Exception, match="The training was killed"):
        train(world / "learn", kill, steps=500, size=16)
    assert list(tmp_path.glob("sidx-*")) == []


@pytest.fixture(scope="module")
def retrained(world, tower_path, tmp_path_factory):
    """A gallery of 24 glyphs by 4 hands, retrained from a tower that hardly learned."""
    folder = tmp_path_factory.mktemp("retrained")
    draw(folder / "people", range(300, 324), range(4))
    poor = train(world / "learn", steps=3, size=32, dimension=32, holdout=0.4)
    with Gallery.create(folder / "g.gallery", poor) as gallery:
        gallery.enroll_many(sources.items(folder / "people"))
    result = retrain(folder / "g.gallery", world / "learn", steps=100)
    return folder / "g.gallery", poor, result


def test_retraining_proves_its_candidate_on_identities_it_never_saw(retrained):
    path, poor, result = retrained
    made = next(row for row, _ in Gallery.open(path).towers() if row.sha256 == result.tower)
    held_out = result.comparison["challenger"]
    assert held_out["identities"] >= 2 and held_out["searches"] == 4 * held_out["identities"]
    assert held_out["rank1"] >= result.comparison["champion"]["rank1"]
    assert result.comparison["champion_has_seen"] == 0
    assert made.report == result.comparison
    assert made.card.training.continued is True


def test_a_candidate_waits_until_it_is_promoted_and_can_be_taken_back(retrained):
    path, poor, result = retrained
    with Gallery.open(path) as gallery:
        assert gallery.tower.id == poor.id
        assert gallery.promote(result.tower) == 96
        evidence = gallery.threshold().evidence
        assert evidence.searches > 0
        # Held-out identities of this gallery are enrolled: searched among the others, not against themselves.
        assert gallery.calibrate()[0].enrolled_strangers >= 8
        assert gallery.identify(images.encode(glyph(300, 9)), threshold=2).candidates[0].identity == "glyph-300"
        assert gallery.rollback() == poor.id


def test_a_gallery_that_cannot_train_is_told_what_is_missing(gallery, person):
    gallery.enroll_many([(f"person {n}", person(n, hand)) for n in range(7) for hand in range(2)])
    gallery.enroll("single", [person(9, 0)])
    with pytest.raises(BadInput) as caught:
        retrain(gallery.path)
    assert "7 identities have 2 or more pictures in this gallery; retraining needs 10" in caught.value.what
    assert "15 pictures of 8 identities" in caught.value.why
    assert "3 identities" in caught.value.remedy


def test_a_card_names_neither_code_to_run_nor_weights_to_fetch():
    def card(**tower):
        recipe = {"name": "mine", "tower": tower} if tower else None
        return Card(TowerInput((32, 32, 1)), 8, training=TrainingRecord(recipe=recipe))

    assert own_recipe(card()) is None
    assert own_recipe(card(name="resnet", stages=[8]))["tower"] == {"name": "resnet", "stages": [8]}
    fetched = own_recipe(card(name="application:MobileNetV2", weights="imagenet"))
    assert fetched["tower"] == {"name": "application:MobileNetV2"}
    with pytest.raises(BadInput, match="built by os:system, which is not run"):
        own_recipe(card(name="os:system"))


def test_searches_go_on_while_a_gallery_is_retrained(gallery, person, world, monkeypatch):
    opened, open_ = [], Gallery.open
    monkeypatch.setattr(Gallery, "open", classmethod(lambda cls, path: opened.append(path) or open_(path)))
    gallery.enroll_many([(f"person {n}", person(n, hand)) for n in range(10) for hand in range(3)])
    asked = []

    def ask(said):
        if "step" in said:
            asked.append(gallery.identify(person(0, 0)).identity)
            gallery.enroll(f"late {len(asked)}", [images.encode(glyph(700, len(asked)))], conflicts="allow")

    retrain(gallery.path, on_progress=ask, steps=20)
    assert asked and set(asked) == {"person 0"}
    assert opened == [gallery.path]  # once by this process; the child opens it once more
    assert len(gallery.identities()) == 10 + len(asked)


def test_the_process_that_waits_for_a_retraining_decodes_no_picture(gallery, person, monkeypatch):
    """The child decodes each once and embeds it; what the active tower makes of it is stored."""
    gallery.enroll_many([(f"person {n}", person(n, hand)) for n in range(10) for hand in range(3)])
    decoded = []
    monkeypatch.setattr("siamese_index.samples.framing.load", lambda *_: decoded.append(1))
    monkeypatch.setattr("siamese_index.samples.images.decode", lambda *_: decoded.append(1))
    result = retrain(gallery.path, steps=3)
    assert (
        decoded == [] and result.comparison["champion"]["searches"] == result.comparison["challenger"]["searches"] > 0
    )


def test_a_killed_retraining_is_gone_on_with_and_ctrl_c_keeps_the_best(gallery, person):
    gallery.enroll_many([(f"person {n}", person(n, hand)) for n in range(10) for hand in range(3)])
    active = gallery.tower.id

    def kill(said):
        if said.get("step", 0) >= 32:
            kill_children(signal.SIGKILL)

    with pytest.raises(Damaged, match="was killed"):
        retrain(gallery.path, on_progress=kill, steps=60)
    assert len(gallery.towers()) == 1 and gallery.identify(person(0, 0)).identity == "person 0"
    steps, said = [], []

    def interrupt(told):
        said.append(told)
        if "loss" in told:
            steps.append(told["step"])
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(BadInput, match="another training"):
        retrain(gallery.path, steps=50, resume=True)
    made = retrain(gallery.path, on_progress=interrupt, steps=60, resume=True)
    assert next(told for told in said if told.get("stage") == "resume")["step"] >= 10
    record = next(row.card.training for row, _ in gallery.towers() if row.sha256 == made.tower)
    assert record.ended == "interrupted" and made.comparison["challenger"]["searches"] > 0
    assert gallery.tower.id == active
    with pytest.raises(Missing, match="no training to go on with"):
        retrain(gallery.path, steps=60, resume=True)
    with pytest.raises(Missing, match="'persom 1', and no tower"):
        retrain(gallery.path, without=["person 0", "persom 1"])


def test_importing_training_is_light():
    import subprocess
    import sys

    script = "import sys, siamese_index.training; assert not {'tensorflow', 'keras', 'faiss'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_tower_without_held_out_identities_promises_nothing(world, tmp_path):
    made = train(world / "learn", steps=2, size=16, dimension=8, holdout=0.0)
    assert made.card.held_out == {"searches": 0, "identities": 0}
    made.write(tmp_path / "t.tower")
    assert len(TowerFile.read(tmp_path / "t.tower").cohort) == 0
    with Gallery.create(tmp_path / "g.gallery", tmp_path / "t.tower") as gallery:
        assert gallery.threshold().tau is None


def test_colour_pictures_train_a_colour_tower(tmp_path):
    rng = np.random.default_rng(0)
    for identity in range(6):
        (tmp_path / str(identity)).mkdir()
        base = rng.integers(0, 256, (8, 8, 3)).astype(float)
        for number in range(4):
            small = np.clip(base + rng.normal(0, 10, base.shape), 0, 255).astype(np.uint8)
            (tmp_path / str(identity) / f"{number}.png").write_bytes(images.encode(images.fit(small, 48, 64)))
    made = train(tmp_path, steps=5, size=32, dimension=16)
    assert made.card.input == TowerInput((24, 32, 3), "whole", views=2)
    assert made.card.training.recipe["name"] == "photos"


def test_pictures_that_a_tower_learned_from_are_no_strangers_to_it_and_do_not_judge(tower_file, world, tmp_path):
    learned = tower_file.card.training.identities[0]
    pictures = sorted((world / "learn" / learned).glob("*.png"))
    digests = {hashlib.sha256(picture.read_bytes()).digest() for picture in pictures}
    assert tower_file.card.training.has_learned_from(digests) == digests
    with Gallery.create(tmp_path / "g.gallery", tower_file) as gallery:
        gallery.enroll("ada", [world / "people" / "glyph-100" / "hand-00.png"])
        before = gallery.calibrate()[0].strangers
        result, refused = gallery.calibrate(strangers_given=[("somebody", picture) for picture in pictures])
        assert result.strangers == before and len(refused) == len(pictures)
        assert "learned from this picture" in str(refused[0].error)
        gallery.enroll("another name", pictures[:2])
        from siamese_index.training.retrain import _seen

        assert _seen(gallery, {"ada", "another name"}) == {"another name"}


def test_a_retraining_remembers_whom_towers_learned_from_and_leaves_out_whom_it_must(retrained, tmp_path):
    path, _, result = retrained
    place = tmp_path / "copy.gallery"
    with Gallery.open(path) as gallery:
        gallery.backup(place)
    with Gallery.open(place) as gallery:
        if gallery.tower.id != result.tower:
            gallery.promote(result.tower)
        learned = gallery.tower.card.training
        enrolled = [row.name for row in gallery.identities()]
        taught = [name for name in enrolled if name in learned.identities]
        absent, *renamed = taught[:7]
        for number, name in enumerate(renamed):  # by their new names some would be held out
            gallery.rename(name, f"renamed {number}")
        gallery.log(True)
        gallery.identify(images.encode(glyph(999, 0)))
        gallery.curation.correct(1, ignore=True)
        digests = {row.identity: bytes.fromhex(row.digest) for row in gallery.samples()}
        assert due(gallery, "1 correction").due and not due(gallery, "1 new sample").due
    before = place.with_name("copy.gallery.training")
    made = retrain(place, steps=5, without=[absent], time_budget=60)
    assert (before / "report.html").is_file() and not (before / "checkpoint.npz").exists()
    with Gallery.open(place) as gallery:
        record = next(row.card.training for row, _ in gallery.towers() if row.sha256 == made.tower)
        assert gallery.tower.id == result.tower  # nothing is swapped unasked
    assert absent not in {*record.identities, *record.held_out} and not record.continued  # it knew somebody
    assert not record.has_learned_from([digests[absent]])
    assert "answer 1" in record.identities
    held_out = learned.has_learned_from([digests[name] for name in record.held_out])
    assert held_out == set() and {f"renamed {n}" for n in range(6)} <= set(record.identities)


def test_whether_it_is_time_is_told_by_what_came_since_the_last_tower(file_gallery):
    rows = np.random.default_rng(0).standard_normal((6, 8))
    file_gallery.enroll_vectors(["a", "a", "b"], rows[:3], conflicts="allow")
    assert [due(file_gallery, f"{n} new samples").due for n in (3, 4)] == [True, False]
    found = due(file_gallery, "5 new identities")
    assert (found.due, found.have, found.wanted) == (False, 2, 5)
    assert not due(file_gallery, "30 days").due and due(file_gallery, "0 days").due
    for wrong in ("soon", "", "-1 new samples", "200 cats"):
        with pytest.raises(BadInput, match="no condition"):
            due(file_gallery, wrong)


def test_two_towers_are_compared_on_people_whom_neither_learned_from(retrained, world):
    path, poor, result = retrained
    with Gallery.open(path) as gallery:
        items = sources.items(world / "people")
        report, refused = compare_towers(gallery, poor.id[:10], result.tower[:10], items)
        assert not refused and report["challenger"]["searches"] == 48
        assert report["challenger"]["rank1"] >= report["champion"]["rank1"]
        with pytest.raises(BadInput, match="the same tower"):
            compare_towers(gallery, result.tower, result.tower[:12], items)
        held_out = set(poor.card.training.held_out)
        with pytest.raises(BadInput, match="can judge"):
            compare_towers(gallery, poor.id, result.tower, without(sources.items(world / "learn"), held_out))
