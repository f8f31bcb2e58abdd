"""A better tower for a gallery: trained on what was enrolled, proved on identities it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese_index import BadInput, Gallery, Tower
from siamese_index.evaluation import compare
from siamese_index.sources import Item

from .child import Report, run

SEVERAL = 2  # samples that an identity needs to be searched for among the others
ENOUGH = 10  # identities with so many


@dataclass(frozen=True)
class Retraining:
    """A stored, inactive candidate and its figures beside the active tower's, on the same searches."""

    tower: str  # id
    report: dict[str, Any]  # as `siamese_index.evaluation.compare` returns it

    @property
    def better(self) -> bool:
        """Whether the candidate is proved to be better."""
        return bool(self.report["verdict"] == "better")


def retrain(
    gallery: str | Path, data: str | Path | None = None, report: Report | None = None, **settings: Any
) -> Retraining:
    """Train a candidate on the gallery's pictures (and `data`), compare it with the active tower, and store it.

    Nothing is switched: `Gallery.promote` does that. `settings` as for `train`. Raises BadInput,
    with the numbers that are missing, when the gallery cannot train a tower.
    """
    with Gallery.open(gallery) as opened:
        champion = opened.tower
        target = opened.threshold().evidence.target_fpir or 0.01
        _refuse_too_little(opened, data)
        settings = {
            "kind": champion.card.get("kind", "auto"),
            "size": max(champion.height, champion.width),
            "dimension": champion.dimension,
            "fpir": target,
            **settings,
        }
        made = run({"gallery": str(gallery), "data": None if data is None else str(data), "settings": settings}, report)
        challenger = Tower(made.onnx, made.card, made.id)
        samples, _ = opened.kept_pictures()
        held_out = set(made.cohort.names)
        names = [name for name, _ in samples]
        vectors = []
        for tower in (champion, challenger):
            if report:
                report({"stage": "compare", "tower": tower.id})
            vectors.append(tower.embed([tower.prepare(picture) for _, picture in samples]))
        judged = compare(vectors[0], vectors[1], names, held_out, target)
        # What the champion was trained on it has not to be tested on: its figures would flatter it.
        known = set(champion.card.get("training", {}).get("identities", []))
        judged["champion_has_seen"] = len(held_out & known & set(names))
        opened.add_tower(made, judged)
    return Retraining(made.id, judged)


def gallery_items(gallery: str | Path) -> tuple[list[Item], bytes | None]:
    """Return the gallery's pictures and its active tower's Keras model: what a retraining starts from."""
    with Gallery.open(gallery) as opened:
        return list(opened.kept_pictures()[0]), opened.tower_file().keras


def _refuse_too_little(gallery: Gallery, data: str | Path | None) -> None:
    samples, without = gallery.kept_pictures()
    counts: dict[str, int] = {}
    for name, _ in samples:
        counts[name] = counts.get(name, 0) + 1
    several = sum(count >= SEVERAL for count in counts.values())
    if several < ENOUGH and data is None:
        raise BadInput(
            f"{several} identities have {SEVERAL} or more pictures in this gallery; retraining needs {ENOUGH}.",
            f"It holds {len(samples)} pictures of {len(counts)} identities"
            + (f", and {without} samples without a picture." if without else "."),
            f"Enroll more pictures of {ENOUGH - several} identities, or add some with --data.",
        )
