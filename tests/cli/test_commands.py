"""The program as its user meets it: streams, exit codes, NDJSON, errors; each run a process of its own."""

import contextlib
import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamese_index import Gallery

G = ("-g", "people.gallery")


@pytest.fixture
def people(tower_path, world, tmp_path, person):
    """people.gallery with six people, beside ada.png (another picture of person 0) and stranger.png."""
    with Gallery.create(tmp_path / "people.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"person {n}", person(n, 0)) for n in range(6)])
    shutil.copy(person(0, 0), tmp_path / "known.png")
    shutil.copy(world / "strangers" / "glyph-200" / "hand-00.png", tmp_path / "stranger.png")
    return tmp_path


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_enroll_makes_the_gallery_when_given_a_tower_and_says_what_comes_next(sidx, tower_path, person, tmp_path):
    done = sidx("enroll", "ada", person(0, 0), person(0, 1), "--tower", tower_path, *G)
    assert done.returncode == 0, done.stderr
    assert [row["result"] for row in lines(done)] == ["enrolled", "enrolled"]
    assert "Next:  sidx identify" in done.stderr
    with sqlite3.connect(tmp_path / "people.gallery") as db:
        assert db.execute("SELECT count(*) FROM sample WHERE picture IS NOT NULL").fetchone() == (2,)


def test_identify_opens_the_door_only_to_a_match(sidx, people):
    known, stranger = sidx("identify", "known.png", *G), sidx("identify", "stranger.png", *G)
    assert (known.returncode, stranger.returncode) == (0, 10)
    answer = lines(known)[0]
    assert (answer["verdict"], answer["identity"], answer["probe"]) == ("match", "person 0", "known.png")
    assert lines(stranger)[0]["identity"] is None
    assert "add about" in stranger.stderr


def test_ambiguous_has_an_exit_code_of_its_own(sidx, tmp_path, angles):
    with Gallery.create(tmp_path / "v.gallery", dimension=8) as gallery:
        gallery.enroll_vectors(["ada", "bob"], angles(-20, 20))
    np.save(tmp_path / "probe.npy", angles(0))
    assert sidx("identify", "probe.npy", "--threshold", "1", "-g", "v.gallery").returncode == 11


def test_several_probes_exit_as_the_worst_of_them(sidx, people):
    done = sidx("identify", "known.png", "stranger.png", *G)
    assert done.returncode == 10
    assert [row["verdict"] for row in lines(done)] == ["match", "unknown"]
    assert sidx("identify", "known.png", "stranger.png", "--exit-worst", *G).returncode == 10
    assert sidx("identify", "known.png", "stranger.png", "--exit-zero", *G).returncode == 0
    assert sidx("identify", "stranger.png", "--exit-zero", *G).returncode == 0
    assert sidx("identify", "known.png", "nope.png", "--exit-zero", *G).returncode == 3
    assert sidx("identify", "known.png", "known.png", *G).returncode == 0


@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_covered_lens_is_nobody(sidx, people, level):
    shade = np.clip(level + np.random.default_rng(0).normal(0, 2, (64, 64)), 0, 255).astype(np.uint8)
    cv2.imwrite(str(people / "covered.png"), shade)
    refused = sidx("enroll", "dark", "covered.png", *G)
    assert refused.returncode == 12 and "shows nothing" in refused.stderr
    done = sidx("identify", "covered.png", *G)
    assert done.returncode == 12
    assert (lines(done)[0]["verdict"], lines(done)[0]["identity"], lines(done)[0]["candidates"]) == (
        "no_subject",
        None,
        [],
    )
    assert "lens" in done.stderr
    assert sidx("identify", "known.png", "covered.png", *G).returncode == 12
    assert sidx("identify", "covered.png", "stranger.png", *G).returncode == 10
    assert sidx("verify", "known.png", "covered.png", *G).returncode == 12
    assert sidx("identify", "covered.png", "--explain", *G).returncode == 12


def test_unreadable_probes_are_named_on_stderr_and_the_others_answered(sidx, people):
    (people / "bad.png").write_bytes(b"no picture")
    done = sidx("identify", "known.png", "bad.png", *G)
    assert done.returncode == 3
    assert len(lines(done)) == 1
    assert "bad.png: this is not a picture" in done.stderr
    alone = sidx("identify", "bad.png", *G)
    assert (alone.returncode, alone.stdout) == (3, "")


def test_a_picture_may_come_through_a_pipe(sidx, people):
    done = sidx("identify", "-", *G, stdin=(people / "known.png").read_bytes())
    assert (done.returncode, lines(done)[0]["identity"]) == (0, "person 0")
    assert sidx("identify", "-", *G, stdin=b"").returncode == 3
    assert sidx("log", "on", *G).returncode == 0
    assert sidx("identify", "-", *G, stdin=(people / "known.png").read_bytes()).returncode == 0
    assert lines(sidx("log", "list", *G, "--json"))[0]["probe"] == "standard input"


def test_several_pictures_may_come_through_one_pipe(sidx, people):
    known, other = (people / "known.png").read_bytes(), people / "other.jpg"
    other.write_bytes(cv2.imencode(".jpg", cv2.imread(str(people / "known.png")))[1].tobytes())
    done = sidx("identify", "-", *G, stdin=known + other.read_bytes() + known)
    assert [line["probe"] for line in lines(done)] == [f"standard input {i}" for i in (1, 2, 3)]
    assert {line["identity"] for line in lines(done)} == {"person 0"}
    cut = sidx("identify", "-", *G, stdin=known + other.read_bytes()[:-20])
    assert (cut.returncode, len(lines(cut))) == (3, 1)
    assert "standard input 2: the picture is cut short" in cut.stderr


def completed(people, words, shell="bash"):
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    environment |= {
        "_SIDX_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": words,
        "SIDX_GALLERY": "people.gallery",
    }
    sidx = Path(sys.executable).with_name("sidx")
    done = subprocess.run([sidx], cwd=people, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [line for line in done.stdout.split("\n") if line]


def test_a_shell_completes_commands_options_and_names(people):
    assert completed(people, "sidx ident") == ["identify", "identities"]
    assert completed(people, "sidx identify --exit") == ["--exit-zero"]
    assert completed(people, "sidx identities show per") == [f"person\\ {n}" for n in range(6)]
    assert completed(people, "sidx -g nowhere.gallery identities show per") == []
    (people / "people.gallery").write_bytes(b"no gallery")
    assert completed(people, "sidx verify known.png --as per") == []


def test_results_as_comma_separated_values(sidx, people):
    done = sidx("identify", "known.png", "stranger.png", "--csv", "-k", "1", *G)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["verdict"] for row in rows] == ["match", "unknown"]
    assert float(rows[0]["distance"]) < float(rows[0]["threshold"])
    assert json.loads(rows[0]["candidates"])[0]["identity"] == rows[0]["identity"] == "person 0"
    (fact,) = csv.DictReader(io.StringIO(sidx("status", "--csv", *G).stdout))
    assert fact["identities"] == "6"


def test_an_identity_is_shown_with_who_else_is_near_and_as_a_page(sidx, people, person):
    sidx("enroll", "person 0", str(person(0, 1)), "--allow-conflict", *G)
    first, second = lines(sidx("identities", "show", "person 0", "--page", "p.html", *G))
    with Gallery.open(people / "people.gallery") as gallery:
        own = float(np.linalg.norm(gallery.template(first["id"]) - gallery.template(second["id"])))
        others = [row.id for row in gallery.samples() if row.identity != "person 0"]
        away = [float(np.linalg.norm(gallery.template(first["id"]) - gallery.template(i))) for i in others]
    assert first["own"] == second["own"] == pytest.approx(own, abs=1e-5)
    assert first["other_distance"] == pytest.approx(min(away), abs=1e-5)
    assert first["other"] == f"person {1 + int(np.argmin(away))}"
    text = (people / "p.html").read_text()
    assert text.count('<img alt="" src="data:image/png') == 2 and "person 0" in text
    (people / "mine.txt").write_text("dear diary")
    assert sidx("identities", "show", "person 0", "--page", "mine.txt", *G).returncode == 2


def test_quiet_leaves_results_and_errors(sidx, people):
    for words in (("-q", "identify", "known.png", *G), ("identify", "known.png", *G, "--quiet")):
        done = sidx(*words)
        assert (done.returncode, len(lines(done)), done.stderr) == (0, 1, "")
    wrong = sidx("identify", "nope.png", "-q", *G)
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (4, "", "sidx: nope.png: no such file.\n")


def test_words_of_decoders_are_counted_and_not_printed_among_ours(sidx, people):
    rows = cv2.imread(str(people / "known.png"))
    data = cv2.imencode(".jpg", cv2.resize(rows, (400, 400)))[1].tobytes()
    (people / "holed.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")  # it has an end, and half of its pixels
    done = sidx("identify", "holed.jpg", "--threshold", "2", "--exit-zero", *G)
    assert done.stderr.count("Corrupt JPEG data") == 1
    assert "1 time a picture was read though pixels were missing in it" in done.stderr
    clean = sidx("identify", "known.png", *G)
    assert "pixels were missing" not in clean.stderr


def test_fpir_and_threshold_change_the_answer(sidx, people):
    assert sidx("identify", "known.png", "--threshold", "0", *G).returncode in (0, 10)
    assert sidx("identify", "stranger.png", "--threshold", "2", *G).returncode == 0
    strict = lines(sidx("identify", "known.png", "--fpir", "0.001", *G))[0]
    assert strict["evidence"]["target_fpir"] == 0.001
    assert strict["evidence"]["missing"] > 2900


def test_the_gallery_may_come_from_the_environment(sidx, people):
    assert sidx("identities", "list", SIDX_GALLERY="people.gallery").returncode == 0
    assert sidx("identities", "list").returncode == 4  # ./main.gallery is not there


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["identify", "nobody.png", *G], 4, "no such file"),
        (["identify", "known.png", "-g", "none.gallery"], 4, "sidx init"),
        (["identify", "known.png", "-g", "known.png"], 6, "not a gallery"),
        (["identify", "known.png", "--fpir", "0.1", "--threshold", "1", *G], 2, "exclude each other"),
        (["calibrate", "--fpir", "5e-324", *G], 2, "1e-09 and more"),  # every command would have overflowed
        (["identify", "known.png", "-k", "0", *G], 2, "1 to 1000"),
        (["identify", "known.png", "--no-such-option", *G], 2, "No such option"),
        (["identify", *G], 2, "There is no probe"),
        (["nonsense"], 2, "No such command"),
        (["enroll", "ada", *G], 2, "NAME and pictures"),
        (["enroll", "bob", "known.png", *G], 2, "already enrolled as 'person 0'"),
        (["enroll", "two\nlines", "stranger.png", *G], 2, "control characters"),
        (["enroll", "--from", "nowhere", *G], 4, "no such file or folder"),
        (["verify", "known.png", *G], 2, "--as NAME"),
        (["identities", "show", "nobody", *G], 4, "not enrolled"),
        (["identities", "rename", "person 0", "person 1", *G], 2, "enrolled already"),
        (["towers", "promote", "ffff", *G], 4, "sidx towers list"),
        (["towers", "rollback", *G], 2, "no earlier tower to go back to"),
        (["restore", "known.png", "-g", "new.gallery"], 6, "not a gallery"),
        (["init", "--tower", "known.png", "-g", "new.gallery"], 6, "not a tower file"),
        (["init", "-g", "new.gallery"], 2, "--tower FILE"),
        (["train", "known.png", "-o", "x.tower"], 2, "cannot be read as data"),
        (["retrain", *G], 2, "retraining needs 10"),
    ],
)
def test_what_goes_wrong_is_told_in_plain_words_with_its_exit_code(sidx, people, arguments, code, says):
    before = (people / "people.gallery").read_bytes()
    done = sidx(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert (people / "people.gallery").read_bytes() == before


def test_debug_shows_where_an_error_came_from(sidx, people):
    assert "Traceback" in sidx("--debug", "identities", "show", "nobody", *G).stderr


def test_identities_are_listed_renamed_and_removed(sidx, people):
    assert [row["identity"] for row in lines(sidx("identities", "list", *G))] == [f"person {n}" for n in range(6)]
    assert sidx("identities", "rename", "person 0", "ada", *G).returncode == 0
    shown = lines(sidx("identities", "show", "ada", *G))
    assert [(row["identity"], row["kept"]) for row in shown] == [("ada", True)]
    assert lines(sidx("identify", "known.png", *G))[0]["identity"] == "ada"
    assert sidx("identities", "remove", "ada", *G).returncode == 0
    assert sidx("identify", "known.png", *G).returncode == 10
    assert len(lines(sidx("samples", "list", *G))) == 5


def test_a_folder_is_enrolled_and_its_bad_pictures_listed(sidx, people, world):
    shutil.copytree(world / "people", people / "more")
    (people / "more" / "glyph-100" / "bad.png").write_bytes(b"")
    done = sidx("enroll", "--from", "more", *G)
    assert done.returncode == 3
    rows = lines(done)
    assert [row["result"] for row in rows].count("enrolled") == 42
    refused = [row for row in rows if row["result"] == "refused"]
    assert sum("already enrolled as 'person" in row["why"] for row in refused) == 6
    empty = next(row for row in refused if "the file is empty" in row["why"])
    assert (empty["identity"], empty["code"]) == ("glyph-100", "unreadable")
    assert "42 enrolled, 0 already enrolled, 7 refused" in done.stderr


def test_calibrate_shows_the_threshold_with_its_interval_and_takes_strangers(sidx, people, world):
    before = lines(sidx("calibrate", *G))[0]
    assert before["fpir_interval"][0] == 0 and before["missing_strangers"] > 0
    after = lines(sidx("calibrate", "--strangers", world / "strangers", "--fpir", "0.05", *G))[0]
    assert after["stranger_searches"] == before["stranger_searches"] + 16
    assert after["target_fpir"] == 0.05
    assert lines(sidx("calibrate", *G))[0]["target_fpir"] == 0.05


def test_evaluate_counts_mated_probes_and_strangers(sidx, people, world):
    for number in range(6):
        sidx("identities", "rename", f"person {number}", f"glyph-{100 + number}", *G)
    shutil.copytree(world / "people", people / "probes")
    result = lines(sidx("evaluate", "probes", *G))[0]
    assert (result["mated"], result["strangers"], result["stranger_identities"], result["known"]) == (18, 24, 6, 6)
    assert result["rank1"]["count"] >= 13
    assert result["fpir"]["low"] <= result["fpir"]["share"] <= result["fpir"]["high"]


def test_verify_says_whether_two_are_the_same(sidx, people):
    assert sidx("verify", "known.png", "known.png", "--fmr", "0.5", *G).returncode == 0
    assert sidx("verify", "known.png", "--as", "person 0", "--fmr", "0.5", *G).returncode == 0
    unsure = sidx("verify", "known.png", "known.png", "--fmr", "0.001", *G)
    assert unsure.returncode == 10 and "too few to promise 0.1 %" in unsure.stderr
    done = sidx("verify", "known.png", "stranger.png", *G)
    assert (done.returncode, lines(done)[0]["verdict"]) == (10, "unknown")


def test_doctor_backup_and_restore(sidx, people):
    assert sidx("backup", "copy", *G).returncode == 0
    assert sidx("identities", "remove", "person 0", *G).returncode == 0
    assert sidx("restore", "copy", *G).returncode == 2
    assert sidx("restore", "copy", "--replace", *G).returncode == 0
    assert sidx("identify", "known.png", *G).returncode == 0
    done = sidx("doctor", *G)
    assert (done.returncode, lines(done)[0]["problems"]) == (0, [])
    (people / "people.gallery").chmod(0o644)
    assert sidx("doctor", *G).returncode == 6
    assert sidx("doctor", "--fix", *G).returncode == 0


def test_vectors_from_elsewhere_go_the_same_way(sidx, tmp_path, angles):
    np.savez(tmp_path / "v.npz", vectors=angles(0, 90), names=np.array(["ada", "bob"]))
    np.savez(tmp_path / "s.npz", vectors=angles(*range(180, 260)), names=np.array([f"s{i}" for i in range(80)]))
    np.save(tmp_path / "p.npy", angles(1, 200))
    assert sidx("init", "--dimension", "8", "-g", "v.gallery").returncode == 0
    assert sidx("enroll", "--from", "v.npz", "-g", "v.gallery").returncode == 0
    assert sidx("calibrate", "--strangers", "s.npz", "--fpir", "0.05", "-g", "v.gallery").returncode == 0
    done = sidx("identify", "p.npy", "-g", "v.gallery")
    assert [row["identity"] for row in lines(done)] == ["ada", None]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["identify", "known.png", *G], ["identities", "list", *G], ["calibrate", *G]]
)
def test_nothing_but_training_loads_tensorflow(people, arguments):
    script = (
        "import sys; from siamese_index.cli import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "loaded = {m.split('.')[0] for m in sys.modules}\n"
        "assert not loaded & {'tensorflow', 'keras', 'tf2onnx', 'sqlite_utils', 'rich', 'pydantic'}, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=people, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_keras_training_says_what_to_install(people, world):
    # A real interpreter that cannot find Keras: the finder is asked before any other.
    script = (
        "import sys, importlib.util; found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n in ('keras', 'tensorflow') else found(n, *a)\n"
        "from siamese_index.cli import run; run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "train", str(world / "learn"), "-o", "x.tower"],
        cwd=people, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 7
    assert 'pip install ".[train-cpu]"' in done.stderr
    script = script.replace("('keras', 'tensorflow')", "('onnx',)")
    done = subprocess.run(
        [sys.executable, "-c", script, "towers", "optimize", *G], cwd=people, capture_output=True, text=True
    )
    assert (done.returncode, 'pip install ".[train-cpu]"' in done.stderr) == (7, True), done.stderr


def test_a_closed_pipe_ends_quietly(people):
    command = f"{sys.executable} -c 'from siamese_index.cli import run; run()' samples list -g people.gallery | head -1"
    done = subprocess.run(command, shell=True, cwd=people, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def at_a_terminal(folder, *words, columns=80):
    """Run the program at a real pseudo-terminal; return its exit code and all that it shows."""
    import pty

    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", "from siamese_index.cli import run; run()", *words],
        cwd=folder, stdout=follower, stderr=follower, env={**os.environ, "COLUMNS": str(columns)},
    )  # fmt: skip
    os.close(follower)
    shown = ""
    with contextlib.suppress(OSError):  # how a terminal says that its last user is gone
        while True:
            shown += os.read(leader, 65536).decode()
    os.close(leader)
    return child.wait(60), shown


def test_at_a_terminal_answers_are_a_table(people):
    """No JSON, aligned columns."""
    code, shown = at_a_terminal(people, "identify", "known.png", "stranger.png", *G)
    assert code == 10
    assert "{" not in shown
    header = next(line for line in shown.splitlines() if line.startswith("probe"))
    match = next(line for line in shown.splitlines() if line.startswith("known.png"))
    assert match.index("match") == header.index("verdict")


def test_a_table_that_is_wider_than_the_terminal_is_a_fact_a_line(people):
    _, shown = at_a_terminal(people, "identify", "known.png", "stranger.png", "-q", *G, columns=40)
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("verdict")] == ["match", "unknown"]


def test_the_program_says_its_version_and_without_a_command_what_it_can_do(sidx):
    import siamese_index

    assert sidx("--version").stdout.strip() == siamese_index.__version__
    assert "sidx demo" in sidx().stdout + sidx().stderr


def test_a_gallery_of_nobody_says_so(sidx, tower_path, person):
    sidx("init", "--tower", tower_path, "-g", "new.gallery")
    for command in (["identify", person(0, 0)], ["calibrate"]):
        assert "Nobody is enrolled yet: sidx enroll NAME PICTURE" in sidx(*command, "-g", "new.gallery").stderr
    sidx("enroll", "ada", person(0, 0), "-g", "new.gallery")
    tagged = sidx("identify", person(0, 0), "--tag", "site=north", "-g", "new.gallery")
    assert tagged.returncode == 2 and "Nobody who is enrolled is tagged site=north." in tagged.stderr
    before = sidx("-g", "new.gallery", "identify", person(0, 0), "--threshold", "1")  # as git has it
    assert before.returncode == 0, before.stderr


def test_settings_are_listed_with_how_to_change_them_also_without_a_gallery(sidx, tower_path):
    bare = sidx("settings", "list", PGPASSWORD="secret")
    assert bare.returncode == 0 and "secret" not in bare.stdout and "main.gallery" in bare.stderr
    assert {row["where"] for row in map(json.loads, bare.stdout.splitlines())} == {"environment"}
    assert sidx("settings", "list", "-g", "none.gallery").returncode == 4
    sidx("init", "--tower", tower_path, "-g", "new.gallery")
    assert "fusion of new.gallery is now best." in sidx("settings", "set", "fusion", "auto", "-g", "new.gallery").stderr


def test_the_words_of_results_are_explained_by_the_program(sidx):
    assert "false positive identification rate" in sidx("glossary").stdout


def test_a_gallery_at_one_glance(sidx, people):
    found = lines(sidx("status", *G))[0]
    assert (found["identities"], found["samples"], found["takes"]) == (6, 6, "pictures")
    with Gallery.open(people / "people.gallery") as gallery:
        assert found["threshold"] == gallery.threshold().tau
        assert found["revision"] == gallery.revision
    assert "strangers" in sidx("status", *G).stderr


def test_of_two_galleries_the_later_one_counts(sidx, people):
    shutil.copy(people / "people.gallery", people / "other.gallery")
    done = sidx("-g", "people.gallery", "identities", "remove", "person 1", "-g", "other.gallery")
    assert done.returncode == 0
    with Gallery.open(people / "people.gallery") as one, Gallery.open(people / "other.gallery") as other:
        assert (len(one.identities()), len(other.identities())) == (6, 5)
    assert len(lines(sidx("-gother.gallery", "identities", "list"))) == 5


def test_paths_may_be_separated_by_zero_bytes(sidx, people):
    done = sidx("identify", "--paths-from", "-", *G, stdin=b"known.png\0stranger.png\0")
    assert [line["probe"] for line in lines(done)] == ["known.png", "stranger.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_cannot_be_written_is_no_bug(sidx, people):
    program = "from siamese_index.cli import run; run()"
    for words in (["glossary"], ["identify", "known.png", *G]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-c", program, *words], cwd=people, stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert done.returncode == 4 and "cannot be written" in done.stderr and "bug" not in done.stderr
    closed = subprocess.run(
        ["sh", "-c", f"{sys.executable} -c '{program}' identities list -g people.gallery >&-"],
        cwd=people,
        capture_output=True,
        text=True,
    )
    assert "bug" not in closed.stderr and "Traceback" not in closed.stderr


def test_refused_rows_say_why_also_in_csv(sidx, people):
    (people / "more" / "new").mkdir(parents=True)
    shutil.copy(people / "stranger.png", people / "more" / "new" / "a.png")
    (people / "more" / "new" / "b.png").write_bytes(b"no picture")
    done = sidx("enroll", "--from", "more", "--csv", *G)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["code"] for row in rows if row["result"] == "refused"] == ["unreadable"]


def test_a_name_with_a_carriage_return_overwrites_nothing_at_a_terminal(people):
    shutil.copy(people / "known.png", people / "x\rmatch.png")
    _, shown = at_a_terminal(people, "identify", "x\rmatch.png", *G)
    assert "x\\rmatch.png" in shown and "x\rmatch" not in shown
