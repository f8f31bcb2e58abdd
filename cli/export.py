"""`sidx export`: take a gallery along, for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from siamese_index import Gallery, describe

from .options import DEFAULT_GALLERY, GalleryOption, Place
from .output import note, progress

EXAMPLE = "sidx export people.jsonl -g people.gallery"


def export(
    to: Annotated[Path, typer.Argument(help="A file .npz, .parquet or .jsonl; else a folder, new or empty.")],
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="With the pictures that are kept.")] = True,
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Write all samples with their vectors, strangers, tags and settings, for `sidx import` and other programs.

    A folder gets a folder of pictures for each identity, metadata.csv, strangers.csv, vectors.npy and gallery.json.
    """
    write(gallery, to, pictures, None)


def write(gallery: Place, to: Path, pictures: bool, samples: Sequence[int] | None) -> None:
    """Write an export, and say what is in it."""
    with Gallery.open(gallery) as opened, progress("exporting", len(opened.samples())) as tick:
        count = opened.curation.export(to, pictures=pictures, samples=samples, progress=tick)
    note(f"{to} holds {describe.counted(count, 'sample')}. Names and pictures in it are personal data.")
