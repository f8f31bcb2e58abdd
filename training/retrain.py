"""A better tower for a gallery: trained on what was enrolled, proved on identities it never saw."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese_index import BadInput, Gallery
from siamese_index.analysis.comparison import compare
from siamese_index.store.address import place_of
from siamese_index.towers.card import Card

from .process import run
from .progress import OnProgress

SEVERAL = 2  # samples that an identity needs to be searched for among the others
ENOUGH = 10  # identities with so many


@dataclass(frozen=True)
class Retraining:
    """A stored, inactive candidate and its figures beside the active tower's, on the same searches."""

    tower: str  # id
    comparison: dict[str, Any]  # as `siamese_index.analysis.comparison.compare` returns it
    unchanged: bool = False  # it is the active tower: nothing better was found

    @property
    def better(self) -> bool:
        """Whether the candidate is proved to be better."""
        return bool(self.comparison["verdict"] == "better")


def retrain(
    gallery: str | Path,
    data: str | Path | None = None,
    on_progress: OnProgress | None = None,
    *,
    recipe: str | None = None,
    **settings: Any,
) -> Retraining:
    """Train a candidate on the gallery's pictures (and `data`), compare it with the active tower, and store it.

    Nothing is switched: `Gallery.promote` does that. `recipe` None is the active tower's own; `settings`
    as for `train`. Raises BadInput, with the numbers that are missing, when the gallery cannot train a
    tower. Every picture is decoded once, by the process that learns; the active tower's vectors are those
    that are stored.
    """
    with Gallery.open(gallery) as opened:
        champion, active = opened.tower, opened.tower_record()[0]
        target = opened.threshold().evidence.target_fpir or 0.01
        _refuse_too_little(opened, data)
        settings = {"size": champion.size, "dimension": champion.dimension, "fpir": target, **settings}
        job = {"gallery": str(place_of(gallery)), "data": None if data is None else str(data), "settings": settings}
        made = run({**job, "recipe": recipe or own_recipe(champion.card)}, on_progress)
        if on_progress:
            on_progress({"stage": "compare", "tower": made.tower.id})
        with opened.reading() as state:  # without what was removed meanwhile
            present, vectors = state.store.templates.of_samples(active.id, active.dimension, made.samples)
        names = [name for name, there in zip(made.names, present.tolist(), strict=True) if there]
        # Who chose the moment, or was learned from by any tower before, does not judge. (Of fewer than four held-out
        # identities all chose; their figures are shown, but prove nothing.)
        record = made.tower.card.training
        judges = (set(record.held_out) - set(record.chose) or set(record.held_out)) & set(names)
        seen = _seen(opened, judges)
        attempt = 1 + sum(row.report is not None and row.id > active.id for row, _ in opened.towers())
        judged = compare(vectors, made.vectors[present], names, judges - seen, target, attempt=attempt)
        judged["champion_has_seen"] = len(seen)
        opened.add_tower(made.tower, judged)
    return Retraining(made.tower.id, judged, made.tower.id == champion.id)


def _seen(gallery: Gallery, identities: set[str]) -> set[str]:
    """Return which enrolled identities a tower of this gallery learned from: by name, or by the bytes of a sample."""
    digests: dict[bytes, str] = {}
    for row in gallery.samples():
        if row.identity in identities:
            digests[bytes.fromhex(row.digest)] = row.identity
            kept = gallery.picture(row.id)  # what a tower that was trained on the gallery learned from
            if kept is not None:
                digests[hashlib.sha256(kept).digest()] = row.identity
    seen = set()
    for tower, _ in gallery.towers():
        record = tower.card.training
        seen |= identities & set(record.identities)
        seen |= {digests[digest] for digest in record.has_learned_from(digests)}
    return seen


def own_recipe(card: Card) -> dict[str, Any] | None:
    """Return the recipe in a tower's card, or None when it has none.

    A card comes with a file, and no file is trusted to name code to run or weights to fetch. Raises
    BadInput for a tower of somebody's own function.
    """
    recipe = card.training.recipe
    if recipe is None or not isinstance(recipe.get("tower"), dict):
        return None
    name = str(recipe["tower"].get("name"))
    if ":" in name and not name.startswith("application:"):
        raise BadInput(
            f"The active tower was built by {name}, which is not run because a tower's card says so.",
            remedy="Name the recipe yourself: --recipe mine.toml",
        )
    tower = {key: value for key, value in recipe["tower"].items() if key != "weights"}
    return {**recipe, "tower": tower}


def _refuse_too_little(gallery: Gallery, data: str | Path | None) -> None:
    rows = gallery.samples()
    counts = Counter(row.identity for row in rows if row.kept)
    several = sum(count >= SEVERAL for count in counts.values())
    if several < ENOUGH and data is None:
        without = sum(not row.kept for row in rows)
        raise BadInput(
            f"{several} identities have {SEVERAL} or more pictures in this gallery; retraining needs {ENOUGH}.",
            f"It holds {counts.total()} pictures of {len({row.identity for row in rows})} identities"
            + (f", and {without} samples without a picture." if without else "."),
            f"Enroll more pictures of {ENOUGH - several} identities, or add some with --data.",
        )
