"""A tower in 8-bit numbers: smaller, faster where the processor has the instructions, taken only if it is as good."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Cohort, Gallery, Tower, TowerFile
from siamese_index.analysis.comparison import compare
from siamese_index.samples import images
from siamese_index.towers.tower import BATCH

from .data import enrolled, source
from .export import canonical
from .process import require
from .progress import OnProgress

ENOUGH = 10  # identities with two samples, which the tower was not trained on
CALIBRATED = 128  # samples that show how large the numbers inside get


@dataclass(frozen=True)
class Optimization:
    """A candidate of 8-bit numbers beside the active tower, on the same searches; stored only if it is as good."""

    tower: str  # id
    comparison: dict[str, Any]  # as `siamese_index.analysis.comparison.compare` returns it, with `speed` and `size`
    accepted: bool
    why: str


def optimize(
    gallery: str | Path, data: str | Path | None = None, on_progress: OnProgress | None = None
) -> Optimization:
    """Make an 8-bit candidate of the active tower, and store it if it is faster and as good.

    As good: its rank-1 and its FNIR at the target FPIR lie within the 95 % intervals of the active tower's,
    on identities that this was not trained on: the gallery's and those of `data`. Strangers of the candidate are the
    identities of `data` that are not enrolled. Raises BadInput, with the numbers that are missing, when there are
    too few, or NotInstalled.
    """
    require("onnx")
    with Gallery.open(gallery) as opened:
        began, champion, file = opened.revision, opened.tower, opened.tower_file()
        if champion.takes_numbers:
            raise BadInput("A tower of vectors is fast as it is.", "There is nothing to optimize.")
        target = opened.threshold().evidence.target_fpir or 0.01
        names, samples, digests = _samples(opened, champion, data)
        seen = set(champion.card.training.identities)
        counts = Counter(names)
        whose = dict(zip(digests, names, strict=True)) | {row.digest: row.identity for row in opened.samples()}
        learned = champion.card.training.has_learned_from(map(bytes.fromhex, whose))
        seen |= {whose[digest.hex()] for digest in learned}
        unseen = {name for name, count in counts.items() if count > 1 and name not in seen}
        if len(unseen) < ENOUGH:
            raise BadInput(
                f"{len(unseen)} identities with two or more pictures were not part of the tower's training.",
                f"{ENOUGH} are needed to show that it stays as good.",
                "Enroll more, or add some with --data.",
            )
        if on_progress:
            on_progress({"stage": "optimize"})
        taken = [champion.prepare(sample) for sample in samples]
        onnx = quantized(file.onnx, taken)
        card = replace(file.card, optimized={"from": file.id, "numbers": "int8"})
        challenger = TowerFile(onnx, file.keras, card, detector=file.detector)
        fast = Tower.of(challenger)
        vectors = [tower.embed(taken) for tower in (champion, fast)]
        judged = compare(vectors[0], vectors[1], names, unseen, target)
        judged["champion_has_seen"] = 0
        judged["speed"] = _ratio(fast, champion, taken)
        judged["size"] = len(challenger.onnx) / len(file.onnx)
        why = _shortcoming(judged)
        if not why:
            there = {row.name for row in opened.identities()}
            free = [i for i, name in enumerate(names) if name in unseen and name not in there]
            card = challenger.card.with_figures(judged["challenger"])
            cohort = Cohort(
                tuple(names[i] for i in free),
                tuple(digests[i] for i in free),
                vectors[1][free].reshape(-1, fast.dimension),
            )
            opened.add_tower(TowerFile(onnx, file.keras, card, cohort, file.detector), judged, began)
    return Optimization(challenger.id, judged, not why, why)


def quantized(onnx: bytes, samples: list[NDArray[Any]]) -> bytes:
    """Return the graph with weights of 8 bits per channel and activations of 8 bits (QDQ), calibrated on samples."""
    import onnx as library
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    chosen = samples[:: max(1, len(samples) // CALIBRATED)][:CALIBRATED]
    name = library.load_from_string(onnx).graph.input[0].name

    class Samples(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self._left: Iterator[NDArray[Any]] = iter(chosen)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            sample = next(self._left, None)
            return None if sample is None else {name: sample[None].astype(np.float32)}

    with tempfile.TemporaryDirectory() as folder:
        given, ready, made = (Path(folder) / f"{step}.onnx" for step in ("given", "ready", "made"))
        given.write_bytes(onnx)
        quant_pre_process(str(given), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(made),
            Samples(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _unit_again(canonical(made.read_bytes()))


def _unit_again(onnx: bytes) -> bytes:
    """Return the graph with its output brought to unit length once more: rounding has moved it."""
    import onnx as library
    from onnx import helper

    model = library.load_from_string(onnx)
    graph = model.graph
    output = graph.output[0].name
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = "rounded"
        for i, name in enumerate(node.input):
            if name == output:
                node.input[i] = "rounded"
    graph.node.append(helper.make_node("LpNormalization", ["rounded"], [output], name="template", axis=1, p=2))
    return bytes(model.SerializeToString(deterministic=True))


def _samples(opened: Gallery, champion: Tower, data: str | Path | None) -> tuple[list[str], list[bytes], list[str]]:
    """Return names, kept pictures and digests (hexadecimal) of what is enrolled, and of `data`."""
    import hashlib

    names, samples, digests = [], [], []
    for items in [enrolled(opened)[0], *([source(data).items] if data is not None else [])]:
        for name, picture in items:
            read = images.read(picture)
            names.append(name)
            digests.append(hashlib.sha256(read).hexdigest())
            samples.append(champion.kept(read) or read)
    return names, samples, digests


def _ratio(ours: Tower, theirs: Tower, samples: list[NDArray[Any]]) -> float:
    """Return the median ratio of the times for a batch, in turns."""
    batch = (samples * (BATCH // len(samples) + 1))[:BATCH]
    ratios = []
    for _ in range(9):
        times = []
        for tower in (ours, theirs):
            begin = time.perf_counter()
            tower.embed(batch)
            times.append(time.perf_counter() - begin)
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))


def _shortcoming(judged: dict[str, Any]) -> str:
    """Return why the candidate is not taken, or nothing."""
    champion, challenger = judged["champion"], judged["challenger"]
    if challenger["rank1"] < champion["rank1_interval"][0]:
        return f"rank-1 falls from {champion['rank1']:.3f} to {challenger['rank1']:.3f}, below its interval"
    if challenger["fnir"] > champion["fnir_interval"][1]:
        return f"FNIR rises from {champion['fnir']:.3f} to {challenger['fnir']:.3f}, above its interval"
    if judged["speed"] >= 0.95:
        return f"it takes {judged['speed']:.2f} times as long on this processor"
    return ""
