"""Train a tower: read, split by identity, fit, measure on identities never seen, export.

The story in order; `fit` is it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Cohort, SiameseIndexError, TowerFile, Unreadable, images
from siamese_index import __version__ as version
from siamese_index.evaluation import tower_figures
from siamese_index.sources import Item

from .augment import DRAWINGS, PHOTOS, jittered

if TYPE_CHECKING:
    import keras

Kind = Literal["auto", "drawings", "photos"]
Report = Callable[[dict[str, Any]], None]
MINIMUM_IDENTITIES = 4
FEW_PICTURES = 100  # per identity; with more, turned drawings as further identities teach nothing


@dataclass(frozen=True)
class Settings:
    """How to train. None and "auto" are chosen from the data, and what was chosen is reported."""

    kind: Kind = "auto"  # drawings: strokes on a plain ground; photos: everything else
    size: int | None = None  # the longer side in pixels
    dimension: int = 128
    holdout: float = 0.2  # share of identities kept out of training, to measure and to be strangers
    steps: int | None = None
    batch: int = 64
    seed: int = 0
    fpir: float = 0.01


@dataclass(frozen=True)
class Data:
    """Decoded pictures, uint8 (n, height, width, channels), and whose they are."""

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    digests: tuple[str, ...]  # SHA-256 of each picture file, hexadecimal
    left_out: tuple[str, ...]  # what could not be read


def fit(items: Sequence[Item], settings: Settings, report: Report, start: bytes | None = None) -> TowerFile:
    """Train a tower on (identity, picture) items and return it, with the held-out identities as its strangers.

    `report` is called with {"stage": …} and {"step": …, "of": …, "loss": …, "rank1": …}. `start` is a
    Keras model to continue from. Raises BadInput when the data cannot train a tower.
    """
    began = time.monotonic()
    kind, height, width, channels = _look(items, settings)
    data = _decode(items, height, width, channels, report)
    held_out = _split(data.names, settings)
    unseen = np.array([name in held_out for name in data.names])
    report(
        {
            "stage": "data", "kind": kind, "height": height, "width": width, "channels": channels,
            "identities": len(set(data.names)) - len(held_out), "samples": int(np.sum(~unseen)),
            "held_out_identities": len(held_out), "held_out_samples": int(np.sum(unseen)),
            "left_out": list(data.left_out),
        }
    )  # fmt: skip

    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from . import losses, network

    keras.utils.set_random_seed(settings.seed)
    few = len(data.names) < FEW_PICTURES * len(set(data.names))
    turns = 4 if kind == "drawings" and height == width and few else 1  # a turned character is another character
    tower = _continued(start, (height, width, channels), settings.dimension)
    if tower is None:
        tower = network.build(height, width, channels, settings.dimension, stages=(32, 64, 128))
    classes = sorted(set(data.names) - held_out)
    if len(classes) < 2:
        raise BadInput("One identity alone cannot train a tower.", remedy="Hold out fewer: --holdout 0.2")
    steps = settings.steps or _steps(int(np.sum(~unseen)) * turns, settings.batch)
    trainable = keras.Model(tower.input, losses.cosine_head(len(classes) * turns)(tower.output))
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=2e-3, warmup_steps=max(1, steps // 20))
    trainable.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.02, clipnorm=1.0),
        loss=losses.cosine_margin(scale=16.0, margin=0.25),
    )
    label = {name: i for i, name in enumerate(classes)}
    seen = np.flatnonzero(~unseen)
    feed = _feed(keras, data.pixels[seen], np.array([label[data.names[i]] for i in seen]), turns, kind, settings, steps)
    watched = np.flatnonzero(unseen)
    history = _run(keras, trainable, tower, feed, steps, data, watched, report)

    from .export import export

    report({"stage": "export"})
    vectors = np.asarray(tower.predict(data.pixels[watched].astype(np.float32), verbose=0)) if len(watched) else None
    names = [data.names[i] for i in watched]
    cohort = Cohort(tuple(names), tuple(data.digests[i] for i in watched), vectors) if vectors is not None else Cohort()
    figures = (
        tower_figures(cohort.vectors, names, held_out, settings.fpir) if names else {"searches": 0, "identities": 0}
    )
    card = {
        "format": 1,
        "input": {"height": height, "width": width, "channels": channels},
        "dimension": settings.dimension,
        "kind": kind,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "training": {
            "identities": classes,
            "samples": len(seen),
            "data_sha256": hashlib.sha256("".join(sorted(data.digests)).encode()).hexdigest(),
            "settings": asdict(settings),
            "loss": "cosine margin (scale 16, margin 0.25)",
            "steps": steps,
            "continued": start is not None,
            "parameters": tower.count_params(),
            "seconds": round(time.monotonic() - began, 1),
            "history": history,
        },
        "held_out": figures,
        "versions": {"siamese-index": version, "keras": keras.__version__},
    }
    return export(tower, card, cohort, data.pixels[:: max(1, len(data.pixels) // 64)][:64])


def _look(items: Sequence[Item], settings: Settings) -> tuple[str, int, int, int]:
    """Choose (kind, height, width, channels) from a sample of the pictures."""
    names = {name for name, _ in items}
    if len(names) < MINIMUM_IDENTITIES:
        raise BadInput(f"{len(names)} identities cannot train a tower.", f"At least {MINIMUM_IDENTITIES} are needed.")
    looked = []
    for _, picture in items[:: max(1, len(items) // 200)]:
        try:
            looked.append(images.decode(images.read(picture), 3))
        except SiameseIndexError:
            continue  # counted and listed when all are decoded
    if not looked:
        raise Unreadable("None of the pictures can be read.", remedy="Look at one: are they pictures?")
    coloured = np.mean([np.ptp(p.astype(np.int16), axis=2).max() > 24 for p in looked]) > 0.05
    # Strokes on a plain ground: nearly every pixel is as dark or as light as it gets.
    extreme = [np.mean((p < p.min() + 40) | (p > p.max() - 40)) for p in looked]
    kind = settings.kind
    if kind == "auto":
        kind = "drawings" if not coloured and np.median(extreme) > 0.8 else "photos"
    ratio = float(np.median([p.shape[0] / p.shape[1] for p in looked]))
    largest = int(np.median([max(p.shape[:2]) for p in looked]))
    side = settings.size or min(40 if kind == "drawings" else 64, max(24, largest))
    height, width = (side, round(side / ratio)) if ratio >= 1 else (round(side * ratio), side)
    if 0.8 < ratio < 1.25 and kind == "drawings":
        height = width = side
    return kind, max(8, height), max(8, width), 3 if coloured else 1


def _decode(items: Sequence[Item], height: int, width: int, channels: int, report: Report) -> Data:
    pixels = np.empty((len(items), height, width, channels), np.uint8)
    names: list[str] = []
    digests: list[str] = []
    left_out: list[str] = []
    whose: dict[str, str] = {}
    for number, (name, picture) in enumerate(items):
        try:
            data = images.read(picture)
            pixels[len(names)] = images.load(data, height, width, channels)
        except SiameseIndexError as error:
            left_out.append(str(images.named(str(picture), error)) if not isinstance(picture, bytes) else str(error))
            continue
        digest = hashlib.sha256(data).hexdigest()
        if whose.get(digest) == name:
            continue  # once is enough
        if whose.setdefault(digest, name) != name:
            raise BadInput(
                f"The same picture is {whose[digest]!r} and {name!r}.", "A tower cannot learn to tell them apart.",
                "Keep it in one of the two.",
            )  # fmt: skip
        names.append(name)
        digests.append(digest)
        if number % 500 == 499:
            report({"stage": "decode", "done": number + 1, "of": len(items)})
    if len(set(names)) < MINIMUM_IDENTITIES:
        raise Unreadable(f"{len(left_out)} of {len(items)} pictures cannot be read.", left_out[0] if left_out else "")
    return Data(pixels[: len(names)], tuple(names), tuple(digests), tuple(left_out))


def _split(names: Sequence[str], settings: Settings) -> set[str]:
    """Choose the held-out identities by a hash of their names: the same ones each time the data grow."""
    counts = Counter(names)
    wanted = max(2, round(settings.holdout * len(counts))) if settings.holdout > 0 else 0

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{settings.seed}/{name}".encode()).digest()

    return set(sorted((name for name, count in counts.items() if count > 1), key=rank)[:wanted])


def _steps(pictures: int, batch: int) -> int:
    """Sixty times through the pictures, within what a coffee break allows."""
    return int(np.clip(60 * pictures / batch, 300, 2500))


def _continued(start: bytes | None, shape: tuple[int, int, int], dimension: int) -> keras.Model | None:
    """Return the model to continue from, or None when it takes other pictures or gives other vectors."""
    if start is None:
        return None
    import tempfile
    from pathlib import Path

    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.keras"
        path.write_bytes(start)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    fits = tuple(model.input_shape[1:]) == shape and model.output_shape[-1] == dimension
    return model if fits else None


def _feed(
    keras: Any,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    turns: int,
    kind: str,
    settings: Settings,
    steps: int,
) -> Any:
    """Return a Keras data set of `steps` batches: as many pictures of rare identities as of frequent ones."""
    jitter = DRAWINGS if kind == "drawings" else PHOTOS
    members = [np.flatnonzero(labels == c) for c in range(int(labels.max()) + 1)]

    class Feed(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return steps

        def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            rng = np.random.default_rng((settings.seed, step))
            chosen = rng.integers(0, len(members) * turns, settings.batch)
            batch = np.empty((settings.batch, *pixels.shape[1:]), np.float32)
            for i, c in enumerate(chosen):
                picture = pixels[rng.choice(members[c // turns])]
                batch[i] = jittered(np.ascontiguousarray(np.rot90(picture, c % turns)), jitter, rng)
            return batch, chosen

    return Feed(workers=1, use_multiprocessing=False, max_queue_size=8)


def _run(
    keras: Any,
    trainable: keras.Model,
    tower: keras.Model,
    feed: Any,
    steps: int,
    data: Data,
    watched: NDArray[np.int64],
    report: Report,
) -> list[dict[str, float]]:
    """Fit, and every tenth of the way report the loss and the rank-1 of the held-out identities."""
    history: list[dict[str, float]] = []
    every = max(1, steps // 10)
    probes = watched[:: max(1, len(watched) // 400)]
    names = [data.names[i] for i in probes]
    began = time.monotonic()

    class Progress(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.told = 0.0

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            step, loss = batch + 1, float((logs or {}).get("loss", np.nan))
            if not np.isfinite(loss):
                raise BadInput("The training diverged: the loss is not a number.", remedy="Look at the pictures.")
            now = time.monotonic()
            point = {"step": step, "of": steps, "loss": round(loss, 4), "seconds": round(now - began, 1)}
            if step % every == 0 or step == steps:
                if names:
                    vectors = np.asarray(tower.predict(data.pixels[probes].astype(np.float32), verbose=0))
                    point["rank1"] = round(tower_figures(vectors, names, set(names), 0.01).get("rank1", 0.0), 4)
                history.append(point)
                report(point)
            elif now - self.told > 0.5:
                self.told = now
                report(point)

    report({"stage": "fit", "steps": steps, "parameters": tower.count_params()})
    trainable.fit(feed, epochs=1, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[Progress()])
    return history
