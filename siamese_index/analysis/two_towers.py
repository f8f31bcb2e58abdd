"""Two towers of a gallery on the same pictures, of people whom neither learned from."""

from __future__ import annotations

from typing import Any

import numpy as np

from siamese_index.errors import BadInput, Refusal
from siamese_index.samples.images import Progress
from siamese_index.samples.items import Items

from .comparison import compare
from .contract import OpenGallery
from .tower_trial import embedded


def compare_towers(
    gallery: OpenGallery,
    first: str,
    second: str,
    items: Items,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], tuple[Refusal, ...]]:
    """Return both towers' figures on (identity, picture) items, each searched among the rest: `comparison.compare`.

    Identities that one of them learned from, by name or by the digest of a picture, do not judge. Returns also what
    could not be read. Raises Missing for a tower that is not there, BadInput where nobody is left to judge.
    """
    if gallery.tower_record(first)[0].id == gallery.tower_record(second)[0].id:
        raise BadInput("These are the same tower.", remedy="See them: sidx towers list")
    files = [gallery.tower_file(tower) for tower in (first, second)]
    found = [embedded(file, items, progress) for file in files]
    (one, refused), (other, _) = found
    at = {digest: i for i, digest in enumerate(other.digests)}
    both = [i for i, digest in enumerate(one.digests) if digest in at]
    names = [one.names[i] for i in both]
    digests = {bytes.fromhex(one.digests[i]): name for i, name in zip(both, names, strict=True)}
    seen: set[str] = set()
    for file in files:
        record = file.card.training
        seen |= set(record.identities) | {digests[digest] for digest in record.has_learned_from(digests)}
    several = {name for name in names if names.count(name) > 1}
    judges = several - seen
    if len(judges) < 2:
        raise BadInput(
            f"{len(judges)} identities can judge these towers.",
            f"Of {len(several)} with two pictures and more one of the towers learned from {len(several & seen)}.",
            "Give pictures of others, two of each and more.",
        )
    with gallery.reading() as state:
        target = state.settings.target_fpir
    order = np.array([at[one.digests[i]] for i in both], np.int64)
    report = compare(one.vectors[both], other.vectors[order], names, judges, target)
    report["champion_has_seen"] = len(several & seen)
    return report, refused
