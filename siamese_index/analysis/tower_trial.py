"""How good a tower that was made elsewhere is, by identities that are named: its figures, and its strangers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from siamese_index.analysis.comparison import tower_figures
from siamese_index.errors import BadInput, Refusal, SiameseIndexError
from siamese_index.samples import images
from siamese_index.samples.images import Progress, picture_name
from siamese_index.samples.items import Items
from siamese_index.towers import embedding
from siamese_index.towers.tower import Tower
from siamese_index.towers.tower_file import Cohort, TowerFile


def embedded(file: TowerFile, items: Items, progress: Progress | None = None) -> tuple[Cohort, tuple[Refusal, ...]]:
    """Return the vectors of (identity, sample) items by a tower, with whose they are, and what was not read."""
    tower = Tower.of(file)
    names, digests, vectors, refused = [], [], [], []
    taken: list[tuple[str, str, bytes]] = []

    def samples() -> Iterator[bytes]:
        for number, (name, sample) in enumerate(items):
            source = picture_name(sample, number)
            try:
                data = images.read(sample)
            except SiameseIndexError as error:
                refused.append(Refusal(source, images.named(source, error)))
                continue
            taken.append((name, source, hashlib.sha256(data).digest()))
            yield data

    for at, found in enumerate(embedding.local(tower)(samples(), {})):
        name, source, digest = taken[at]
        if isinstance(found, SiameseIndexError):
            refused.append(Refusal(source, images.named(source, found)))
        else:
            names.append(name)
            digests.append(digest.hex())
            vectors.append(found[1])
        if progress:
            progress(1)
    rows = np.stack(vectors) if vectors else np.zeros((0, tower.dimension), np.float32)
    return Cohort(tuple(names), tuple(digests), rows), tuple(refused)


def measured(
    file: TowerFile, items: Items, target: float, progress: Progress | None = None
) -> tuple[TowerFile, tuple[Refusal, ...]]:
    """Return the tower with figures on all identities of `items`, who become its strangers; and what was not read.

    Figures are `comparison.tower_figures` at `target` FPIR. Raises BadInput when no identity has two samples.
    """
    cohort, refused = embedded(file, items, progress)
    figures = tower_figures(cohort.vectors, cohort.names, set(cohort.names), target) if len(cohort) else {"searches": 0}
    if not figures["searches"]:
        raise BadInput("Nothing can be measured.", "At least one identity needs two pictures, among two identities.")
    return replace(file, card=file.card.with_figures(figures), cohort=cohort), refused
