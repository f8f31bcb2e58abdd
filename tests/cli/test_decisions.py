"""Commands about decisions: what enrolling warns of, plans, explanations, audits, evaluations, the log."""

import json

import cv2
import numpy as np
import pytest

from siamese_index import Gallery

G = ("-g", "people.gallery")


@pytest.fixture
def people(tmp_path, tower_path, person, world):
    """Six people enrolled from one picture each; the strangers given."""
    with Gallery.create(tmp_path / "people.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"glyph-{100 + n}", person(n, 0)) for n in range(6)])
        gallery.calibrate(strangers_given=[(p.parent.name, p) for p in sorted((world / "strangers").rglob("*.png"))])
    return tmp_path


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_conflict_names_whom_it_looks_like_and_can_be_insisted_on(sidx, people, person):
    pixels = cv2.imread(str(person(0, 0)), cv2.IMREAD_UNCHANGED)
    moved = np.roll(pixels, 1, axis=1)
    cv2.imwrite(str(people / "moved.png"), moved)
    done = sidx("enroll", "eve", "moved.png", *G, "--json")
    assert done.returncode == 2
    assert "looks like 'glyph-100'" in done.stderr and "--allow-conflict" in done.stderr
    assert sidx("enroll", "eve", "moved.png", *G, "--allow-conflict").returncode == 0
    assert sidx("enroll", "glyph-100", str(person(0, 0)), *G).stderr.startswith("0 enrolled, 1 already enrolled")


def test_a_dry_run_says_what_would_be(sidx, people, world):
    done = sidx("enroll", "--from", str(world / "people"), *G, "--dry-run")
    assert done.returncode == 0
    assert {row["result"] for row in lines(done)} == {"would be enrolled", "already enrolled"}
    for said in ("would hold 12 identities", "threshold would go from", "FNIR from – to", "Nothing was kept."):
        assert said in done.stderr
    assert len(lines(sidx("identities", "list", *G))) == 6


def test_a_floor_of_quality_refuses_with_the_reason(sidx, people, person):
    done = sidx("enroll", "eve", str(person(7, 0)), *G, "--floor", "size=500")
    assert (done.returncode, "too small" in done.stderr) == (3, True)
    assert "not KEY=VALUE" in sidx("enroll", "eve", str(person(7, 0)), *G, "--floor", "sharp").stderr


def test_an_explanation_in_words_and_as_a_picture(sidx, people, person):
    done = sidx("identify", str(person(1, 0)), *G, "--explain")
    assert done.returncode == 0
    assert lines(done)[0]["explanation"][-1] == "Verdict: match, 'glyph-101'."
    picture = cv2.imread(str(people / "hand-00.explained.png"))
    assert picture.shape == (220, 800, 3)
    assert sidx("identify", "a.png", "b.png", *G, "--explain").returncode == 2


def test_plans_and_capacity_come_with_intervals(sidx, people):
    plan = lines(sidx("calibrate", "--plan", "5", "--fpir", "0.1", *G))[0]
    assert plan["identities"] == 5 and plan["fpir"] <= 0.1 and not plan["extrapolated"]
    assert plan["fpir_interval"][0] <= plan["fpir"] <= plan["fpir_interval"][1]
    beyond = sidx("calibrate", "--plan", "5000", *G)
    assert lines(beyond)[0]["extrapolated"] and "Count on an FPIR of" in beyond.stderr
    done = sidx("capacity", "--fnir", "0.5", "--fpir", "0.2", *G)
    assert lines(done)[0]["identities"] >= 0 and "this tower holds" in done.stderr


def test_calibrate_chooses_the_fusion_and_says_so(sidx, people, world):
    sidx("enroll", "--from", str(world / "people"), *G, "--allow-conflict")
    chosen = lines(sidx("calibrate", "--fusion", "auto", *G))[0]
    assert chosen["fusion"] in ("best", "mean", "best-two")
    assert lines(sidx("calibrate", "--fusion", "mean", *G))[0]["fusion"] == "mean"
    kept = lines(sidx("calibrate", *G))[0]
    assert (kept["fusion"], kept["sources"]["gallery"]) == ("mean", 48)
    assert sidx("doctor", *G).returncode == 0


def test_the_content_is_audited(sidx, people, person):
    sidx("enroll", "glyph-101", str(person(0, 1)), *G, "--allow-conflict")
    done = sidx("doctor", "--content", *G)
    assert done.returncode == 0
    assert "FNIR" in done.stderr and all("what" in row for row in lines(done))


def test_an_evaluation_leaves_a_page_to_look_at(sidx, people, world):
    done = sidx("evaluate", str(world / "people"), *G, "--report", "answers.html")
    assert done.returncode == 0
    result = lines(done)[0]
    assert (result["mated"], result["strangers"]) == (24 - result["known"], 24)
    assert [o["fpir"] for o in result["operating"]] == [0.1, 0.01, 0.001]
    assert result["operating"][0]["fnir"]["of"] == result["mated"] and result["operating"][2]["fnir"] is None
    page = (people / "answers.html").read_text()
    assert "<svg" in page and "The worst mistakes" in page


def test_pairs_and_one_shot_runs_are_evaluated_too(sidx, people, person, tower_path):
    rows = [f"{person(n, 0)},{person(n, 1)},1\n{person(n, 0)},{person((n + 1) % 6, 1)},0" for n in range(6)]
    (people / "pairs.csv").write_text("path_a,path_b,label\n" + "\n".join(rows[:1]) + "\n")
    done = sidx("evaluate", "pairs.csv", *G, "--report", "pairs.html")
    assert (done.returncode, lines(done)[0]["pairs"]) == (0, 2), done.stderr
    (people / "runs" / "run01").mkdir(parents=True)
    (people / "runs" / "a.png").write_bytes(person(0, 0).read_bytes())
    (people / "runs" / "b.png").write_bytes(person(1, 0).read_bytes())
    (people / "runs" / "run01" / "class_labels.txt").write_text("a.png a.png\nb.png b.png\n")
    for where in (G, ("--tower", str(tower_path))):
        done = sidx("evaluate", "runs", *where, "--report", "runs.html")
        assert lines(done)[0]["error"]["count"] == 0, done.stderr
    assert sidx("evaluate", "pairs.csv", "--tower", str(tower_path)).returncode == 2


def test_answers_are_logged_and_asked_again(sidx, people, person):
    assert lines(sidx("log", *G)) == [{"log": False, "answers": 0}]
    sidx("log", "on", *G)
    sidx("identify", str(person(1, 0)), *G)
    assert "sidx replay" in sidx("log", *G).stderr
    done = sidx("replay", *G)
    assert (done.returncode, lines(done)) == (0, [])
    sidx("identities", "remove", "glyph-101", *G)
    flip = lines(sidx("replay", *G))[0]
    assert (flip["verdict"], flip["identity"]) == ("match", "glyph-101")
    assert lines(sidx("log", "clear", "--yes", *G)) == [{"log": True, "answers": 0}]


def test_strangers_are_listed_taken_out_and_brought_back(sidx, people, world):
    rows = lines(sidx("strangers", "list", *G))
    assert {row["source"] for row in rows} == {"given", "tower"} and {row["state"] for row in rows} == {"counts"}
    given = next(row["stranger"] for row in rows if row["source"] == "given")
    before = lines(sidx("calibrate", *G))[0]
    assert f"{given} and its 2 samples no longer count." in sidx("strangers", "remove", given, *G).stderr
    assert {row["state"] for row in lines(sidx("strangers", "show", given, *G))} == {"removed"}
    assert lines(sidx("calibrate", *G))[0]["sources"]["given"] == before["sources"]["given"] - 2
    assert sidx("strangers", "restore", given, *G).returncode == 0
    again = lines(sidx("calibrate", *G))[0]
    assert (again["threshold"], again["sources"]) == (before["threshold"], before["sources"])
    sidx("strangers", "remove", given, *G)
    back = lines(sidx("calibrate", "--strangers", str(world / "strangers"), *G))[0]  # given again
    assert back["sources"] == before["sources"]
    assert sidx("strangers", "remove", "nobody", *G).returncode == 4


def test_a_target_is_kept_with_a_confidence_and_strictly_when_the_gallery_is_told(sidx, people, person):
    probe = str(person(1, 0))
    assert sidx("identify", probe, *G).returncode == 0
    assert sidx("settings", "set", "strict", "on", *G).returncode == 0
    answer = sidx("identify", probe, *G)
    assert answer.returncode == 10 and lines(answer)[0]["evidence"]["promised"] is False
    assert lines(sidx("calibrate", "--confidence", "0.95", *G))[0]["confidence"] == 0.95
    assert "is now none" in sidx("settings", "set", "confidence", "none", *G).stderr
    assert lines(sidx("calibrate", *G))[0]["confidence"] is None
    assert sidx("calibrate", "--confidence", "1.5", *G).returncode == 2
    few = sidx("calibrate", "--shift", *G)
    assert few.returncode == 2 and "at least 10 identities" in few.stderr
    assert sidx("calibrate", "--plan", "5", "--shift", *G).returncode == 2
    assert sidx("settings", "set", "shift", "off", *G).returncode == 0


def test_wrong_labels_and_doubles_are_told_at_once(sidx, tmp_path):
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 48))
    vectors = (people[:, None] + 0.35 * rng.normal(size=(30, 4, 48))).astype(np.float32)
    for n, person in enumerate(vectors[:20]):
        (tmp_path / "people" / f"p{n:02d}").mkdir(parents=True)
        for k, vector in enumerate(person):
            np.save(tmp_path / "people" / f"p{n:02d}" / f"{k}.npy", vector)
    sidx("init", "--dimension", "48", "-g", "v.gallery")
    clean = sidx("enroll", "--from", "people", "-g", "v.gallery")
    assert clean.returncode == 0 and "set aside" not in clean.stderr
    before = lines(sidx("calibrate", "-g", "v.gallery"))[0]
    np.save(tmp_path / "wrong.npy", vectors[3, 0] + 0.2 * rng.normal(size=48).astype(np.float32))
    wrong = sidx("enroll", "p11", "wrong.npy", "--allow-conflict", "-g", "v.gallery")
    assert "of 'p11' looks like 'p03'" in wrong.stderr
    after = lines(sidx("calibrate", "-g", "v.gallery"))[0]
    assert abs(after["threshold"] - before["threshold"]) < 0.05 and after["set_aside"] > 0
    assert after["suspects"][0]["cause"] == "mislabelled"
    np.save(tmp_path / "strangers.npy", (people[7] + 0.3 * rng.normal(size=(1, 48))).astype(np.float32))
    told = sidx("calibrate", "--strangers", "strangers.npy", "-g", "v.gallery")
    assert "looks like 'p07'" in told.stderr and "sidx strangers remove" in told.stderr


def test_the_searches_that_set_a_threshold_are_named(sidx, people):
    told = lines(sidx("calibrate", *G))[0]
    nearest = told["nearest"]
    assert 0 < len(nearest) <= 5 and nearest == sorted(nearest, key=lambda row: row["distance"])
    assert {row["near"] for row in nearest} <= {f"glyph-{100 + n}" for n in range(6)}
    assert all(row["who"] != row["near"] for row in nearest)
    costs = [row["fnir"] for row in told["tradeoffs"] if row["confidence"] is None]
    assert costs == sorted(costs, reverse=True)  # the more strangers may be let in, the fewer are missed


def test_strangers_who_are_enrolled_are_told(sidx, people, world):
    told = sidx("calibrate", "--strangers", str(world / "people"), *G)
    assert "of strangers are enrolled, by name or by the same bytes" in told.stderr
