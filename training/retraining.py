"""A better tower for a gallery: trained on what was enrolled, proved on identities it never saw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese_index import BadInput, Gallery, Tower
from siamese_index.analysis.comparison import compare
from siamese_index.samples import images
from siamese_index.store.address import place_of

from .child import Report, run
from .data import enrolled

SEVERAL = 2  # samples that an identity needs to be searched for among the others
ENOUGH = 10  # identities with so many


@dataclass(frozen=True)
class Retraining:
    """A stored, inactive candidate and its figures beside the active tower's, on the same searches."""

    tower: str  # id
    report: dict[str, Any]  # as `siamese_index.analysis.comparison.compare` returns it

    @property
    def better(self) -> bool:
        """Whether the candidate is proved to be better."""
        return bool(self.report["verdict"] == "better")


def retrain(
    gallery: str | Path,
    data: str | Path | None = None,
    report: Report | None = None,
    *,
    recipe: str | None = None,
    **settings: Any,
) -> Retraining:
    """Train a candidate on the gallery's pictures (and `data`), compare it with the active tower, and store it.

    Nothing is switched: `Gallery.promote` does that. `recipe` None is the active tower's own; `settings`
    as for `train`. Raises BadInput, with the numbers that are missing, when the gallery cannot train a
    tower.
    """
    with Gallery.open(gallery) as opened:
        champion = opened.tower
        target = opened.threshold().evidence.target_fpir or 0.01
        _refuse_too_little(opened, data)
        settings = {"size": champion.size, "dimension": champion.dimension, "fpir": target, **settings}
        job = {"gallery": str(place_of(gallery)), "data": None if data is None else str(data), "settings": settings}
        made = run({**job, "recipe": recipe or own_recipe(champion.card)}, report)
        challenger = Tower(made.onnx, made.card, made.id)
        samples = enrolled(gallery)
        held_out = set(made.card["training"]["held_out"])
        names = list(samples.names)
        vectors = []
        for tower in (champion, challenger):
            if report:
                report({"stage": "compare", "tower": tower.id})
            vectors.append(tower.embed_samples(images.read(sample) for _, sample in samples))
        judged = compare(vectors[0], vectors[1], names, held_out, target)
        # What the champion was trained on it has not to be tested on: its figures would flatter it.
        known = set(champion.card.get("training", {}).get("identities", []))
        judged["champion_has_seen"] = len(held_out & known & set(names))
        opened.add_tower(made, judged)
    return Retraining(made.id, judged)


def own_recipe(card: dict[str, Any]) -> dict[str, Any] | None:
    """Return the recipe in a tower's card, or None when it has none.

    A card comes with a file, and no file is trusted to name code to run or weights to fetch. Raises
    BadInput for a tower of somebody's own function.
    """
    recipe = card.get("training", {}).get("recipe")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("tower"), dict):
        return None
    name = str(recipe["tower"].get("name"))
    if ":" in name and not name.startswith("application:"):
        raise BadInput(
            f"The active tower was built by {name}, which is not run because a tower's card says so.",
            remedy="Name the recipe yourself: --recipe mine.toml",
        )
    tower = {key: value for key, value in recipe["tower"].items() if key != "weights"}
    return {**recipe, "tower": tower}


def beginning(gallery: str | Path) -> bytes | None:
    """Return the active tower's Keras model: what a retraining goes on from."""
    with Gallery.open(gallery) as opened:
        return opened.tower_file().keras


def _refuse_too_little(gallery: Gallery, data: str | Path | None) -> None:
    counts: Counter[str] = Counter()
    without = 0
    for name, picture in gallery.pictures():
        counts[name] += picture is not None
        without += picture is None
    several = sum(count >= SEVERAL for count in counts.values())
    if several < ENOUGH and data is None:
        raise BadInput(
            f"{several} identities have {SEVERAL} or more pictures in this gallery; retraining needs {ENOUGH}.",
            f"It holds {counts.total()} pictures of {len(counts)} identities"
            + (f", and {without} samples without a picture." if without else "."),
            f"Enroll more pictures of {ENOUGH - several} identities, or add some with --data.",
        )
