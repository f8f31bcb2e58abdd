"""Fitting: the same each time, resumed as if never stopped, stopped in every way. Real trainings, in child processes."""

import csv
import json
import signal
import subprocess
import sys
import textwrap
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from siamese_index import BadInput, Damaged, Gallery, Missing, Tower, TowerFile
from siamese_index.samples import sources
from siamese_index.training import train
from siamese_index.training.glyphs import draw
from siamese_index.training.loop import Checkpoint, TrainingState, better, lowest, rate_at, refuse_collapsed
from siamese_index.training.recipe import Fit
from tests.training.children import kill_children

pytestmark = pytest.mark.keras
SMALL = {"steps": 40, "size": 24, "dimension": 16, "holdout": 0.3}


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """A training that nobody disturbed, with what it left beside its tower."""
    out = tmp_path_factory.mktemp("whole") / "whole.tower"
    return train(world / "learn", out=out, **SMALL), out.with_suffix(".training")


def test_the_same_seed_gives_the_same_tower_to_the_bit(world, whole):
    again = train(world / "learn", **SMALL)
    assert again.id == whole[0].id
    assert np.array_equal(again.cohort.vectors, whole[0].cohort.vectors)


def test_another_seed_gives_another_tower(world, whole):
    assert train(world / "learn", **SMALL, seed=1).id != whole[0].id


def test_a_killed_training_goes_on_as_if_it_had_not_been(world, whole, tmp_path):
    out = tmp_path / "t.tower"

    def kill(said):
        if said.get("step", 0) >= 17:
            kill_children(signal.SIGKILL)

    with pytest.raises(Damaged, match="The training was killed"):
        train(world / "learn", kill, out=out, **SMALL)
    assert not out.exists() and (tmp_path / "t.training" / "checkpoint.npz").exists()
    with pytest.raises(BadInput, match="this is another training"):
        train(world / "learn", out=out, **{**SMALL, "steps": 50}, resume=True)
    said = []
    resumed = train(world / "learn", said.append, out=out, **SMALL, resume=True)
    assert 10 <= next(s for s in said if s.get("stage") == "resume")["step"] < 40
    assert resumed.id == whole[0].id
    losses = [[p["loss"] for p in made.card.training.history] for made in (resumed, whole[0])]
    assert losses[0] == losses[1]
    assert not (tmp_path / "t.training" / "checkpoint.npz").exists()  # it is of no more use


def test_killed_while_exporting_nothing_is_half_there_and_it_can_be_resumed(world, whole, tmp_path):
    out = tmp_path / "t.tower"

    def kill(said):
        if said.get("stage") == "export":
            kill_children(signal.SIGKILL)

    with pytest.raises(Damaged, match="The training was killed"):
        train(world / "learn", kill, out=out, **SMALL)
    assert not out.exists()
    assert train(world / "learn", out=out, **SMALL, resume=True).id == whole[0].id


