"""Write the pages that are made from the program itself: `python docs/generate.py`, or `--check` whether they are so."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import third_party
import typer

import siamese_index
from siamese_index.cli.app import ALIASES, COMMANDS, app, register

HERE = Path(__file__).parent
CLI = """# Commands

Made from `sidx COMMAND --help` by `docs/generate.py`. `-g` names the gallery everywhere: a file, or a `postgresql://` address;
without it `SIDX_GALLERY`, else `main.gallery` in the folder where you are. What commands exit with: [exit codes](exit-codes.md).
The words: [glossary](glossary.md).
"""
PYTHON = """# Python

```python
import numpy as np

from siamese_index import Gallery

with Gallery.create("vectors.gallery", dimension=4) as gallery:
    gallery.enroll_vectors(["ada", "bob"], np.eye(4)[:2])
    answer = gallery.identify_vectors(np.eye(4)[:1], threshold=0.5)[0]
    print(answer.verdict, answer.identity)
# prints
# match ada
```

What `siamese_index` itself offers, and the methods of `Gallery`, stay; modules inside may move until 1.0
([versions](versions.md)). Errors derive from `SiameseIndexError` and carry `what`, `why` and `remedy`. Made from the docstrings by `docs/generate.py`.
"""
TRAINING = """
## Training

`from siamese_index.training import train, retrain` needs the extra `[train-cpu]` or `[train]`; TensorFlow runs in a process of its
own. `train(DATA, out="faces.tower")` returns a `TowerFile`, `retrain("people.gallery")` a candidate with its figures beside
the active tower's.

## Analysis

Functions of a gallery: `siamese_index.analysis.evaluation.evaluate(gallery, items)`, `analysis.audit.audit(gallery)`,
`analysis.replay.replay(gallery)`, `analysis.explain.explain(gallery, picture)`, `analysis.index_status.index_status(gallery)`; `samples.sources.items(DATA)` reads
[data](data.md).
"""


def commands() -> str:
    register(None)
    group = typer.main.get_command(app)
    parts = [CLI]
    for name in COMMANDS:
        command = group.commands[name]  # type: ignore[attr-defined]
        several = getattr(command, "commands", None)
        for words, each in [([name], command), *(([name, sub], c) for sub, c in (several or {}).items())]:
            if each is command and several:
                parts.append(f"\n## sidx {name}\n\n{command.help}\n")
                continue
            context = typer.Context(
                each,
                info_name=f"sidx {' '.join(words)}",
                max_content_width=100,
                terminal_width=100,
                help_option_names=["-h", "--help"],
            )
            heading = "###" if several else "##"
            parts.append(f"\n{heading} sidx {' '.join(words)}\n\n```text\n{each.get_help(context)}\n```\n")
    parts.append(f"\n{', '.join(f'`{a}` is accepted for `{b}`' for a, b in ALIASES.items())}.\n")
    return "".join(parts)


def first_paragraph(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def python() -> str:
    parts = [PYTHON, "\n## siamese_index\n\n| name | |\n|---|---|\n"]
    for name in siamese_index.__all__:
        thing = getattr(siamese_index, name)
        if inspect.isclass(thing):
            parts.append(f"| `{name}` | {first_paragraph(thing)} |\n")
    parts.append("\n## Gallery\n\n" + (inspect.getdoc(siamese_index.Gallery) or "") + "\n")
    for name, value in vars(siamese_index.Gallery).items():
        if name.startswith("_"):
            continue
        thing = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        documented = inspect.getdoc(thing) or ""
        title = f"`{name}`" if isinstance(thing, property) else f"`{name}{inspect.signature(thing)}`"
        for long, short in (("self, ", ""), ("(self)", "()"), ("'", "")):
            title = title.replace(long, short)
        parts.append(f"\n### {name}\n\n{title}\n\n{documented}\n")
    return "".join([*parts, TRAINING])


PAGES = {"cli.md": commands, "python.md": python, "../THIRD_PARTY.md": third_party.page}


def main() -> int:
    stale = (
        [name for name, make in PAGES.items() if (HERE / name).read_text() != make()] if "--check" in sys.argv else []
    )
    if "--check" not in sys.argv:
        for name, make in PAGES.items():
            (HERE / name).write_text(make())
    for name in stale:
        print(f"{name} is not what the program says: python docs/generate.py")
    return len(stale)


if __name__ == "__main__":
    sys.exit(main())
