"""What framing is worth: faces of ORL at several sizes and places on drawn photographs, by one embedder.

    SIAMESE_INDEX_DATA=… SIAMESE_INDEX_MODELS=… python -m benchmarks.frames [framing] [visits] [network]

20 people are enrolled from one frame of 640 x 480 each, 80 further frames of them are searched, and 100 of 20 others, who
set the threshold at which a share of strangers is let in. The same gallery, tables and commands for each way of framing:
the whole frame; the box of the portrait, from the columns of a table; the face that the tower finds and puts upright.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from siamese_index import Gallery, Tower
from siamese_index.samples import images, sources
from siamese_index.thresholds.statistics import clustered_interval
from siamese_index.thresholds.visits import offset
from siamese_index.towers.foreign import import_network
from siamese_index.training.quantize import optimize

HEIGHTS = (80, 112, 160, 224, 300)  # of a portrait in its frame


def background(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a background: two areas of colour, with rectangles and ellipses on them."""
    picture = np.empty((480, 640, 3), np.uint8)
    picture[:] = rng.integers(60, 200, 3)
    picture[int(rng.integers(300, 420)) :] = rng.integers(40, 160, 3)
    for _ in range(int(rng.integers(4, 10))):
        x, y, w, h = (int(n) for n in (*rng.integers(-40, 600, 2), *rng.integers(20, 240, 2)))
        colour = [int(c) for c in rng.integers(20, 235, 3)]
        if rng.random() < 0.5:
            cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.ellipse(picture, (x, y), (w // 2 + 1, h // 2 + 1), float(rng.uniform(0, 180)), 0, 360, colour, -1)
    blurred = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.5, 3)))
    return np.clip(blurred + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def compose(faces: Path, folder: Path) -> dict[str, list[tuple[str, str, tuple[int, int, int, int]]]]:
    """Write the frames; return of each role (file, identity, box of the portrait)."""
    rng = np.random.default_rng(0)
    roles: dict[str, list[Any]] = {"enroll": [], "probes": [], "strangers": []}
    for person in range(1, 41):
        for number in range(1, 6):
            portrait = images.decode((faces / f"s{person}" / f"{number}.pgm").read_bytes(), 3)
            height = HEIGHTS[(person + number) % len(HEIGHTS)]
            width = round(height * portrait.shape[1] / portrait.shape[0])
            x, y = int(rng.integers(0, 640 - width)), int(rng.integers(0, 480 - height))
            frame = background(rng)
            frame[y : y + height, x : x + width] = images.fit(portrait, height, width)
            name = f"{person}-{number}.jpg"
            (folder / name).write_bytes(images.encode(frame, ".jpg"))
            role = "strangers" if person > 20 else "enroll" if number == 1 else "probes"
            roles[role].append((name, f"s{person}", (x, y, width, height)))
    return roles


def table(path: Path, rows: list[tuple[str, str, tuple[int, int, int, int]]], boxes: bool) -> Path:
    """Write a table for `--from`."""
    lines = ["path,label" + (",x,y,w,h" if boxes else "")]
    lines += [",".join([file, name, *(map(str, box) if boxes else ())]) for file, name, box in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def measured(gallery: Gallery, probes: Path, strangers: Path) -> dict[str, Any]:
    """Return rank-1 and FNIR at 1 and 5 % FPIR; a picture in which nobody is found is missed, or let in nobody."""

    def searched(data: Path) -> tuple[list[str], NDArray[np.float64], list[str], int]:
        items = sources.items(data)
        vectors, refused = gallery.embed([sample for _, sample in items])
        names, distances = gallery.distances(vectors)
        kept = [items[i][0] for i in range(len(items)) if i not in refused]
        return kept, np.asarray(distances, np.float64), names, len(items)

    whose, mated, names, count = searched(probes)
    _, others, _, strangers_count = searched(strangers)
    nearest = np.concatenate([np.sort(others.min(axis=1)), np.full(strangers_count - len(others), np.inf)])
    first = np.array([names[i] for i in mated.argmin(axis=1)]) == np.array(whose)
    result: dict[str, Any] = {"probes": count, "found": len(whose), "rank1": float(first.sum() / count)}
    for fpir in (0.01, 0.05):
        allowed = int(fpir * strangers_count)
        tau = nearest[allowed] - 1e-9
        right = first & (mated.min(axis=1) <= tau)
        missed = np.concatenate([~right, np.ones(count - len(right), bool)])
        people = [*whose, *(f"not found {i}" for i in range(count - len(right)))]
        result[f"fnir_at_{fpir:g}"] = float(missed.mean())
        result[f"fnir_at_{fpir:g}_interval"] = [round(v, 3) for v in clustered_interval(missed, people)]
    return result


def framing(data: Path, models: Path) -> None:
    """Print what each way of framing finds."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(data / "orl_faces.zip") as archive:
            archive.extractall(folder)
        roles = compose(folder / "orl_faces", folder)
        detector = (models / "yunet_n_dynamic.onnx").read_bytes()
        network = models / "face_embedder_rgb.onnx"
        for way in ("whole", "box", "face"):
            file = import_network(
                network, frame="face" if way == "face" else "whole", detector=detector if way == "face" else None
            ).file
            tables = {role: table(folder / f"{role}.csv", rows, way == "box") for role, rows in roles.items()}
            with Gallery.create(folder / f"{way}.gallery", file) as gallery:
                done = gallery.enroll_many(sources.items(tables["enroll"]), conflicts="allow")
                found = measured(gallery, tables["probes"], tables["strangers"])
            print(json.dumps({"frame": way, "enrolled": len(done.enrolled), **found}), flush=True)


def visits(data: Path, models: Path) -> None:  # noqa: ARG001
    """Print how many strangers get in per visit of so many pictures, by dlib's vectors of ORL, over 60 splits."""
    vectors, target = np.load(data / "orl_dlib128.npy"), 0.05
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    rates: dict[tuple[int, str], list[float]] = {}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        people = rng.permutation(40)
        enrolled, known, asking = vectors[people[:12], 0], vectors[people[12:26]], vectors[people[26:]]
        among = np.sqrt(np.maximum(2 - 2 * known.reshape(-1, 128) @ enrolled.T, 0))
        nearest = np.sort(among.min(axis=1))
        tau = float(nearest[int(target * len(nearest)) - 1])
        names = [f"s{i}" for i in range(len(known)) for _ in range(10)]
        for pictures in (1, 3, 5):
            farther = tau + offset(among, names, pictures, target)
            each = np.stack([person[rng.permutation(10)[:pictures]] for person in asking for _ in range(5)])
            found = np.sqrt(np.maximum(2 - 2 * each @ enrolled.T, 0))
            means = found.mean(axis=1).min(axis=1)
            for name, let_in in (
                ("any picture", found.min(axis=(1, 2)) <= tau),
                ("mean, threshold of one", means <= tau),
                ("mean, threshold of so many", means <= farther),
            ):
                rates.setdefault((pictures, name), []).append(float(np.mean(let_in)))
    for (pictures, name), found_rates in rates.items():
        print(json.dumps({"pictures": pictures, "by": name, "fpir": round(float(np.mean(found_rates)), 4)}), flush=True)


def network(data: Path, models: Path) -> None:
    """Print the time of an imported tower over that of the bare network by ONNX Runtime; and its 8-bit form."""
    import onnxruntime

    file = import_network(models / "face_embedder_rgb.onnx").file
    tower = Tower.of(file)
    bare = onnxruntime.InferenceSession(str(models / "face_embedder_rgb.onnx"), providers=["CPUExecutionProvider"])
    name = bare.get_inputs()[0].name
    pixels = np.random.default_rng(0).integers(0, 256, (64, 150, 150, 3), np.uint8)
    for batch, turns in ((1, 100), (64, 4)):
        taken = list(pixels[:batch])
        given = np.ascontiguousarray(pixels[:batch].astype(np.float32).transpose(0, 3, 1, 2))
        times: list[list[float]] = [[], []]
        for _ in range(6):
            for which, run in enumerate((lambda: tower.embed(taken), lambda: bare.run(None, {name: given}))):
                time.sleep(0.3)  # the bare network's threads go on waiting at full speed for a while
                for _ in range(turns):
                    begin = time.perf_counter()
                    run()
                    times[which].append(time.perf_counter() - begin)
        ours, theirs = (float(np.median(each)) for each in times)
        told = {"batch": batch, "tower_ms": round(1000 * ours, 2), "bare_ms": round(1000 * theirs, 2)}
        print(json.dumps({**told, "ratio": round(ours / theirs, 3)}), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(data / "orl_faces.zip") as archive:
            archive.extractall(folder)
        with Gallery.create(folder / "g.gallery", file) as gallery:
            items = [(f"s{p}", folder / "orl_faces" / f"s{p}" / f"{i}.pgm") for p in range(1, 41) for i in range(1, 11)]
            gallery.enroll_many(items, conflicts="allow")
        done = optimize(folder / "g.gallery")
        keys = ("rank1", "fnir", "searches")
        told = {side: {k: done.comparison[side][k] for k in keys} for side in ("champion", "challenger")}
        size = {key: round(done.comparison[key], 3) for key in ("speed", "size")}
        print(json.dumps({"optimize": done.accepted, "why": done.why, **size, **told}), flush=True)


PARTS = {"framing": framing, "visits": visits, "network": network}


def main() -> None:
    data, models = Path(os.environ["SIAMESE_INDEX_DATA"]), Path(os.environ["SIAMESE_INDEX_MODELS"])
    for part in sys.argv[1:] or PARTS:
        PARTS[part](data, models)


if __name__ == "__main__":
    main()
