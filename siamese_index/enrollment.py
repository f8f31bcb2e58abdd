"""Taking samples in: what is refused, what is there already, and one transaction for the rest."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import images, strangers
from .errors import BadInput, SiameseIndexError
from .images import Picture
from .store import Store, TowerRow
from .tower import Tower
from .vectors import Vectors

NAME_LIMIT = 255
Progress = Callable[[int], None]  # called with how many more items are done
Sample = tuple[str, bytes, str, bytes | None]  # identity, SHA-256, source, the picture to keep


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sample or probe that was not taken, and why."""

    source: str
    error: SiameseIndexError


@dataclass(slots=True)
class Enrollment:
    """What became of each sample of an enrollment."""

    enrolled: list[tuple[str, str]] = field(default_factory=list)  # (identity, source)
    already: list[tuple[str, str]] = field(default_factory=list)  # the same bytes, under the same identity
    refused: list[Refusal] = field(default_factory=list)
    revision: int = 0


def take(
    items: Sequence[tuple[str, Picture]],
    tower: Tower,
    total: Enrollment,
    strict: bool,
    keep: bool = True,
    progress: Progress | None = None,
) -> tuple[list[Sample], Vectors]:
    """Read and embed (name, picture) items; return the samples and their vectors (n, dimension).

    What cannot be taken is raised if `strict`, else listed in `total`.
    """
    samples: list[Sample] = []
    pixels = []
    for number, (name, picture) in enumerate(items):
        source = picture_name(picture, number)
        try:
            accepted, data = clean_name(name), images.read(picture)
            kept = tower.bounded(data)
            pixels.append(tower.prepare(kept))  # of what is kept, so that embedding it again gives the same
        except SiameseIndexError as error:
            if strict:
                raise images.named(source, error) from None
            total.refused.append(Refusal(source, images.named(source, error)))
            continue
        finally:
            if progress:
                progress(1)
        samples.append((accepted, hashlib.sha256(data).digest(), source, kept if keep else None))
    return samples, tower.embed(pixels)


def write(
    store: Store, tower: TowerRow, samples: Sequence[Sample], vectors: Vectors, total: Enrollment, strict: bool
) -> None:
    """Enroll what is new among the samples, in one transaction; say in `total` what became of each."""
    with store.writing("enroll"):
        store.expect_active(tower.id)
        holders = store.holders([digest for _, digest, _, _ in samples])
        fresh: list[int] = []
        for i, (name, digest, source, _) in enumerate(samples):
            if digest not in holders:
                holders[digest] = name
                fresh.append(i)
            elif holders[digest] == name:
                total.already.append((name, source))
            else:
                error = _taken(source, name, holders[digest])
                if strict:
                    raise error
                total.refused.append(Refusal(source, error))
        if fresh:
            rows, new = [samples[i] for i in fresh], vectors[fresh]
            event = store.record("enroll", samples=len(fresh))
            identities, templates = store.add_samples(event, tower.id, rows, new)
            names, digests = [row[0] for row in rows], [row[1] for row in rows]
            strangers.tighten(store, tower.id, names, digests, identities, templates, new)
            total.enrolled += [(row[0], row[2]) for row in rows]
        total.revision = store.revision()[0]


def _taken(source: str, name: str, holder: str) -> BadInput:
    return BadInput(
        f"{source}: already enrolled as {holder!r}, not {name!r}.",
        "The same picture cannot be two identities.",
        f"Rename or remove {holder!r}, or leave this picture out.",
    )


def clean_name(name: str) -> str:
    """Return the name as it is stored: NFC, without spaces around it.

    Raises BadInput for an empty name, one of more than NAME_LIMIT characters, or one with line
    breaks or other control characters.
    """
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not cleaned:
        raise BadInput("The name is empty.", remedy="Give the identity a name.")
    if len(cleaned) > NAME_LIMIT:
        raise BadInput(f"The name has {len(cleaned):,} characters.", f"At most {NAME_LIMIT} are kept.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in cleaned):
        raise BadInput(f"The name {cleaned!r} contains line breaks or control characters.")
    return cleaned


def picture_name(picture: Picture, number: int) -> str:
    """Return what to call a picture in answers: its path, or its number."""
    return f"picture {number}" if isinstance(picture, bytes) else str(picture)
