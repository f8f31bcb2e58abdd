"""Every accepted option takes effect, or is refused; an output replaces nothing else; nothing runs unasked."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siamese_index import Gallery

G = ("-g", "people.gallery")
SIDX = Path(sys.executable).with_name("sidx")  # the installed program itself


@pytest.fixture
def people(tower_path, world, tmp_path, person):
    """people.gallery with six people, tagged site=south but for the first; known.png shows the first."""
    with Gallery.create(tmp_path / "people.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"person {n}", person(n, 0)) for n in range(6)], tags={"site": "south"})
        gallery.tag("person 0", {"site": "north"})
    shutil.copy(person(0, 0), tmp_path / "known.png")
    shutil.copy(tower_path, tmp_path / "people.tower")
    return tmp_path


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_explained_answer_is_the_answer(sidx, people):
    for options in (["--tag", "site=north"], ["--tag", "site=south"], ["-k", "1"], ["-k", "4", "--exact"],
                    ["--threshold", "0.01"]):  # fmt: skip
        plain = sidx("identify", "known.png", *G, *options)
        explained = sidx("identify", "known.png", *G, *options, "--explain")
        assert explained.returncode == plain.returncode, options
        wanted, found = lines(plain)[0], lines(explained)[0]
        for key in ("verdict", "identity", "distance", "threshold", "candidates", "margin"):
            assert found[key] == wanted[key], (options, key)
    assert sidx("identify", "known.png", *G, "--explain", "-k", "0").returncode == 2
    assert sidx("identify", "known.png", *G, "--explain", "--tag", "site").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["calibrate", "--plan", "20", "--strangers", "/does/not/exist"], "--plan only computes"),
        (["calibrate", "--plan", "5", "--fusion", "mean"], "--plan only computes"),
        (["doctor", "--content", "--fix"], "for you to judge"),
        (["enroll", "eve", "known.png", "--tower", "other.tower"], "--tower only makes a gallery"),
        (["enroll", "eve", "known.png", "--names", "names.csv"], "--names is for many"),
        (["enroll", "--from", "people", "--names", "names.csv"], "--names is for vectors"),
        (["enroll", "eve", "known.png", "--dask", "tcp://127.0.0.1:1"], "--dask is for many"),
        (["evaluate", "pairs.csv", "-k", "3"], "-k means nothing there"),
        (["evaluate", "pairs.csv", "--threshold", "0.5"], "--threshold means nothing there"),
        (["evaluate", "runs", "--fpir", "0.1"], "--fpir means nothing there"),
        (["evaluate", "runs", "--tower", "people.tower"], "Give --tower or --gallery"),
        (["identities", "tag", "person 0", "site="], "has no value"),
        (["identify", "known.png", "--tag", "a=1", "--tag", "a=2"], "given twice"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(sidx, people, world, arguments, says):
    from siamese_index import TowerFile

    tower = TowerFile.read(people / "people.tower")
    TowerFile(tower.onnx + b"\x72\x00", tower.keras, tower.card, tower.cohort).write(people / "other.tower")
    shutil.copytree(world / "people", people / "people")
    (people / "pairs.csv").write_text("path_a,path_b,label\nknown.png,people/glyph-101/hand-00.png,0\n")
    (people / "runs" / "run01").mkdir(parents=True)
    (people / "runs" / "run01" / "class_labels.txt").write_text("a.png b.png\n")
    before = (people / "people.gallery").read_bytes()
    done = sidx(*arguments, *G)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert says in done.stderr
    assert (people / "people.gallery").read_bytes() == before


def test_the_tower_that_a_gallery_has_may_be_named_again(sidx, people, person):
    assert sidx("enroll", "eve", person(7, 0), "--tower", "people.tower", *G).returncode == 0


def test_a_size_in_pixels_is_refused_for_vectors(sidx, tmp_path):
    np.savez(
        tmp_path / "v.npz", x=np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), y=np.arange(20) % 5
    )
    done = sidx("train", "v.npz", "-o", "v.tower", "--size", "16")
    assert (done.returncode, "no size in pixels" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["identify", "", *G],
        ["identify", "known.png", "", *G],
        ["identify", "  ", *G],
        ["enroll", "ada", "", *G],
        ["enroll", "", "known.png", *G],
        ["enroll", "--from", "", *G],
        ["enroll", "--from=", *G],
        ["calibrate", "--strangers", "", *G],
        ["evaluate", "", *G],
        ["backup", "", *G],
        ["restore", "", *G],
        ["identities", "rename", "person 0", "", *G],
        ["identify", "known.png", "-g", ""],
        ["train", "", "-o", "x.tower"],
        ["train", "people", "-o", ""],
        ["demo", "--folder", ""],
    ],
)
def test_an_empty_argument_is_refused_and_nothing_below_the_folder_is_taken(sidx, people, arguments):
    before = {p.name: p.stat().st_mtime_ns for p in people.iterdir()}
    done = sidx(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "empty" in done.stderr
    assert {p.name: p.stat().st_mtime_ns for p in people.iterdir()} == before


def test_an_empty_path_is_refused_by_the_library_too(people):
    from siamese_index import BadInput
    from siamese_index.samples import sources

    for call in (lambda: Gallery.open(""), lambda: sources.items(""), lambda: sources.samples([""]),
                 lambda: Gallery.create("", dimension=8)):  # fmt: skip
        with pytest.raises(BadInput, match="empty"):
            call()


def test_tags_are_cleaned_and_an_empty_one_is_refused(people):
    from siamese_index import BadInput

    with Gallery.open(people / "people.gallery") as gallery:
        gallery.tag("person 1", {" site": " north "})
        assert gallery.identities()[1].tags == {"site": "north"}
        for wrong in ({"site": ""}, {"": "north"}, {"site": "a", " site": "b"}, {"site": "a", "site ": None}):
            with pytest.raises(BadInput):
                gallery.tag("person 1", wrong)
        gallery.tag("person 1", {" site ": None})
        assert gallery.identities()[1].tags == {}


def test_among_several_probes_a_missing_one_is_told_by_the_exit_code(sidx, people):
    assert sidx("identify", "known.png", "nope.png", *G).returncode == 3
    assert sidx("identify", "known.png", "nope.png", "--exit-worst", *G).returncode == 3
    assert sidx("identify", "nope.png", "nope2.png", *G).returncode == 3
    assert sidx("identify", "nope.png", *G).returncode == 4


@pytest.fixture
def others(people, world, tmp_path):
    """Files that an output could be pointed at by mistake, by name."""
    with Gallery.create(people / "another.gallery", people / "people.tower") as gallery:
        gallery.enroll("somebody", [people / "known.png"])
    (people / "thesis.txt").write_text("years of work")
    (people / "page.html").write_text("<!doctype html><title>mine</title>")
    (people / "empty").write_bytes(b"")
    (people / "folder").mkdir()
    return {p.name: p.read_bytes() for p in people.iterdir() if p.is_file()}


@pytest.mark.parametrize("target", ["another.gallery", "people.gallery", "thesis.txt", "page.html", "known.png",
                                    "people.tower", "folder", "/dev/null"])  # fmt: skip
@pytest.mark.parametrize("command", ["backup", "report", "tower"])
def test_an_output_never_replaces_something_else(sidx, people, others, world, command, target):
    if (command, target) == ("tower", "people.tower"):
        pytest.skip("a tower may replace a tower")
    wanted = {"backup": ["backup", target], "report": ["evaluate", str(world / "people"), "--report", target],
              "tower": ["train", str(world / "learn"), "-o", target, "--steps", "2"]}[command]  # fmt: skip
    done = sidx(*wanted, *(() if command == "tower" else G))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Choose another" in done.stderr
    assert "Keras is starting" not in done.stderr
    assert {p.name: p.read_bytes() for p in people.iterdir() if p.is_file()} == others
    assert Path("/dev/null").is_char_device()


def test_an_output_may_replace_its_own_kind(sidx, people, others, world):
    for target in ("new.backup", "empty"):
        assert sidx("backup", target, *G).returncode == 0
    assert sidx("identities", "remove", "person 5", *G).returncode == 0
    assert sidx("backup", "new.backup", *G).returncode == 0  # over an earlier state
    shutil.copy(people / "new.backup", people / "later.backup")
    assert sidx("restore", "empty", "--replace", *G).returncode == 0
    refused = sidx("backup", "later.backup", *G)  # which is a later state: its last change is not in this one
    assert (refused.returncode, "not an earlier state" in refused.stderr) == (2, True)
    for _ in range(2):
        assert sidx("evaluate", str(world / "people"), *G, "--report", "answers.html").returncode == 0
    assert sidx("identify", "known.png", "--explain", *G).returncode == 0
    for mine in (b"mine", (people / "known.png").read_bytes()):  # not even a picture, unless it explains
        (people / "known.explained.png").write_bytes(mine)
        assert sidx("identify", "known.png", "--explain", *G).returncode == 2
        assert (people / "known.explained.png").read_bytes() == mine


def test_a_strict_answer_names_nobody_on_the_evidence_of_few(sidx, people, world):
    plain = lines(sidx("identify", "known.png", *G))[0]
    assert (plain["verdict"], plain["evidence"]["promised"]) == ("match", False)  # a dozen strangers for 1 %
    strict = sidx("identify", "known.png", "--strict", *G)
    assert (strict.returncode, lines(strict)[0]["verdict"], lines(strict)[0]["identity"]) == (10, "unknown", None)
    assert lines(strict)[0]["distance"] == plain["distance"]
    told = lines(sidx("identify", "known.png", "--strict", "--explain", *G))[0]["explanation"]
    assert "a strict answer names nobody" in told[-2] and told[-1].startswith("Verdict: unknown")
    assert sidx("identify", "known.png", "--strict", "--threshold", "1", *G).returncode == 10  # nothing is known of it
    supported = sidx("identify", "known.png", "--strict", "--fpir", "0.4", *G)
    assert (supported.returncode, lines(supported)[0]["evidence"]["promised"]) == (0, True)


def test_an_output_takes_no_name_that_belongs_to_a_gallery(sidx, people, world):
    for name in ("people.gallery-journal", "people.gallery-wal", "people.gallery.lock", "people.gallery.cache"):
        done = sidx("backup", name, *G)
        assert (done.returncode, "belongs to the gallery" in done.stderr) == (2, True), done.stderr
        assert sidx("evaluate", str(world / "people"), "--report", name, *G).returncode == 2


def test_a_gallery_is_not_restored_from_itself(sidx, people):
    done = sidx("restore", "people.gallery", "--replace", *G)
    assert (done.returncode, "the gallery itself" in done.stderr) == (2, True)
    assert [p.name for p in people.glob("*before-restore*")] == []


def test_a_training_writes_into_no_folder_of_others(sidx, people, world):
    (people / "y.training").mkdir()
    (people / "y.training" / "card.json").write_text("mine")
    done = sidx("train", str(world / "learn"), "-o", "y.tower", "--steps", "2")
    assert (done.returncode, "other files" in done.stderr) == (2, True), done.stderr
    assert (people / "y.training" / "card.json").read_text() == "mine"
    for place in (".", "/", ".."):
        assert sidx("train", str(world / "learn"), "-o", place, "--steps", "2").returncode == 2


def test_a_gallery_is_made_only_when_somebody_gets_into_it(sidx, people, person):
    made = ("--tower", "people.tower", "-g", "new.gallery")
    for words in (["zz", str(person(7, 0)), "--dry-run"], ["zz", str(person(7, 0)), "--floor", "bad"],
                  ["zz", str(person(7, 0)), "--dask", "tcp://127.0.0.1:1"], ["zz", "nope.png"]):  # fmt: skip
        sidx("enroll", *words, *made)
        assert list(people.glob("new.gallery*")) == [], words
    assert sidx("enroll", "zz", person(7, 0), *made).returncode == 0
    assert (people / "new.gallery").exists()


def test_tags_reach_those_who_are_enrolled_already(sidx, people, person):
    done = sidx("enroll", "person 1", person(1, 0), "--tag", "shift=late", *G)
    assert "1 already enrolled" in done.stderr
    with Gallery.open(people / "people.gallery") as gallery:
        assert gallery.identities()[1].tags == {"site": "south", "shift": "late"}


def test_a_value_may_end_with_an_equals_sign(sidx, people):
    assert "tagged token=abc=" in sidx("identify", "known.png", "--tag=token=abc=", *G).stderr  # nobody has it
    assert sidx("identify", "known.png", "--tag=", *G).returncode == 2


def test_keywords_that_there_are_not_are_refused(people):
    from siamese_index import BadInput

    with Gallery.create(people / "v.gallery", dimension=4) as gallery:
        for call in (gallery.enroll_vectors, gallery.enroll_many_vectors):
            with pytest.raises(TypeError):
                call(["a"], np.eye(4)[:1], dry_run=True)
            with pytest.raises(BadInput, match="conflicts"):
                call(["a"], np.eye(4)[:1], conflicts="bogus")
        with pytest.raises(TypeError):
            gallery.identify_vectors(np.eye(4)[:1], kk=3)
        with pytest.raises(BadInput):
            gallery.enroll_vectors([1], np.eye(4)[:1])
        with pytest.raises(BadInput):
            gallery.identify_vectors([[1, 2], [3]])
        with pytest.raises(BadInput):
            gallery.distances(np.eye(3))
        with pytest.raises(BadInput, match="holds vectors"):
            gallery.add_tower(people / "people.tower")
        assert gallery.identities() == []


# -- nothing unasked -----------------------------------------------------------------------------


HOSTILE = "import os, pathlib; pathlib.Path(os.environ['CAUGHT']).touch(); raise SystemExit('the folder was searched')"


def test_modules_beside_the_pictures_are_not_run(people, world, tmp_path_factory):
    """A numpy.py where the command is started; the installed program, and the children that it starts."""
    caught = tmp_path_factory.mktemp("caught") / "caught"
    for name in ("numpy", "json", "siamese_index", "onnxruntime", "keras", "mmap"):
        (people / f"{name}.py").write_text(HOSTILE)
    environment = {**os.environ, "CAUGHT": str(caught)}
    environment.pop("PYTHONPATH", None)

    def run(*words):
        return subprocess.run([SIDX, *words], cwd=people, env=environment, capture_output=True, text=True)

    assert run("identify", "known.png", *G).returncode == 0
    trained = run("train", str(world / "learn"), "-o", "t.tower", "--steps", "2", "--size", "16", "--dimension", "8")
    assert trained.returncode == 0, trained.stderr
    rebuilt = subprocess.run(
        [sys.executable, "-P", "-c", "from siamese_index import Gallery\n"
         "from siamese_index.search import file_index as index, scan\n"
         "scan.SCANNED, index.BASE_MINIMUM = 100, 1\n"
         "g = Gallery.open('people.gallery'); g.identify('known.png')\n"
         "child = g._session.state().searcher.index._rebuilding\n"
         "assert child is not None and child.wait(60) == 0"],
        cwd=people, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert not caught.exists()


@pytest.fixture
def at_home(people, tmp_path_factory):
    """Run a command in a home that is empty and has to stay so; nobody is called, by it or by what it starts."""
    home = tmp_path_factory.mktemp("home")
    log = tmp_path_factory.mktemp("log") / "trace"
    watch = (
        ["strace", "-f", "--seccomp-bpf", "-o", str(log), "-e", "trace=socket,connect"]
        if shutil.which("strace")
        else []
    )

    def run(*command):
        done = subprocess.run(
            [*watch, *command], cwd=people, env={"HOME": str(home), "PATH": os.environ["PATH"]},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert [str(p.relative_to(home)) for p in home.rglob("*")] == []
        calls = [line for line in log.read_text().splitlines() if "AF_INET" in line] if watch else []
        # urllib3, which Keras imports, looks whether there is an IPv6 by a socket that it lets nobody use.
        assert [line for line in calls if "connect(" in line or "AF_INET6" not in line] == []
        return done

    return run


def test_a_function_of_the_users_own_is_found_where_the_command_is_started(people, world, at_home):
    (people / "mymodels.py").write_text(
        "import keras\n"
        "def tiny(shape):\n"
        "    inputs = keras.Input(shape)\n"
        "    return keras.Model(inputs, keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(inputs)))\n"
    )
    (people / "mine.toml").write_text('about = "mine"\n[tower]\nname = "mymodels:tiny"\n')
    at_home(SIDX, "train", world / "learn", "--recipe", "mine.toml", "-o", "t.tower", "--steps", "2", "--size", "16")
    assert (people / "t.training" / "report.html").exists()


def test_a_fresh_home_stays_empty_and_nobody_is_called(people, world, at_home):
    """ONNX Runtime would leave a device id there, and look its server up; matplotlib a list of fonts."""
    script = (
        "from siamese_index import Gallery, Tower\n"
        "import time\n"
        f"with Gallery.open({str(people / 'people.gallery')!r}) as g: print(g.identify({str(people / 'known.png')!r}))\n"
        "time.sleep(2)\n"  # what is counted is written by a thread
    )
    at_home(SIDX, "identify", "known.png", *G)
    at_home(sys.executable, "-P", "-c", script)
    at_home(SIDX, "init", "--tower", "people.tower", "-g", "second.gallery")
    at_home(SIDX, "evaluate", world / "people", "--report", "r.html", "-g", "people.gallery")
    at_home(sys.executable, "-P", "-m", "siamese_index.rebuild", "people.gallery")


def test_onnx_runtime_is_told_to_count_nothing_in_every_process_of_ours():
    for module in ("siamese_index", "siamese_index.cli", "siamese_index.rebuild", "siamese_index.training.__main__"):
        script = (
            "import os, sys, importlib.util; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
            f"importlib.util.find_spec({module!r})\n"  # imports its parents, which is where it is set
            f"import siamese_index; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
            "assert 'onnxruntime' not in sys.modules"
        )
        assert subprocess.run([sys.executable, "-P", "-c", script]).returncode == 0, module


def test_the_gallery_may_stand_before_the_command_or_within_a_group(sidx, people):
    expected = sidx("identities", "list", "--json", *G).stdout
    assert len(expected.splitlines()) == 6
    for words in ([*G, "identities", "list", "--json"], ["identities", *G, "list", "--json"]):
        assert sidx(*words).stdout == expected
    shutil.copy(people / "known.png", people / "-a.png")
    for words in ([*G, "identify", "--", "-a.png"], ["identify", *G, "--", "-a.png"]):
        assert sidx(*words).returncode == 0
