"""Every command's --help ends with an example, and every example works as it stands."""

import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import typer

from siamese_index import Gallery, Tower, TowerFile
from siamese_index.cli.app import ALIASES, COMMANDS, MODULES, app, register
from siamese_index.server.keys import Keys
from siamese_index.training.glyphs import draw


def commands():
    """All (words, command) pairs of the program, hidden ones too."""

    def walk(group, words):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, [*words, name])
            else:
                yield [*words, name], command

    return list(walk(typer.main.get_command(app), []))


register(None)
ALL = commands()


def test_each_command_is_imported_from_where_it_is():
    for words, command in ALL:
        module = command.callback.__wrapped__.__module__.rpartition(".")[2]
        assert module == MODULES.get(words[0], words[0])
    assert {words[0] for words, _ in ALL} == {*COMMANDS, *ALIASES}


def test_a_command_comes_alone(sidx):
    script = (
        "import sys; from siamese_index.cli.app import app, register; register('identify')\n"
        "from siamese_index.cli.app import COMMANDS\n"
        "assert [c.callback.__name__ for c in app.registered_commands] == ['identify'] and not app.registered_groups\n"
        "others = {*COMMANDS} - {'identify'}\n"
        "assert not others & {name.rpartition('.')[2] for name in sys.modules if '.cli.' in name}"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    assert sidx("--help").stdout == sidx("--help", "identify").stdout
    assert "No such command 'identfy'" in sidx("identfy").stderr


def example(command):
    assert command.epilog and command.epilog.startswith("Example:  sidx "), command.name
    return command.epilog.removeprefix("Example:  ")


@pytest.fixture
def prepared(tmp_path, tower_path, person, world):
    """A folder in which the examples make sense."""
    shutil.copytree(world / "learn", tmp_path / "faces")
    shutil.copytree(world / "people", tmp_path / "probes")
    shutil.copy(tower_path, tmp_path / "faces.tower")
    shutil.copy(person(0, 0), tmp_path / "ada.png")
    shutil.copy(person(1, 0), tmp_path / "probe.png")
    with Gallery.create(tmp_path / "people.gallery", tower_path) as gallery:
        three = ((1, "bob"), (2, "carol"), (3, "dan"))
        gallery.enroll_many([(name, person(n, hand)) for hand in range(2) for n, name in three])
        gallery.backup(tmp_path / "people.backup")
    return tmp_path


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_the_example_in_the_help_works_as_it_stands(sidx, prepared, world, words, command):
    said = sidx(*words, "--help")
    assert said.returncode == 0
    assert said.stdout.rstrip().endswith(example(command).rstrip()[-20:])
    if words in (["demo"], ["train"], ["serve"]):
        return  # tests/docs follows them, with everything that they leave
    line = shlex.split(example(command))[1:]
    if words == ["init"]:
        (prepared / "people.gallery").unlink()
    if words == ["replay"]:
        with Gallery.open(prepared / "people.gallery") as gallery:
            gallery.log(True)
            gallery.identify(prepared / "probe.png")
    if words[1:] == ["restore"]:
        with Gallery.open(prepared / "people.gallery") as gallery:
            if words[0] == "samples":
                gallery.curation.remove_samples([3])
            elif words[0] == "identities":
                gallery.remove("carol")
    if words[0] == "strangers":
        with Gallery.open(prepared / "people.gallery") as gallery:
            line = [gallery.strangers()[0].name if word == "STRANGER" else word for word in line]
    if words[0] == "towers" and words[1] in ("promote", "rollback", "compare"):
        other = TowerFile.read(prepared / "faces.tower")
        renamed = TowerFile(other.onnx + b"\x72\x00", other.keras, other.card, other.cohort)  # one more, empty, field
        with Gallery.open(prepared / "people.gallery") as gallery:
            candidate = gallery.add_tower(renamed)
            if words[1] == "rollback":
                gallery.promote(candidate)
            active = gallery.tower.id
        ids = {"CANDIDATE": candidate[:12], "FIRST": active[:12], "SECOND": candidate[:12]}
        line = [ids.get(word, word) for word in line]
    if words == ["towers", "import"]:
        (prepared / "net.onnx").write_bytes(TowerFile.read(prepared / "faces.tower").onnx)
    if words == ["towers", "adapt"]:
        draw(prepared / "faces", range(300, 330), range(2))
    if words == ["watch"]:
        shutil.copytree(prepared / "probes" / "glyph-101", prepared / "shots")
    if words == ["towers", "switch"]:
        draw(prepared / "more", range(300, 460), range(1))
        drawn = [file.read_bytes() for file in prepared.glob("more/*/*.png")]
        old = Tower.open(prepared / "faces.tower").embed_samples(drawn)
        np.save(prepared / "old.npy", old)
        np.save(prepared / "new.npy", old[:, ::-1])
    if words[0] == "keys":
        key, _ = Keys(prepared / "keys.json").add("door", "ask")
        line = [key.id if word == "1a2b3c4d" else word for word in line]
    if words == ["towers", "add"]:
        shutil.copy(prepared / "faces.tower", prepared / "second.tower")
    done = sidx(*line)
    assert done.returncode in ((0, 10, 11) if words[-1] in ("identify", "verify", "optimize") else (0,)), done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_of_the_design_is_there():
    there = {" ".join(words) for words, _ in ALL}
    wanted = {
        "demo", "train", "init", "enroll", "enrol", "identify", "watch", "verify", "retrain", "towers list", "towers show",
        "towers promote", "towers optimize", "towers rollback", "towers import", "towers add", "towers export", "towers adapt", "towers switch", "towers compare", "recipes list", "recipes show", "identities list", "identities show", "identities rename",
        "identities tag", "identities merge", "identities split", "identities remove", "identities restore", "history", "undo", "purge", "correct", "review", "export", "import", "samples export", "settings list", "settings set", "index status", "index rebuild", "status", "samples list", "samples show", "samples move", "samples remove", "samples restore", "glossary", "strangers list", "strangers show", "strangers remove", "strangers restore", "calibrate", "capacity", "evaluate", "log", "replay", "doctor", "backup", "restore", "serve", "keys add", "keys list", "keys revoke",
    }  # fmt: skip
    assert there == wanted
