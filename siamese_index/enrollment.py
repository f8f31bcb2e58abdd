"""Taking samples in: what is refused, what is there already, and one transaction for the rest."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import images
from .answering import Answering, Outlook
from .calibration import Threshold
from .decision import Rule
from .embedding import Embed
from .errors import BadInput, Conflict, SiameseIndexError
from .fusion import all_distances, to_identity
from .images import Picture
from .store import Store, TowerRow
from .vectors import Vectors

NAME_LIMIT = 255
Conflicts = Literal["allow", "refuse", "refuse when sure"]
SURE = 0.02  # FPIR
TWIN = 0.25  # templates nearer than this may be of one picture, saved twice: their pixels tell
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
    already: list[tuple[str, str]] = field(default_factory=list)  # the same picture, under the same identity
    refused: list[Refusal] = field(default_factory=list)
    revision: int = 0
    outlook: Outlook | None = None  # of a dry run: what the gallery would promise and miss


def take(
    items: Iterable[tuple[str, Picture]],
    embed: Embed,
    dimension: int,
    total: Enrollment,
    strict: bool,
    keep: bool = True,
    floor: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    holder: Callable[[bytes], str | None] = lambda digest: None,  # noqa: ARG005
) -> tuple[list[Sample], Vectors]:
    """Read and embed (name, picture) items; return the samples and their vectors (n, dimension).

    What cannot be taken, or is below the `floor` of quality, is raised if `strict`, else listed in `total`.
    A sample whose digest has the `holder` that it is said to show is enrolled already, and not looked at again.
    """
    waiting: deque[tuple[str, bytes, str]] = deque()

    def refuse(source: str, error: SiameseIndexError) -> None:
        if strict:
            raise images.named(source, error) from None
        total.refused.append(Refusal(source, images.named(source, error)))

    def readable() -> Iterator[bytes]:
        for number, (name, picture) in enumerate(items):
            source = picture_name(picture, number)
            try:
                accepted, data = clean_name(name), images.read(picture)
            except SiameseIndexError as error:
                refuse(source, error)
            else:
                digest = hashlib.sha256(data).digest()
                if holder(digest) != accepted:
                    waiting.append((accepted, digest, source))
                    yield data
                    continue
                total.already.append((accepted, source))
            if progress:
                progress(1)

    samples: list[Sample] = []
    vectors: list[NDArray[np.float32]] = []
    for found in embed(readable(), floor or {}):
        name, digest, source = waiting.popleft()
        if isinstance(found, SiameseIndexError):
            refuse(source, found)
        else:
            samples.append((name, digest, source, found[0] if keep else None))
            vectors.append(found[1])
        if progress:
            progress(1)
    return samples, np.array(vectors, np.float32).reshape(-1, dimension)


def write(
    store: Store,
    answering: Answering,
    tower: TowerRow,
    samples: Sequence[Sample],
    vectors: Vectors,
    total: Enrollment,
    strict: bool,
    conflicts: Conflicts,
    tags: Sequence[tuple[str, str]] = (),
) -> None:
    """Enroll what is new among the samples; say in `total` what became of each. Call it inside a transaction."""
    cohort = answering.before_change(tower.id)
    enrolled = store.holders({sample[1] for sample in samples})
    holders = {digest: name for digest, (_, name) in enrolled.items()}
    fresh: list[int] = []
    for i, (name, digest, source, _) in enumerate(samples):
        holder = holders.get(digest)
        if holder is None:
            holders[digest] = name
            fresh.append(i)
        elif holder == name:
            total.already.append((name, source))
        else:
            _refuse(total, source, _taken(source, name, holder), strict)
    if fresh and conflicts != "allow" and _accuses(answering.state().threshold(None), conflicts):
        fresh = _without_conflicts(store, answering, tower, samples, vectors, fresh, total, strict)
    if fresh:
        whole = len(fresh) == len(samples)
        rows, new = (samples, vectors) if whole else ([samples[i] for i in fresh], vectors[fresh])
        comparing = cohort.comparing(new)
        event = store.record("enroll", samples=len(fresh))
        identities, templates = store.add_samples(event, tower.id, rows, new)
        if tags:
            store.tag(np.unique(identities).tolist(), tags)
        cohort.enrolled([row[0] for row in rows], [row[1] for row in rows], templates, identities, new, comparing)
        total.enrolled += [(row[0], row[2]) for row in rows]
    cohort.seen()
    total.revision = store.revision()[0]


def _accuses(learned: Threshold, conflicts: Conflicts) -> bool:
    """Whether a threshold is good enough to refuse a sample for whom it looks like.

    It must come from strangers: one that was learned from the gallery itself lets a share of newcomers
    look like somebody by definition. Many samples are only refused by one that promises SURE; for a
    single one, whoever enrolls it can look.
    """
    if learned.tau is None or "gallery" in learned.evidence.source:
        return False
    return conflicts == "refuse" or (learned.evidence.promise or 1.0) <= SURE


def _without_conflicts(
    store: Store,
    answering: Answering,
    tower: TowerRow,
    samples: Sequence[Sample],
    vectors: Vectors,
    fresh: list[int],
    total: Enrollment,
    strict: bool,
) -> list[int]:
    """Return which of the samples `fresh` look like nobody else than whom they are said to show.

    A sample conflicts when another identity is within the threshold and nearer than its own, by more
    than the margin at which answers are ambiguous. It is compared with who is enrolled, and with what
    comes with it and is taken.
    """
    state = answering.state()
    learned = state.threshold(None)
    tau = learned.tau
    if tau is None:  # nobody is accused without
        return fresh
    anywhere = Rule(np.inf, learned.evidence.margin)  # also where its own lies beyond the threshold
    new, samples = vectors[fresh], [samples[i] for i in fresh]
    known, fusion = store.identities_named({sample[0] for sample in samples}), state.settings.fusion
    found = answering.searcher(state).nearest(new, 2, radius=learned.rule.radius)
    labels = store.owners({hit.template for hits in found for hit in hits})
    taken = np.zeros(len(new), bool)
    for block in range(0, len(new), 256):
        among = all_distances(new[block : block + 256], new[: block + 256])  # what came before in this batch
        for at in range(block, min(block + 256, len(new))):
            name, _, source, picture = samples[at]
            own = next((h for h in found[at] if h.identity == known.get(name)), None)
            near = [(h.distance, *labels[h.template]) for h in found[at] if h is not own]
            close = np.flatnonzero((among[at - block, :at] <= tau) & taken[:at])
            beside = [(float(among[at - block, j]), samples[j][0], -1) for j in close.tolist()]
            other, who, sample = min([n for n in near + beside if n[1] != name], default=(np.inf, "", -1))
            if own and own.distance < TWIN and images.alike(picture, store.picture(labels[own.template][1])):
                total.already.append((name, source))
                continue
            if other <= tau:
                mine = min([n[0] for n in beside if n[1] == name], default=np.inf)
                if name in known:
                    templates = store.templates_of(tower.id, tower.dimension, known[name])[1]
                    mine = min(mine, to_identity(new[at], templates, fusion))
                if other < mine and not anywhere.is_ambiguous(other, mine):
                    twin = sample >= 0 and other < TWIN and images.alike(picture, store.picture(sample))
                    error = _taken(source, name, who) if twin else _conflict(source, name, who, other, mine, tau)
                    _refuse(total, source, error, strict)
                    continue
            taken[at] = True
    return [fresh[at] for at in np.flatnonzero(taken)]


def _refuse(total: Enrollment, source: str, error: SiameseIndexError, strict: bool) -> None:
    if strict:
        raise error
    total.refused.append(Refusal(source, error))


def _conflict(source: str, name: str, who: str, other: float, mine: float, tau: float) -> Conflict:
    own = f"; {name!r} itself is {mine:.3f} away" if np.isfinite(mine) else ""
    return Conflict(
        f"{source}: this looks like {who!r} ({other:.3f}, threshold {tau:.3f}), not {name!r}.",
        f"Another identity is within the threshold{own}.",
        f"Enroll it as {who!r}, or insist: --allow-conflict",
    )


def _taken(source: str, name: str, holder: str) -> BadInput:
    return BadInput(
        f"{source}: already enrolled as {holder!r}, not {name!r}.",
        "The same picture cannot be two identities.",
        f"Rename or remove {holder!r}, or leave this picture out.",
    )


def clean_name(name: str, what: str = "name") -> str:
    """Return the name as it is stored: NFC, without spaces around it. `what` it is, for errors.

    Raises BadInput for an empty name, one of more than NAME_LIMIT characters, or one with line
    breaks or other control characters.
    """
    if name.isascii() and name.isprintable() and 0 < len(name.strip()) == len(name) <= NAME_LIMIT:
        return name  # most are: a million names take their time
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not cleaned:
        raise BadInput(f"The {what} is empty.", remedy=f"Give the {what}, or leave it out.")
    if len(cleaned) > NAME_LIMIT:
        raise BadInput(f"The {what} has {len(cleaned):,} characters.", f"At most {NAME_LIMIT} are kept.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in cleaned):
        raise BadInput(f"The {what} {cleaned!r} contains line breaks or control characters.")
    return cleaned


def picture_name(picture: Picture, number: int) -> str:
    """Return what to call a picture in answers: its path, or its number."""
    return f"picture {number}" if isinstance(picture, bytes) else str(picture)
