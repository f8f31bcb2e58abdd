"""What a training says of itself, for somebody who waits for it."""

from __future__ import annotations

import sys
from typing import Any

import typer

from .output import note


class Teller:
    """Prints the story of a training to stderr; on a terminal the last line is alive."""

    def __init__(self) -> None:
        self._alive = sys.stderr.isatty()

    def __call__(self, said: dict[str, Any]) -> None:
        if "step" in said:
            self._step(said)
        elif said["stage"] == "data":
            note(
                f"{said['identities']} identities with {said['samples']} pictures to learn from;"
                f" {said['held_out_identities']} with {said['held_out_samples']} held out."
            )
            note(
                f"They look like {said['kind']}: {said['height']} x {said['width']} pixels,"
                f" {'colour' if said['channels'] == 3 else 'grey'}."
            )
            for left_out in said["left_out"]:
                note("left out: " + left_out.replace("\n", " "))
        elif said["stage"] == "fit":
            note(f"Fitting {said['parameters']:,} parameters in {said['steps']} steps. Keras is starting …")
        elif said["stage"] == "export":
            note("Exporting, and checking that ONNX Runtime answers as Keras does.")

    def _step(self, said: dict[str, Any]) -> None:
        left = said["seconds"] / said["step"] * (said["of"] - said["step"])
        line = f"step {said['step']:5} of {said['of']}   loss {said['loss']:7.3f}"
        if "rank1" in said:
            line += f"   rank-1 of held-out identities {said['rank1']:.3f}"
        line += f"   {left:4.0f} s left"
        if "rank1" in said or not self._alive:
            if "rank1" in said or said["step"] == said["of"]:
                typer.echo(("\r\x1b[K" if self._alive else "") + line, err=True)
        else:
            typer.echo(f"\r\x1b[K{line}", err=True, nl=False)


def held_out(figures: dict[str, Any]) -> str:
    """Return a tower's held-out figures in a sentence."""
    if not figures.get("searches"):
        return "No identities were held out: nothing is known of how good it is, and it brings no strangers."
    return (
        f"On {figures['searches']} searches by {figures['identities']} identities it never saw:"
        f" rank-1 {figures['rank1']:.3f}, FNIR {figures['fnir']:.3f} at FPIR {figures['target_fpir']:g},"
        f" EER {figures['eer']:.3f}."
    )
