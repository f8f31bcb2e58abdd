"""`sidx train` and `sidx recipes` as a user meets them."""

import json

import pytest


def test_recipes_are_listed_and_shown_as_files_to_copy(sidx, tmp_path):
    listed = [json.loads(line) for line in sidx("recipes", "list").stdout.splitlines()]
    assert {"recipe", "tower", "loss", "about"} == set(listed[0])
    shown = sidx("recipes", "show", "photos")
    assert shown.returncode == 0 and shown.stdout.startswith("# ") and "[augment]" in shown.stdout
    (tmp_path / "mine.toml").write_text(shown.stdout)
    again = json.loads(sidx("recipes", "show", "mine.toml", "--json").stdout)
    assert again["name"] == "mine" and again["augment"]["flip"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--recipe", "faces"], 4, ["no recipe 'faces'", "There are drawings"]),
        (["--recipe", "nowhere.toml"], 4, ["nowhere.toml: cannot be read"]),
        (["--time-budget", "soon"], 2, ["'soon' is no time to train in", "20m"]),
        (["--time-budget", "5s"], 2, ["30s or more"]),
        (["--resume"], 4, ["no training to go on with", "Leave out --resume"]),
        (["-o", "no/such/folder/t.tower"], 2, ["there is no folder no/such/folder"]),
        (["--holdout", "1.5"], 2, ["holdout"]),
    ],
)
def test_wrong_requests_are_told_what_to_do(sidx, world, arguments, code, words):
    done = sidx("train", world / "learn", "-o", "t.tower", *arguments)
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_a_training_tells_what_it_chose_and_where_to_look(sidx, world, tmp_path):
    done = sidx("train", world / "learn", "-o", "t.tower", "--steps", "3", "--size", "16", "--dimension", "8", "--json")
    assert done.returncode == 0, done.stderr
    for words in (
        "They look like drawings",
        "16 x 16 pixels (as asked)",
        "3 with 18 held out",
        "t.training/report.html",
        "Next:",
    ):
        assert words in done.stderr
    assert json.loads(done.stdout)["file"] == "t.tower"
    assert {p.name for p in (tmp_path / "t.training").iterdir()} == {"card.json", "log.csv", "report.html"}
