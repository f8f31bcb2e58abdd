"""README and docs: every console and Python block works as it stands and prints what the page says."""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siamese_index.samples import images
from tests.docs.blocks import follow, matches, shown, steps
from tests.towers.scenes import scene

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOOR = ROOT / "docs" / "tutorials" / "door.md"  # needs networks of others
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader works: with what the demo leaves, then what the README leaves."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.keras
@pytest.mark.timeout(1800)
def test_the_readme_can_be_followed_word_by_word(folder):
    done = subprocess.run(
        [Path(sys.executable).with_name("sidx"), "demo", "--steps", "15"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for heading in (
        "1. Draw",
        "2. Learn",
        "3. Enroll",
        "4. Identify",
        "5. Enroll four more",
        "6. Swap",
        "Before and after",
    ):
        assert heading in done.stdout
    assert follow(README, folder) == []
    suggested = re.findall(r"^  (sidx .*)$", done.stderr, re.MULTILINE)  # what the demo says to try next
    assert len(suggested) == 3
    for command in suggested:
        again = subprocess.run(
            command, shell=True, cwd=folder, env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        )
        assert again.returncode in (0, 10), command
    over = subprocess.run([Path(sys.executable).with_name("sidx"), "demo"], cwd=folder, capture_output=True)
    assert over.returncode == 2  # not over a folder that is in use


@pytest.mark.keras
@pytest.mark.parametrize("page", [p for p in PAGES if steps(p.read_text()) and p != DOOR], ids=lambda p: p.stem)
def test_a_page_can_be_followed_word_by_word(folder, page):
    assert (folder / "glyphs.tower").exists(), "the README comes first"
    assert follow(page, folder) == []


def test_pages_made_from_the_program_are_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("furo", reason="the site is built with the extra [docs]")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        ROOT / "docs",
        tmp_path / "site",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Thresholds, explained" in (tmp_path / "site" / "thresholds.html").read_text()


def test_links_lead_somewhere():
    wrong = []
    for page in [README, *PAGES]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                wrong.append((page.name, target))
    assert wrong == []


def test_faces_at_a_door_can_be_followed_word_by_word(real_models, real_data, tmp_path):
    orl = real_data("orl_faces.zip") / "orl_faces"
    for folder, people, numbers in (("people", range(1, 11), (1, 2)), ("visitors", range(21, 41), (1,))):
        for person, number in itertools.product(people, numbers):
            (tmp_path / folder / f"s{person}").mkdir(parents=True, exist_ok=True)
            shutil.copy(orl / f"s{person}" / f"{number}.pgm", tmp_path / folder / f"s{person}")
    shutil.copy(real_models("face_embedder_rgb.onnx"), tmp_path / "embedder.onnx")
    shutil.copy(real_models("yunet_n_dynamic.onnx"), tmp_path / "yunet.onnx")
    door = scene(orl, (3, 4, 60, 60, 224), (15, 2, 400, 90, 160))
    (tmp_path / "door.jpg").write_bytes(images.encode(door, ".jpg"))
    (tmp_path / "later.jpg").write_bytes(images.encode(scene(orl, (15, 5, 200, 150, 200)), ".jpg"))
    assert len(re.findall(r"^\$ sidx", DOOR.read_text(), re.MULTILINE)) == 10
    assert follow(DOOR, tmp_path) == []


def test_the_readme_is_read_in_five_minutes():
    assert len(README.read_text().split()) <= 1000


def test_every_exit_code_is_explained():
    from siamese_index import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    told = set(map(int, re.findall(r"^\| (\d+) ", (ROOT / "docs" / "exit-codes.md").read_text(), re.MULTILINE)))
    assert codes | {0, 1, 10, 11, 130} <= told


def test_every_setting_and_variable_is_explained():
    from siamese_index.cli.settings import OF_A_GALLERY, OF_THE_ENVIRONMENT

    page = (ROOT / "docs" / "settings.md").read_text()
    assert [name for name in (*OF_A_GALLERY, *OF_THE_ENVIRONMENT) if f"`{name}`" not in page] == []
    used = set()
    for file in (path for part in ("siamese_index", "cli", "training") for path in (ROOT / part).rglob("*.py")):
        used |= set(re.findall(r'environ(?:\.get\(|\.setdefault\(|\[)"(\w+)"', file.read_text()))
        used |= set(re.findall(r'\*\*os\.environ, "(\w+)"', file.read_text()))
    assert used and [name for name in used if f"`{name}`" not in page] == []


def test_terms_of_the_field_are_in_the_glossary():
    page = (ROOT / "docs" / "glossary.md").read_text()
    for term in ("FPIR", "FNIR", "FMR", "FNMR", "EER", "CMC", "DET", "rank-1", "stranger", "cohort", "tower", "recipe"):
        assert f"| {term} |" in page, term


def test_a_page_of_results_explains_its_words_as_the_glossary_does():
    from siamese_index.analysis import html
    from siamese_index.describe import GLOSSARY

    page = (ROOT / "docs" / "glossary.md").read_text().replace("*", "")
    assert [word for word, meaning in GLOSSARY.items() if f"| {word} | {meaning} |" not in page] == []
    assert all(word in html.page("a title", "about", []) for word in GLOSSARY)


# -- the comparison itself ---------------------------------------------------------------------------


def test_what_is_written_over_is_not_seen():
    assert shown("step 1\r\x1b[Kstep 2\r\x1b[K\r\ndone\r\n") == "\ndone".strip("\n")


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a  b\n", "a b\n", True),
        ("a b\n", "a c\n", False),
        ("a …\n", "a 0.5\n", True),
        ("0.… x\n", "0.123   x\n", True),
        ("…\nlast\n", "one\ntwo\nlast\n", True),
        ("first\n…\n", "first\n", True),
        ("first\n", "first\nand more\n", False),
    ],
)
def test_pages_are_compared_but_for_what_varies(expected, printed, same):
    assert matches(expected, printed) is same
