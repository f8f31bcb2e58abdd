"""A better tower for a gallery: trained on what was enrolled, proved on identities it never saw."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese_index import BadInput, Gallery, Missing
from siamese_index.analysis.comparison import compare
from siamese_index.samples.names import clean_name
from siamese_index.store.address import Address, place_of
from siamese_index.store.purge_rows import PURGED
from siamese_index.towers.card import Card

from .features import FILE as FEATURES
from .loop import CHECKPOINT
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
    without: Sequence[str] = (),
    scratch: bool = False,
    **settings: Any,
) -> Retraining:
    """Train a candidate on the gallery's pictures (and `data`), compare it with the active tower, and store it.

    Nothing is switched: `Gallery.promote` does that. `recipe` None is the active tower's own; `settings`
    as for `train`. Raises BadInput, with the numbers that are missing, when the gallery cannot train a
    tower. Every picture is decoded once, by the process that learns; the active tower's vectors are those
    that are stored.

    Identities that any tower of the gallery learned from, known by the digests of their samples, are not held out;
    those that answers were corrected for come up more often. It goes on from the active tower's weights, unless it is
    to begin from `scratch`, or that tower learned from somebody who is to be left out: `without` are names, enrolled,
    purged or of `data`. With the setting `resume` it goes on with what a killed training left beside the gallery; on
    KeyboardInterrupt the best tower so far is compared and stored.
    """
    with Gallery.open(gallery) as opened:
        began, champion, active = opened.revision, opened.tower, opened.tower_record()[0]
        target = opened.threshold().evidence.target_fpir or 0.01
        absent = [clean_name(name) for name in without]
        unknown = _unknown(opened, absent)
        if unknown and data is None and not _purged(opened):
            raise Missing(
                f"Nobody in {opened.path} is called {unknown[0]!r}, and no tower of it learned from them.",
                "Nothing was trained.",
                "See: sidx identities list",
            )
        if unknown and on_progress:
            on_progress({"stage": "without", "unknown": unknown})
        _refuse_too_little(opened, data, set(absent))
        taught = _seen(opened, {row.name for row in opened.identities()} - set(absent))
        scratch = scratch or bool(absent and knows(champion.card, _digests(opened, set(absent)), absent))
        folder = training_folder(opened.path)
        settings = {"size": champion.size, "dimension": champion.dimension, "fpir": target, **settings}
        job = {
            "gallery": str(place_of(gallery)),
            "data": None if data is None else str(data),
            "settings": settings,
            "without": absent,
            "scratch": scratch,
            "hard": sorted(_answered_wrongly(opened)),
            "taught": sorted(taught),
            "recipe": recipe or own_recipe(champion.card),
        }
        if folder is None and settings.get("resume"):
            raise BadInput("A training for a gallery on a server is not kept while it runs.", "Leave out --resume.")
        if folder is not None and settings.get("resume") and not (folder / CHECKPOINT).is_file():
            raise Missing(f"{folder}: there is no training to go on with.", remedy="Leave out --resume.")
        if folder is not None:
            folder.mkdir(mode=0o700, exist_ok=True)
        made = run(job, on_progress, folder)
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
        opened.add_tower(made.tower, judged, began)
        if folder is not None:  # only now it is not needed any more; the report stays
            for file in (CHECKPOINT, FEATURES):
                (folder / file).unlink(missing_ok=True)
    return Retraining(made.tower.id, judged, made.tower.id == champion.id)


def training_folder(place: Path | str | Address) -> Path | None:
    """Return where a training of a gallery keeps its checkpoint while it runs; None on a server."""
    return place.with_name(f"{place.name}.training") if isinstance(place, Path) else None


def _answered_wrongly(gallery: Gallery) -> set[str]:
    """Return the identities that answers were corrected to, or named wrongly, and what those show."""
    found = set()
    for answer in gallery.curation.answers(1 << 30):
        if answer.corrected is not None:
            found |= {answer.truth, answer.identity, f"answer {answer.id}"}
    return {name for name in found if name is not None}


def _digests(gallery: Gallery, names: set[str]) -> set[bytes]:
    """Return the SHA-256 of the samples of these identities, as they came in and as they are kept."""
    found = set()
    for row in gallery.samples():
        if row.identity in names:
            kept = gallery.picture(row.id)
            found |= {bytes.fromhex(row.digest)} | ({hashlib.sha256(kept).digest()} if kept is not None else set())
    return found


def knows(card: Card, digests: set[bytes], names: Sequence[str]) -> bool:
    """Whether a tower learned from one of these samples, or from somebody of these names or who was purged."""
    record = card.training
    return bool(record.has_learned_from(digests) or set(record.identities) & {*names, PURGED})


@dataclass(frozen=True)
class Due:
    """Whether it is time to retrain."""

    due: bool
    have: int
    wanted: int
    of: str


_CONDITION = re.compile(r"(\d+)\s+(?:new\s+)?(sample|identit|correction|day)(?:s|y|ies)?")
_OF = {"sample": "new samples", "identit": "new identities", "correction": "corrections", "day": "days"}


def due(gallery: Gallery, condition: str) -> Due:
    """Say whether so much came since the last tower was made: "200 new samples", "20 new identities", "10 corrections",
    "30 days". Raises BadInput for another condition.
    """
    found = _CONDITION.fullmatch(condition.strip().lower())
    if not found:
        raise BadInput(
            f"{condition!r} is no condition.", "Such as: 200 new samples, 20 new identities, 10 corrections, 30 days."
        )
    wanted, of = int(found[1]), _OF[found[2]]
    with gallery.reading() as state:
        since = state.store.towers.last_added()
        samples, identities, corrections, days = state.store.new_since(since)
    have = {"new samples": samples, "new identities": identities, "corrections": corrections, "days": days}[of]
    return Due(have >= wanted, have, wanted, of)


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


def _unknown(gallery: Gallery, absent: Sequence[str]) -> list[str]:
    """Return the names to leave out that nobody has: by a slip of the pen a tower would learn from whom it must not."""
    known = {row.name for row in gallery.identities()} | {row.name for row in gallery.curation.removed()[0]}
    for row, _ in gallery.towers():
        known |= {*row.card.training.identities, *row.card.training.held_out}
    return [name for name in absent if name not in known]


def _purged(gallery: Gallery) -> bool:
    """Whether a tower learned from somebody whose name is known to nothing any more."""
    return any(PURGED in row.card.training.identities for row, _ in gallery.towers())


def _refuse_too_little(gallery: Gallery, data: str | Path | None, absent: set[str]) -> None:
    rows = [row for row in gallery.samples() if row.identity not in absent]
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
