"""`sidx retrain`: train a better tower for a gallery."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from siamese_index import Gallery

from .options import (
    DEFAULT_GALLERY,
    GalleryOption,
    JsonOption,
    Place,
    ResumeOption,
    SeedOption,
    StepsOption,
    TimeBudgetOption,
    quoted,
    seconds,
)
from .output import AsJson, facts, note
from .towers import print_comparison, promote_tower
from .training_progress import TrainingProgress

EXAMPLE = 'sidx retrain --when "200 new samples" -g people.gallery'


class Promote(StrEnum):
    auto = "auto"
    ask = "ask"
    never = "never"


def retrain(
    data: Annotated[str | None, typer.Option(help="More pictures to learn from, as for train.")] = None,
    recipe: Annotated[str | None, typer.Option(help="As for train; default: the active tower's own.")] = None,
    promote: Annotated[Promote, typer.Option(help="auto: swap it in when it is proved to be better.")] = Promote.ask,
    steps: StepsOption = None,
    time_budget: TimeBudgetOption = None,
    scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Begin anew, not from the active tower's weights.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Learn nothing of this identity; repeatable. From scratch if it was learned."
        ),
    ] = None,
    resume: ResumeOption = False,
    when: Annotated[
        str | None,
        typer.Option(metavar="CONDITION", help='Only if it is time: "200 new samples", "10 corrections", "30 days".'),
    ] = None,
    seed: SeedOption = 0,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Train a better tower from what is enrolled, and compare it with the active one.

    Ctrl-C keeps the best so far. Interrupted anywhere, the active tower goes on answering.
    """
    from siamese_index.training import retrain as retrain_gallery

    budget = None if time_budget is None else seconds(time_budget)
    if when is not None and not _is_due(gallery, when, as_json):
        return
    result = retrain_gallery(
        gallery,
        data,
        TrainingProgress(),
        recipe=recipe,
        without=without or (),
        scratch=scratch,
        steps=steps,
        time_budget=budget,
        resume=resume,
        seed=seed,
    )
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
        note(f"It is stored as a candidate. Swap it in:  sidx towers promote {result.tower[:12]} -g {quoted(gallery)}")


def _is_due(gallery: Place, when: str, as_json: AsJson) -> bool:
    """Say whether it is time to retrain."""
    from siamese_index.training import due

    with Gallery.open(gallery) as opened:
        found = due(opened, when)
    if found.due:
        note(f"It is time: {found.have} {found.of} since the last tower.")
    else:
        note(f"Not yet: {found.have} of {found.wanted} {found.of} since the last tower.")
        facts(asdict(found), as_json)
    return found.due
