"""`sidx retrain`: train a better tower for a gallery."""

from __future__ import annotations

import contextlib
import sys
from enum import StrEnum
from typing import Annotated

import typer

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, SeedOption, StepsOption
from .output import note
from .towers import print_comparison, promote_tower
from .training_progress import TrainingProgress

EXAMPLE = "sidx retrain -g people.gallery --data faces --steps 20"


class Promote(StrEnum):
    auto = "auto"
    ask = "ask"
    never = "never"


def retrain(
    data: Annotated[str | None, typer.Option(help="More pictures to learn from, as for train.")] = None,
    recipe: Annotated[str | None, typer.Option(help="As for train; default: the active tower's own.")] = None,
    promote: Annotated[Promote, typer.Option(help="auto: swap it in when it is proved to be better.")] = Promote.ask,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Train a better tower from what is enrolled, and compare it with the active one."""
    from siamese_index.training import retrain as retrain_gallery

    result = retrain_gallery(gallery, data, TrainingProgress(), recipe=recipe, steps=steps, seed=seed)
    print_comparison(result.tower, result.comparison, as_json)
    if result.unchanged:
        note("Nothing better was found on the network as it is: the active tower stays.")
        return
    wanted = promote is Promote.auto and result.better
    if promote is Promote.ask:
        with contextlib.suppress(typer.Abort):  # no answer is a no: the candidate is stored anyway
            wanted = sys.stdin.isatty() and typer.confirm("Swap it in?", default=result.better, err=True)
    if wanted:
        promote_tower(gallery, result.tower)
    else:
        note(f"It is stored as a candidate. Swap it in:  sidx towers promote {result.tower[:12]} -g {gallery}")
