"""Shows what a training says of itself while it runs."""

from __future__ import annotations

import sys
from typing import Any

import typer

from siamese_index.describe import counted

from .output import note, quiet, shortened


class TrainingProgress:
    """Prints the story of a training to stderr; at a terminal it updates the last line in place."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()

    def __call__(self, said: dict[str, Any]) -> None:
        if quiet():
            return
        if "step" in said and "of" in said:
            self._step(said)
        elif said["stage"] == "decode":
            self._passing(f"reading {said['done']:,} of {said['of']:,}")
        elif said["stage"] == "embed":
            self._passing(f"embedding {said['done']:,} of {said['of']:,}")
        elif said["stage"] == "data":
            self._passing("")
            note(
                f"{counted(said['identities'], 'identity')} with {counted(said['samples'], 'sample')} to learn from;"
                f" {said['held_out_identities']} with {said['held_out_samples']} held out."
            )
            if said["single"]:
                note(f"{counted(said['single'], 'identity')} with a single sample: learned by its variations.")
            for why in said["why"]:
                note(why)
            for left_out in said["left_out"]:
                note("left out: " + left_out)
        elif said["stage"] == "fit":
            note(f"Fitting {said['parameters']:,} parameters. Keras is starting …")
        elif said["stage"] == "without":
            names = ", ".join(map(repr, said["unknown"]))
            note(f"Nobody here is called {names} (any more): left out of --data alone. Is the name right?")
        elif said["stage"] == "resume":
            note(f"Going on at step {said['step']} of {said['of']}.")
        elif said["stage"] == "budget":
            note(f"The time allows {said['steps']} steps.")
        elif said["stage"] == "interrupted":
            note("Interrupted: the best tower so far is kept. Press Ctrl-C again to stop at once.")
        elif said["stage"] == "export":
            ended = said["ended"][:1].upper() + said["ended"][1:]
            done = "All steps done" if said["ended"] == "all steps" else ended
            note(f"{done}. The best weights are of step {said['step']}. Exporting …")
        elif said["stage"] == "checkpoint":
            note(f"The training goes on without a checkpoint. {said['failed']}")
        elif said["stage"] == "report":
            note(f"No report: {said['failed']}" if "failed" in said else f"Look at it:  {said['file']}")

    def _passing(self, line: str) -> None:
        """Show a line that the next one replaces."""
        if self._in_place:
            typer.echo(f"\r\x1b[K{shortened(line)}", err=True, nl=False)

    def _step(self, said: dict[str, Any]) -> None:
        left = said["seconds"] / said["step"] * (said["of"] - said["step"])
        line = f"step {said['step']:5} of {said['of']}   loss {said['loss']:7.3f}"
        if "rank1" in said:
            line += f"   rank-1 of held-out identities {said['rank1']:.3f}"
        if "spearman" in said:
            line += f"   rank correlation of held-out pairs {said['spearman']:.3f}"
        line += f"   {left:4.0f} s left"
        looked = "rank1" in said or "spearman" in said
        if looked or not self._in_place:
            if looked or said["step"] == said["of"]:
                typer.echo(("\r\x1b[K" if self._in_place else "") + line, err=True)
        else:
            typer.echo(f"\r\x1b[K{shortened(line)}", err=True, nl=False)
