"""`sidx purge`: delete somebody for good."""

from __future__ import annotations

from typing import Annotated

import typer

from siamese_index import BadInput, Gallery, describe

from . import completion
from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, YesOption
from .output import confirm, facts, for_a_person, note

EXAMPLE = "sidx purge carol --yes -g people.gallery"


def purge(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Identities, enrolled or removed, and strangers.",
            autocompletion=completion.identities,
        ),
    ] = None,
    strangers: Annotated[bool, typer.Option("--strangers", help="All strangers.")] = False,
    answers_before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Answers on record from before a date, such as 2026-01-31 (UTC).")
    ] = None,
    yes: YesOption = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Delete somebody from the gallery for good: pictures, vectors, names, answers, caches, free pages.

    It cannot be undone, and neither can anything before it. What it prints names the backups and the towers that may
    still know them.
    """
    what = [*(names or [])] + (["all strangers"] if strangers else [])
    what += [f"all answers before {answers_before}"] if answers_before is not None else []
    if not what:
        raise BadInput("Nothing to purge is named.", remedy="Name identities, --strangers or --answers-before DATE.")
    with Gallery.open(gallery) as opened:
        confirm(f"Delete {', '.join(what)} from {gallery} for good?", yes)
        receipt = opened.curation.purge(names or [], strangers=strangers, answers_before=answers_before)
    row = receipt.to_dict()
    if for_a_person(as_json):
        counts = ("revision", "identities", "samples", "templates", "strangers", "answers")
        facts({key: row[key] for key in counts}, as_json)
    else:
        facts(row, as_json)
    for tower in receipt.towers:
        whom = describe.counted(tower.samples, "sample") if tower.samples else "them, by name"
        state = "the active one" if tower.active else "not active"
        did = f"was trained on {whom}" if tower.learned else "was judged by them, and did not learn from them"
        note(f"Tower {tower.tower[:12]} ({state}) {did}.")
    for copy in receipt.backups:
        if copy.exists:
            note(f"{copy.path} was made before: it may hold what was purged.")
    if receipt.retrain:
        note(f"Train a tower without:  {receipt.retrain}")
    if receipt.unswept:
        note(f"{receipt.unswept} So it is rewritten when it is next opened; until then bytes may be left in it.")
