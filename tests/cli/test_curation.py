"""Mistakes are seen, mended and undone from the command line; each change says what it did."""

import json

import numpy as np
import pytest

from siamese_index import Gallery
from siamese_index.cli.terminal_pictures import kitty, protocol, sixel
from siamese_index.samples import images

G = ("-g", "people.gallery")


@pytest.fixture
def people(tower_path, tmp_path, person):
    with Gallery.create(tmp_path / "people.gallery", tower_path) as gallery:
        gallery.enroll_many([(f"p{n}", person(n, hand)) for n in range(5) for hand in range(3)])
    return tmp_path


def rows(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_sample_under_a_wrong_name_is_seen_moved_and_moved_back(people, sidx):
    with Gallery.open(people / "people.gallery") as gallery:
        wrong = gallery.samples("p1")[0].id
        gallery.curation.move([wrong], "p0")
    [shown] = rows(sidx("samples", "show", wrong, "--page", "s.html", "--picture", "s.png", *G))
    assert shown["identity"] == "p0" and shown["other"] == "p1" and shown["other_distance"] < shown["own"]
    assert "data:image" in (people / "s.html").read_text() and f"{wrong}: own" in (people / "s.html").read_text()
    assert images.decode((people / "s.png").read_bytes(), 3).shape[1] == 168
    moved = sidx("samples", "move", wrong, "--to", "p1", *G)
    assert "1 sample is now of p1." in moved.stderr and "FNIR from" in moved.stderr and "sidx undo" in moved.stderr
    [shown] = rows(sidx("samples", "show", wrong, *G))
    assert shown["identity"] == "p1" and shown["own"] < shown["other_distance"]
    assert sidx("samples", "move", wrong, "--to", "nobody", *G).returncode == 4
    assert sidx("samples", "move", 999, "--to", "p1", *G).returncode == 4
    assert sidx("samples", "move", wrong, wrong, "--to", "p1", *G).returncode == 2
    assert sidx("samples", "move", wrong, "--to", "p1", "--new", *G).returncode == 2


def test_samples_are_removed_and_restored(people, sidx, person):
    ids = [row["id"] for row in rows(sidx("samples", "list", "--identity", "p2", *G))]
    assert "2 samples are out of use." in sidx("samples", "remove", *ids[:2], *G).stderr
    assert [row["id"] for row in rows(sidx("samples", "list", "--removed", *G))] == ids[:2]
    last = sidx("samples", "remove", ids[2], *G)
    assert "p2 has no sample any more, and is not enrolled." in last.stderr
    assert sidx("identify", person(2, 0), *G).stdout.find('"identity": "p2"') < 0
    assert sidx("samples", "restore", ids[0], *G).returncode == 0  # and p2 is enrolled again
    assert sidx("samples", "restore", *ids[1:], *G).returncode == 0
    assert [row["id"] for row in rows(sidx("samples", "list", "--identity", "p2", *G))] == ids
    assert sidx("samples", "remove", ids[0], *G).returncode == 0
    sidx("enroll", "p3", person(2, 0), "--allow-conflict", *G)  # the same picture anew
    again = sidx("samples", "restore", ids[0], *G)
    assert again.returncode == 2 and "enrolled again meanwhile, as 'p3'" in again.stderr


def test_identities_are_merged_split_removed_and_restored(people, sidx):
    assert "p1 and its 3 samples are now p0." in sidx("identities", "merge", "p1", "p0", *G).stderr
    assert rows(sidx("history", *G))[0]["what"].startswith("merged 'p1' with 'p0'")
    assert [r["identity"] for r in rows(sidx("identities", "list", *G))] == ["p0", "p2", "p3", "p4"]
    assert sidx("identities", "restore", "p1", *G).returncode == 4  # its samples are p0's
    ids = [row["id"] for row in rows(sidx("samples", "list", "--identity", "p0", *G))]
    assert sidx("identities", "split", "p0", "p1", *ids[3:], *G).returncode == 0
    assert sidx("identities", "split", "p0", "p1", ids[0], *G).returncode == 2
    assert sidx("identities", "split", "p0", "px", *ids[:3], *G).returncode == 2  # all
    assert sidx("identities", "split", "p0", "px", ids[4], *G).returncode == 2  # not its own
    taken = sidx("identities", "rename", "p1", "p0", *G)
    assert taken.returncode == 2 and "sidx identities merge" in taken.stderr
    assert sidx("identities", "rename", "p1", "p0", "--merge", *G).returncode == 0
    assert len(rows(sidx("samples", "list", "--identity", "p0", *G))) == 6
    assert sidx("identities", "remove", "p3", *G).returncode == 0
    assert [r["identity"] for r in rows(sidx("identities", "list", "--removed", *G))] == ["p3"]
    assert "p3b is enrolled again, with 3 samples." in sidx("identities", "restore", "p3", "--as", "p3b", *G).stderr


def test_history_says_what_was_done_and_undo_takes_it_back(people, sidx, person):
    sidx("identities", "rename", "p0", "ada", *G)
    sidx("identities", "remove", "p1", *G)
    before = rows(sidx("identify", person(1, 3), "--as-of", 3, "--exit-zero", *G))[0]
    assert before["identity"] == "p1" and before["revision"] == 3
    now = rows(sidx("identify", person(1, 3), "--exit-zero", *G))[0]
    assert now["identity"] != "p1" and now["revision"] == 4
    told = {row["revision"]: row["what"] for row in rows(sidx("history", *G))}
    assert told == {
        1: "made the gallery",
        2: "enrolled 15 samples of 'p0', 'p1', 'p2' and 2 more",
        3: "renamed 'p0' to 'ada'",
        4: "removed 3 samples of 'p1'",
    }
    unasked = sidx("undo", *G)
    assert unasked.returncode == 2 and "Add --yes" in unasked.stderr
    undone = sidx("undo", "-n", 2, "--yes", *G)
    assert [row["revision"] for row in rows(undone)] == [4, 3] and "sidx undo --redo" in undone.stderr
    assert [r["identity"] for r in rows(sidx("identities", "list", *G))] == [f"p{n}" for n in range(5)]
    assert [row["undone"] for row in rows(sidx("history", "-n", 3, *G))] == [False, False, True]
    assert rows(sidx("undo", "--redo", *G))[0]["what"] == "renamed 'p0' to 'ada'"
    assert sidx("identify", person(1, 3), "--as-of", 99, *G).returncode == 2
    assert len(rows(sidx("undo", "-n", 99, "--yes", *G))) == 2  # the renaming, and the enrollment
    assert rows(sidx("identities", "list", *G)) == []
    assert sidx("undo", "--yes", *G).returncode == 4


def test_whom_one_does_not_mean_is_excluded(people, sidx, person):
    [one] = rows(sidx("identify", person(1, 3), "--exclude", "p1", "--exit-zero", "-k", 9, *G))
    assert [c["identity"] for c in one["candidates"]].count("p1") == 0 and len(one["candidates"]) == 4
    assert sidx("identify", person(1, 3), "--exclude", "nobody", *G).returncode == 4


def test_terminals_that_can_are_sent_pictures(monkeypatch):
    for name in ("KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    for term, wanted in (
        ("xterm-kitty", "kitty"),
        ("xterm-256color", None),
        ("foot", "sixel"),
        ("xterm-sixel", "sixel"),
    ):
        monkeypatch.setenv("TERM", term)
        assert protocol() == wanted
    pixels = np.random.default_rng(0).integers(0, 256, (13, 9, 3), np.uint8)
    assert kitty(pixels).startswith("\x1b_Ga=T,f=100,m=0;") and kitty(pixels).endswith("\x1b\\")
    assert np.array_equal(_drawn(sixel(pixels), 13, 9), (pixels.astype(int) * 5 + 127) // 255)


def _drawn(text, height, width):
    """Return what a terminal makes of sixels (DEC STD 070), as levels of 0 to 5."""
    import re

    palette = {int(c): [int(v) // 20 for v in rgb] for c, *rgb in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", text)}
    body = re.sub(r"#\d+;2;\d+;\d+;\d+", "", text.split('"1;1;9;13', 1)[1].removesuffix("\x1b\\"))
    out = np.full((height, width, 3), -1)
    for band, lines in enumerate(body.split("-")):
        for line in lines.split("$"):
            colour, at = int(re.match(r"#(\d+)", line)[1]), 0
            for count, character in re.findall(r"(?:!(\d+))?([?-~])", re.sub(r"^#\d+", "", line)):
                for _ in range(int(count or 1)):
                    for bit in range(6):
                        if (ord(character) - 63) >> bit & 1:
                            out[band * 6 + bit, at] = palette[colour]
                    at += 1
    return out


def test_what_changes_nothing_is_no_change_that_can_be_undone(people, sidx, person):
    sidx("identities", "rename", "p4", "four", *G)
    sidx("identities", "tag", "p0", "k=v", *G)
    revision = rows(sidx("history", "-n", 1, *G))[0]["revision"]
    for nothing in (
        ["identities", "tag", "p0", "k=v"],
        ["correct", person(0, 0), "--is", "p0"],
        ["samples", "move", 1, "--to", "p0"],
        ["settings", "set", "strict", "off"],
    ):
        sidx(*nothing, *G)
        assert rows(sidx("history", "-n", 1, *G))[0]["revision"] == revision, nothing
    assert rows(sidx("undo", "--yes", *G))[0]["verb"] == "tag"


def test_a_closed_input_is_nobody_to_ask(people):
    import subprocess
    import sys

    line = f"exec {sys.executable} -c 'from siamese_index.cli import run; run()' undo -g people.gallery <&-"
    done = subprocess.run(["sh", "-c", line], cwd=people, capture_output=True, text=True)
    assert done.returncode == 2 and "Add --yes" in done.stderr
