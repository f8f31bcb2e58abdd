"""`sidx train`: train a tower on data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, describe

from .options import JsonOption, ResumeOption, SeedOption, StepsOption, TimeBudgetOption, seconds
from .output import facts, interrupted, note, tell_left_out
from .training_progress import TrainingProgress

EXAMPLE = "sidx train faces -o faces.tower --steps 20"


class Duplicates(StrEnum):
    leave_out = "leave-out"
    refuse = "refuse"


def train(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder per identity, .csv (path,label or path_a,path_b,label), .npz, .npy, keras:NAME, "
            "tfds:NAME, or a gallery."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The tower file to write.", readable=False)],
    recipe: Annotated[
        str | None, typer.Option(help="A name (sidx recipes list) or a .toml file; default: from the data.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Longer side in pixels; default: from the data.", min=8, max=1024)
    ] = None,
    dimension: Annotated[int | None, typer.Option(help="Length of the vectors.", min=2, max=4096)] = None,
    holdout: Annotated[float, typer.Option(help="Share of identities to measure with, unseen.", min=0, max=0.9)] = 0.2,
    fpir: Annotated[
        float | None,
        typer.Option(help="The share of strangers at which misses are counted; default: 0.01.", min=0.0001, max=0.5),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--from", help="A .tower or .onnx whose network stays; a head behind it learns.", readable=False),
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="What it sees of a picture: whole, strokes, box or face; default: the recipe's.")
    ] = None,
    face_model: Annotated[
        Path | None, typer.Option(help="For --frame face: the detector, a YuNet as .onnx.", readable=False)
    ] = None,
    steps: StepsOption = None,
    time_budget: TimeBudgetOption = None,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    no_cohort: Annotated[
        bool, typer.Option("--no-cohort", help="Leave the held-out identities' vectors out of the tower.")
    ] = False,
    duplicates: Annotated[
        Duplicates, typer.Option(help="The same picture under two names: leave both out, or refuse the data.")
    ] = Duplicates.leave_out,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard, too.")] = False,
    as_json: JsonOption = None,
) -> None:
    """Train a tower on your pictures. Needs Keras: pip install ".[train-cpu]" in the folder of the source.

    Beside OUT, OUT's name with .training holds the checkpoint, the log and a report to look at. Ctrl-C
    keeps the best tower so far.
    """
    from siamese_index.samples import images
    from siamese_index.samples.faces import FaceFinder
    from siamese_index.samples.framing import refuse_frame
    from siamese_index.training import look
    from siamese_index.training import train as train_tower

    if not out.parent.is_dir():
        raise BadInput(f"{out}: there is no folder {out.parent}.", remedy="Make it first.")
    if not holdout and (fpir is not None or no_cohort):
        raise BadInput(
            "Without held-out identities nothing is measured and nobody is kept as a stranger.",
            "--fpir and --no-cohort mean nothing with --holdout 0.",
            "Leave them out.",
        )
    refuse_frame(frame or "whole", face_model is not None)
    if face_model is not None:
        FaceFinder(images.read(face_model))  # what is wrong with it is said before Keras starts
    budget = None if time_budget is None else seconds(time_budget)
    tell_left_out(look(data, recipe, size))  # what is wrong with data or recipe is said before Keras starts
    made = train_tower(
        data,
        TrainingProgress(),
        recipe=recipe,
        base=base,
        out=out,
        size=size,
        dimension=dimension,
        holdout=holdout,
        fpir=0.01 if fpir is None else fpir,
        frame=frame,
        face_model=None if face_model is None else str(face_model.absolute()),
        steps=steps,
        time_budget=budget,
        seed=seed,
        resume=resume,
        cohort=not no_cohort,
        tensorboard=tensorboard,
        duplicates=duplicates.value,
    )
    note(describe.held_out(made.card.held_out))
    facts({"tower": made.id, "file": str(out), **made.card.held_out}, as_json)
    if made.card.training.ended == "interrupted":
        interrupted(f"Interrupted: {out} is the best tower so far, of step {made.card.training.kept_from_step}.")
        raise typer.Exit(130)
    if len(made.card.input.shape) == 1:
        note(f"Next:  sidx enroll --from VECTORS.npz --tower {out} -g people.gallery")
    else:
        note(f"Next:  sidx enroll NAME PICTURE --tower {out} -g people.gallery")