def test_there_must_be_something_to_resume(world, tmp_path):
    with pytest.raises(Missing, match="no training to go on with"):
        train(world / "learn", out=tmp_path / "t.tower", **SMALL, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c.npz", "key")
    checkpoint.save(TrainingState(steps=3, step=2, average=[np.ones(2)], best=[np.zeros(2)]), [np.arange(3), np.eye(2)])
    state, variables = checkpoint.load()
    assert (state.step, len(variables), state.average[0].tolist()) == (2, 2, [1, 1])
    whole = (tmp_path / "c.npz").read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c.npz").write_bytes(whole[:cut])
        with pytest.raises(BadInput, match="not a checkpoint"):
            checkpoint.load()


class Loads(HTMLParser):
    """What a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [v for k, v in attributes if k in ("src", "href") and not v.startswith(("data:", "#"))]


def test_what_a_training_leaves_can_be_read_and_needs_no_network(whole):
    made, folder = whole
    card = json.loads((folder / "card.json").read_text())
    assert card["tower"] == made.id and card["held_out"]["rank1"] == made.card.held_out["rank1"]
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [int(r["step"]) for r in rows] == [p["step"] for p in made.card.training.history]
    page = (folder / "report.html").read_text()
    for words in ("How it went", "Distances of held-out identities", "Errors at every threshold", "hardest mistakes"):
        assert words in page
    assert page.count("<svg") == 3 and page.count("data:image/png;base64") == 36
    loads = Loads()
    loads.feed(page)
    assert loads.found == []
    assert all((f.stat().st_mode & 0o077) == 0 for f in folder.iterdir())  # pictures of people are in it


def test_interrupted_the_best_so_far_is_kept(world, tmp_path):
    program = [sys.executable, "-c", "from siamese_index.cli import run; run()"]
    arguments = ["train", world / "learn", "-o", "t.tower", "--steps", "5000", "--size", "24"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*program, *arguments], cwd=tmp_path, **pipes) as run:
        for line in run.stderr:
            if line.startswith("step"):
                break
        run.send_signal(signal.SIGINT)
        told = run.stderr.read()
        run.wait(60)
    assert run.returncode == 130
    assert "Traceback" not in told and "is the best tower so far" in told
    made = TowerFile.read(tmp_path / "t.tower")
    assert made.card.training.ended == "interrupted" and made.card.training.kept_from_step > 0


def test_a_time_budget_buys_steps_and_is_kept(world):
    said = []
    began = time.monotonic()
    made = train(world / "learn", said.append, time_budget=30, size=24)
    bought = [s["steps"] for s in said if s.get("stage") == "budget"]
    if not bought:  # a machine so busy that the time was over before its speed could be measured
        assert made.card.training.ended == "time budget"
        return
    assert [made.card.training.steps] == bought and bought[0] > 30
    assert made.card.training.ended in ("all steps", "time budget", "no better for 10 rounds")
    print(f"\n{bought[0]} steps in {time.monotonic() - began:.0f} of 30 s")


def test_a_full_disk_costs_the_checkpoint_but_not_the_training(world, tmp_path):
    """Files of more than 100 kB cannot be written, as on a full disk: not the checkpoint, and at last not the tower."""
    script = """
        import resource, signal, sys
        from siamese_index import Missing
        from siamese_index.training import train
        import siamese_index.training.process as child
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        said = []
        folder = child.Path(sys.argv[2]); folder.mkdir()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            train(sys.argv[1], said.append, out=folder / "t.tower", steps=12, size=24, dimension=16)
        except Missing as error:
            assert "cannot be written" in error.what and "too large" in error.why, error
            print(error)
        else:
            raise SystemExit("written in spite of the limit")
        failed = [s for s in said if s.get("stage") == "checkpoint"]
        assert failed and "cannot be written" in failed[0]["failed"], said
        assert any(s.get("step") == 12 for s in said), "it went on to the end"
        assert [p.name for p in folder.glob("*.tower")] == []
    """
    command = [sys.executable, "-c", textwrap.dedent(script), world / "learn", tmp_path / "full"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def recipe(folder, text):
    (folder / "mine.toml").write_text(textwrap.dedent(text))
    return str(folder / "mine.toml")


def test_a_training_that_diverges_says_so(world, tmp_path):
    hot = """
        [tower]
        name = "resnet"
        stages = [8]
        [loss]
        name = "cosface"
        [fit]
        rate = 1e30
        warm_up = 0.0
    """
    with pytest.raises(BadInput, match="diverged|collapsed") as caught:
        train(world / "learn", recipe=recipe(tmp_path, hot), **SMALL)
    assert "rate" in caught.value.remedy


def test_a_collapsed_tower_is_recognised():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(20, 8)).astype(np.float32)
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    refuse_collapsed(spread)
    with pytest.raises(BadInput, match="collapsed"):
        refuse_collapsed(np.repeat(spread[:1], 20, axis=0))
    for broken in (0.0, np.nan):
        with pytest.raises(BadInput, match="collapsed"):
            refuse_collapsed(spread * np.float32(broken))


def test_the_rate_rises_and_comes_down_to_nothing():
    fit = Fit(rate=0.5, warm_up=0.1)
    rates = [rate_at(step, 100, fit) for step in range(100)]
    assert rates[0] == pytest.approx(0.05) and max(rates) == rates[9] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.25) and rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_later_moment_is_better_unless_by_more_than_the_noise():
    assert better({"error": 0.1, "noise": 0.02}, {})
    assert better({"error": 0.1, "noise": 0.02}, {"error": 0.2, "noise": 0.05})
    assert better({"error": 0.12, "noise": 0.02}, {"error": 0.1, "noise": 0.02})
    assert not better({"error": 0.13, "noise": 0.02}, {"error": 0.1, "noise": 0.02})
    assert not better({"error": 0.1, "noise": 0.02}, {"error": 0.1, "noise": 0.02}, 0.0)  # only lower is better
    assert better({}, {"error": 0.1, "noise": 0.0})  # nobody was held out


def test_what_later_moments_must_come_near_is_the_lowest_so_far():
    low, high = {"error": 0.1, "noise": 0.02}, {"error": 0.12, "noise": 0.02}
    assert lowest(high, low) == low and lowest(low, high) == low and lowest(high, {}) == high


def test_without_progress_it_ends_early_and_keeps_the_best(world, tmp_path):
    hasty = """
        [tower]
        name = "mlp"
        dense = [16]
        [loss]
        name = "cosface"
        [fit]
        rounds = 100
        patience = 2
        rate = 0.2
    """
    made = train(world / "learn", recipe=recipe(tmp_path, hasty), steps=300, size=16, dimension=8, holdout=0.3)
    training = made.card.training
    assert training.ended == "no better for 2 rounds"
    lowest_yet, kept = {}, 0
    for i, point in enumerate({**point, "error": point["fnir"]} for point in training.history):
        if better(point, lowest_yet):
            lowest_yet, kept = lowest(point, lowest_yet), i
    assert training.history[kept]["step"] == training.kept_from_step and kept == len(training.history) - 3
    assert training.history[-1]["step"] < 300


@pytest.mark.parametrize(
    ("loss", "feeding"),
    [
        ("contrastive", "by = 'pairs'\nbatch = 32"),
        ("triplet", "by = 'triplets'\nbatch = 33"),
        ("arcface", "classes = 2"),
    ],
)
def test_every_way_of_feeding_trains_a_tower(world, tmp_path, loss, feeding):
    text = f"[tower]\nname = 'cnn'\nfilters = [8, 16]\n[loss]\nname = '{loss}'\n[feeding]\n{feeding}\n[fit]\nrate = 0.005\n"
    made = train(world / "learn", recipe=recipe(tmp_path, text), steps=80, size=24, dimension=16, holdout=0.4)
    assert made.card.held_out["rank1"] > 0.5  # by chance: 5 of 35
    assert made.card.training.recipe["loss"]["name"] == loss


def test_a_table_of_pairs_trains_a_tower(world, tmp_path):
    rng = np.random.default_rng(0)
    rows = ["path_a,path_b,label"]

    def row(a, b, hand, other, same):
        rows.append(
            f"{world}/learn/glyph-{a:03}/hand-{hand:02}.png,{world}/learn/glyph-{b:03}/hand-{other:02}.png,{same}"
        )

    for number in range(16):
        for hand in range(5):
            row(number, number, hand, hand + 1, 1)
            row(number, (number + rng.integers(1, 16)) % 16, hand, hand, 0)
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(BadInput, match="learns from identities; these are pairs"):
        train(tmp_path / "pairs.csv", recipe="drawings", steps=2)
    made = train(tmp_path / "pairs.csv", recipe="pairs", steps=80, size=24, dimension=16)
    record = made.card.training  # an identity is named after the path of its first picture: who is held out varies
    assert len(record.identities) + len(record.held_out) == 16 and len(record.held_out) >= 2
    assert made.card.held_out["rank1"] > 0.6


def test_vectors_are_trained_on_enrolled_and_identified(tmp_path, sidx):
    """Ten numbers, of which the useful ones are hidden in noise: what the tower has to find."""
    rng = np.random.default_rng(0)
    centres = np.concatenate([rng.normal(0, 1, (40, 3)), np.zeros((40, 7))], axis=1)

    def samples(identities, count):
        rows = np.repeat(centres[identities], count, axis=0)
        noise = rng.normal(0, 1, rows.shape) * np.array([0.1] * 3 + [3.0] * 7)
        return (rows + noise).astype(np.float32), np.repeat([f"id-{i:02}" for i in identities], count)

    x, y = samples(range(30), 20)
    np.savez(tmp_path / "learn.npz", x=x, y=y)
    x, y = samples(range(30, 40), 1)
    np.savez(tmp_path / "enroll.npz", vectors=x, names=y)
    probes, whose = samples(range(30, 40), 10)
    np.save(tmp_path / "probes.npy", probes)
    done = sidx("train", "learn.npz", "-o", "v.tower", "--steps", "300")
    assert done.returncode == 0, done.stderr
    assert "vectors of 10 numbers" in done.stderr and "sidx enroll --from VECTORS.npz" in done.stderr
    assert Tower.open(tmp_path / "v.tower").shape == (10,)
    assert sidx("enroll", "--from", "enroll.npz", "--tower", "v.tower", "-g", "v.gallery").returncode == 0
    done = sidx("identify", "probes.npy", "-g", "v.gallery", "--threshold", "2", "--json")
    answers = [json.loads(line)["identity"] for line in done.stdout.splitlines()]
    plain = np.linalg.norm(probes[:, None] - x[None], axis=2).argmin(axis=1)
    found, floor = np.mean(np.array(answers) == whose), np.mean(y[plain] == whose)
    assert found > floor + 0.2, (found, floor)
    np.save(tmp_path / "wrong.npy", np.zeros((1, 9)))
    done = sidx("identify", "wrong.npy", "-g", "v.gallery")
    assert done.returncode == 3 and "9 numbers; this tower takes 10" in done.stderr
    with Gallery.open(tmp_path / "v.gallery") as gallery:
        assert next(sample for _, sample in gallery.pictures())[:6] == b"\x93NUMPY"  # kept, for a better tower
    done = sidx("retrain", "--data", "learn.npz", "-g", "v.gallery", "--steps", "20", "--promote", "never")
    assert done.returncode == 0, done.stderr


def test_towers_of_others_train_in_full_and_half_precision(world, tmp_path):
    """A backbone of keras.applications with weights from a local file, frozen at first; and one's own function."""
    script = Path(__file__).with_name("towers_of_others.py")
    done = subprocess.run([sys.executable, script, world, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_tower_without_its_strangers_brings_none(world):
    made = train(world / "learn", **{**SMALL, "steps": 2}, cohort=False)
    assert len(made.cohort) == 0 and made.card.held_out["searches"] > 0


def test_a_gallery_can_be_trained_on(gallery, tmp_path):
    draw(tmp_path / "more", range(300, 308), range(3))
    gallery.enroll_many(sources.items(tmp_path / "more"))
    made = train(gallery.path, steps=2, size=24, dimension=16)
    assert set(made.card.training.identities) < {f"glyph-{n}" for n in range(300, 308)}


def test_what_is_resident_does_not_grow_with_the_pictures():
    script = """
        import resource
        import numpy as np
        from siamese_index.samples import images
        from siamese_index.samples.items import Items
        from siamese_index.training.data import Data
        from siamese_index.training.glyphs import glyph

        pictures = [np.roll(glyph(i, 0), i % 61) for i in range(200)]

        def picture(i):  # 20,000 different ones: the number is written into the first row
            p = pictures[i % 200].copy()
            p[0, :4, 0] = np.frombuffer(np.int32(i).tobytes(), np.uint8)
            return images.encode(p)

        count, before = 20_000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        items = Items([f"p{i // 10}" for i in range(count)], picture)
        data = Data(items, (64, 64, 1), lambda said: None, budget=4 << 20)
        assert data.left_out == [] and (data.whose >= 0).all()
        data.take(np.arange(0, count, 100))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 40  # MB; decoded they are 82


def test_a_tower_that_looks_around_has_the_same_weights_and_sees_nearly_the_same(world, person, tmp_path):
    found = []
    for looks in ("true", "false"):
        text = f"[tower]\nname = 'cnn'\nlooks = {looks}\n[loss]\nname = 'cosface'\n[input]\nsize = 24"
        made = train(world / "learn", recipe=recipe(tmp_path, text), steps=40, dimension=16, holdout=0.3)
        tower = Tower(made.onnx, made.card, made.id)
        found.append(tower.embed([tower.prepare(person(n, 0).read_bytes()) for n in range(12)]))
    likeness = np.sum(found[0] * found[1], axis=1)
    assert 0.7 < likeness.mean() < 0.999  # the mean of many looks, one of which is the other's
