"""The README's commands and code work as they stand, on what the demo leaves behind."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readme_can_be_followed_word_by_word(sidx, tmp_path):
    told = sidx("demo", "--steps", "15")
    assert told.returncode == 0, told.stderr
    for heading in (
        "1. Draw",
        "2. Learn",
        "3. Enroll",
        "4. Identify",
        "5. Enroll four more",
        "6. Swap",
        "Before and after",
    ):
        assert heading in told.stdout
    assert told.stderr.count("  sidx ") == 3  # what to try next
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 8
    for command in commands:
        done = sidx(*shlex.split(command)[1:])
        assert done.returncode in (0, 10), (command, done.stderr)
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for suggestion in re.findall(r"^  sidx (.*)$", told.stderr, re.MULTILINE):
        assert sidx(*shlex.split(suggestion)).returncode in (0, 10), suggestion
    assert sidx("demo").returncode == 2  # not over a folder that is in use


def test_the_readme_names_every_exit_code_and_command():
    from siamese_index import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    table = set(map(int, re.findall(r"^\| (\d+)", README, re.MULTILINE)))
    assert codes <= table
    assert {0, 1, 10, 130} <= table
