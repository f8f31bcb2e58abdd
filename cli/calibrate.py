"""`sidx calibrate`: show and set what the threshold rests on; plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Gallery, describe
from siamese_index.samples import sources
from siamese_index.samples.items import Item

from .options import DEFAULT_GALLERY, FpirOption, GalleryOption, JsonOption, Place, SplitsOption
from .output import AsJson, complain, facts, for_a_person, note, progress, table, tell_left_out, tell_suspects

EXAMPLE = "sidx calibrate --fpir 0.02 -g people.gallery"


class FusionChoice(StrEnum):
    auto = "auto"
    best = "best"
    mean = "mean"
    best_two = "best-two"


def calibrate(
    fpir: FpirOption = None,
    strangers: Annotated[
        str | None, typer.Option(help="Pictures of identities that are not enrolled: folder, .csv, .npz, .npy.")
    ] = None,
    splits_apart: SplitsOption = False,
    fusion: Annotated[
        FusionChoice | None, typer.Option(help="How several pictures of an identity make one distance.")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Keep the target with this probability, such as 0.95, not on average (0: on average again)."),
    ] = None,
    shift: Annotated[
        bool | None,
        typer.Option(
            "--shift/--no-shift", help="Let the threshold move with the probe, by how near its strangers are."
        ),
    ] = None,
    plan: Annotated[
        int | None, typer.Option(help="Only show threshold, FPIR and FNIR with so many identities.", min=1)
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Show the threshold with its evidence and its cost; set its target; add strangers; plan."""
    if plan is not None:
        if splits_apart or any(chosen is not None for chosen in (strangers, fusion, confidence, shift)):
            raise BadInput("--plan only computes.", "It adds no strangers and sets nothing.", "Do that first.")
        _show_plan(gallery, plan, fpir, as_json)
        return
    if splits_apart and strangers is None:
        raise BadInput("--splits-apart is about --strangers.", remedy="Leave it out, or give them.")
    with Gallery.open(gallery) as opened:
        rule: Any = None if fusion is None else fusion.value
        given = sources.items(strangers, each_its_own=True, splits_apart=splits_apart) if strangers else None
        items: Sequence[Item] = [] if given is None else given
        with progress("embedding strangers", len(items)) as tick:
            result, refused = opened.calibrate(
                fpir=fpir, strangers_given=items, fusion=rule, confidence=confidence, shift=shift, progress=tick
            )
    person = for_a_person(as_json)
    listed = [[asdict(each) for each in found] for found in (result.suspects, result.nearest)]
    costs = [asdict(tradeoff) for tradeoff in result.tradeoffs]
    facts(
        {
            "threshold": result.threshold,
            "target_fpir": result.evidence.target_fpir,
            "fpir_interval": result.fpir_interval,
            "promise": result.evidence.promise,
            "stranger_searches": result.evidence.searches,
            "effective_searches": round(result.evidence.effective, 1),
            "false_alarms": result.evidence.false_alarms,
            "missing_strangers": result.evidence.missing,
            "sources": {**result.strangers, "gallery": result.own_searches},
            "used": result.evidence.source,
            "fusion": result.evidence.fusion,
            "shift": result.evidence.shift,
            "confidence": result.evidence.confidence,
            "fitted": result.evidence.fitted,
            "margin": result.evidence.margin,
            "enrolled_strangers": result.enrolled_strangers,
            "set_aside": result.evidence.set_aside,
            "met_nobody": result.set_aside,
            "fnir": result.fnir,
            "fnir_interval": result.fnir_interval,
            "fnir_from_strangers": result.fnir_from_strangers,
            "misses": result.misses,
            "mated_searches": result.mated,
            "identities": result.identities,
            "revision": result.revision,
            **({} if person else {"suspects": listed[0], "nearest": listed[1], "tradeoffs": costs}),
        },
        as_json,
    )
    if person and result.identities:
        typer.echo("\nThe nearest searches by somebody else, which set the threshold:")
        table(listed[1])
        typer.echo("\nWhat other targets would cost:")
        table(costs)
        typer.echo()
    tell_left_out(() if given is None else given.left_out)
    tell_suspects(result.suspects)
    if strangers and result.enrolled_strangers:
        who = describe.counted(result.enrolled_strangers, "picture")
        note(f"{who} of strangers are enrolled, by name or by the same bytes: searched among the others.")
    note(describe.state(result))
    for refusal in refused:
        complain(f"sidx: {refusal.error}")
    if refused:
        raise typer.Exit(3)


def _show_plan(gallery: Place, identities: int, fpir: float | None, as_json: AsJson) -> None:
    with Gallery.open(gallery) as opened:
        planned = opened.plan(identities, fpir=fpir)
    facts(asdict(planned), as_json)
    note(describe.plan(planned))
