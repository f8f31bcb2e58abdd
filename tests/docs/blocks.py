"""Console and Python blocks of a page, run as a reader would: at a terminal, in order, and what is printed compared."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SIDX = Path(sys.executable).parent
ANY = "…"  # stands for what varies: within a line, or as a line of its own for any number of lines


@dataclass(frozen=True)
class Step:
    """A command of a console block with what it is said to print, or a Python block."""

    language: str
    text: str
    printed: str


def steps(page: str) -> list[Step]:
    """Return the runnable steps of a Markdown page, in order."""
    found = []
    for language, block in re.findall(r"^```(console|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if language == "python":
            code, _, printed = block.partition("# prints\n")
            found.append(Step(language, code, "".join(line[2:] for line in printed.splitlines(keepends=True))))
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append(Step(language, command, printed))
    return found


def at_a_terminal(command: list[str] | str, folder: Path, timeout: float = 900) -> tuple[int, str]:
    """Run a command with a terminal of 120 columns; return its exit code and what a person would see."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "PATH": f"{SIDX}:{os.environ['PATH']}", "COLUMNS": "120", "TERM": "xterm"}
    child = subprocess.Popen(
        command, cwd=folder, env=environment, shell=isinstance(command, str), close_fds=True,
        stdin=subprocess.DEVNULL, stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    seen, deadline = b"", time.monotonic() + timeout
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 0.2)[0]:
            try:
                part = os.read(leader, 65536)
            except OSError:  # how a terminal says that its last user is gone
                break
            if not part:
                break
            seen += part
        elif child.poll() is not None:
            break
    os.close(leader)
    return child.wait(30), shown(seen.decode())


def shown(text: str) -> str:
    """Return what stays on the screen: a line that was written over is gone."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\x1b[K")[2].rpartition("\r")[2].rstrip() for line in lines).strip("\n")


def matches(expected: str, printed: str) -> bool:
    """Whether what was printed is what a page says, but for what varies and the widths of columns."""

    def pattern(line: str) -> str:
        words = re.split(r"\s+", line.strip())
        return r"\s+".join(".*?".join(map(re.escape, word.split(ANY))) for word in words)

    parts = [r"(?:.*\n)*?" if line.strip() == ANY else rf"\s*{pattern(line)}\s*?\n" for line in lines_of(expected)]
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in lines_of(printed))) is not None


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def follow(page: Path, folder: Path, allowed: tuple[int, ...] = (0, 3, 10, 11)) -> list[str]:
    """Run all steps of a page in a folder; return what differs from what it says."""
    wrong = []
    for step in steps(page.read_text()):
        if step.language == "python":
            code, printed = at_a_terminal([sys.executable, "-P", "-W", "ignore", "-c", step.text], folder)
            fine = code == 0
        else:
            code, printed = at_a_terminal(step.text, folder)
            fine = code in allowed
        if not fine or (step.printed.strip() and not matches(step.printed, printed)):
            wrong.append(f"--- {page.name}: {step.text}\nexit {code}\n{printed}\n--- expected\n{step.printed}")
    return wrong
