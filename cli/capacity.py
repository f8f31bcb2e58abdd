"""`sidx capacity`: show how many identities a tower can hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from siamese_index import Gallery, describe
from siamese_index.describe import percent

from .options import DEFAULT_GALLERY, FpirOption, GalleryOption, JsonOption
from .output import emit, facts, for_a_person, note

EXAMPLE = "sidx capacity --fnir 0.2 -g people.gallery"


def capacity(
    fnir: Annotated[float, typer.Option(help="The share of mated searches that may miss.")] = 0.1,
    fpir: FpirOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Show how many identities the tower can hold, from one picture each, before too many searches miss."""
    with Gallery.open(gallery) as opened:
        result = opened.capacity(fpir=fpir, fnir=fnir)
    if not for_a_person(as_json):
        facts(asdict(result), as_json)
    else:
        emit(
            [
                {
                    "identities": p.identities,
                    "threshold": p.threshold,
                    "FPIR": _with(p.fpir, p.fpir_interval),
                    "FNIR": _with(p.fnir, p.fnir_interval),
                }
                for p in result.plans
            ],
            as_json,
        )
    note(describe.capacity(result))


def _with(share: float, ends: tuple[float, float]) -> str:
    return f"{percent(share)} ({percent(ends[0])} … {percent(ends[1])})"
