"""Damage picture files of twelve kinds in every way that damage has, and decode them under a bound.

Each is decoded in a child process. It must be a picture or Unreadable, within BOUND bytes beyond what the process had
and within SECONDS; a child that dies names the mutant that killed it.

    python -m tests.mutants --count 3000    of all formats together
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BOUND = 512_000_000  # bytes
SECONDS = 10.0
_LIFE = 500  # mutants a child decodes


def originals() -> dict[str, bytes]:
    """Return a small picture in each of the formats."""
    import cv2

    rng = np.random.default_rng(0)
    colour = cv2.GaussianBlur(rng.integers(0, 256, (80, 96, 3), np.uint8), (0, 0), 4)
    deep = colour.astype(np.uint16) * 257
    see_through = np.dstack([colour, colour[..., 0]])

    def made(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
        return bytes(cv2.imencode(suffix, pixels, list(options))[1].tobytes())

    return {
        "png": made(".png", see_through),
        "png of 16 bits": made(".png", deep),
        "jpeg": made(".jpg", colour),
        "progressive jpeg": made(".jpg", colour, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "webp": made(".webp", see_through),
        "tiff": made(".tif", colour),
        "tiff of 16 bits": made(".tif", deep),
        "bmp": made(".bmp", colour),
        "gif": made(".gif", colour),
        "avif": made(".avif", colour),
        "jpeg 2000": made(".jp2", colour),
        "ppm": made(".ppm", colour),
    }


def mutants(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield (what it is, its bytes): bytes changed, numbers made huge, parts cut, doubled, moved, or of another file."""
    files = originals()
    names = list(files)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        name = names[number % len(names)]
        data = bytearray(files[name])
        way = ("bytes", "header", "huge", "cut", "doubled", "moved", "spliced")[int(rng.integers(7))]
        at = int(rng.integers(2, len(data) - 8))
        length = int(rng.integers(1, max(2, len(data) // 4)))
        if way == "bytes":
            for place in rng.integers(2, len(data), int(rng.integers(1, 9))):
                data[place] = int(rng.integers(256))
        elif way == "header":
            for place in rng.integers(2, min(len(data), 80), int(rng.integers(1, 5))):
                data[place] = int(rng.integers(256))
        elif way == "huge":
            at = int(rng.integers(2, min(len(data) - 8, 200)))
            width = int(rng.choice([2, 4]))
            value = int(rng.choice([0x1F40, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFF0])) % (1 << (8 * width))
            data[at : at + width] = value.to_bytes(width, "big" if rng.integers(2) else "little")
        elif way == "cut":
            del data[at : at + length]
        elif way == "doubled":
            data[at:at] = data[at : at + length] * int(rng.integers(1, 60))
        elif way == "moved":
            part = data[at : at + length]
            del data[at : at + length]
            place = int(rng.integers(2, max(3, len(data))))
            data[place:place] = part
        else:
            other = files[names[int(rng.integers(len(names)))]]
            data[at:] = other[min(at, len(other) - 1) :]
        yield f"{name} {number}: {way}", bytes(data)


def decode_all(folder: Path, first: int) -> None:
    """Decode the mutants in a folder from a number on; print what each took. Run in the child."""
    from siamese_index.errors import Unreadable
    from siamese_index.samples import images

    images.decode(next(iter(originals().values())), 3)
    for path in sorted(folder.iterdir())[first : first + _LIFE]:
        data = path.read_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is measured anew
        before, began = _status("VmRSS"), time.perf_counter()
        print(json.dumps({"began": path.name}), flush=True)
        said = "picture"
        try:
            images.decode(data, 3)
        except Unreadable:
            said = "unreadable"
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            said = f"{type(error).__name__}: {error}"
        took = time.perf_counter() - began
        print(json.dumps({"said": said, "seconds": took, "bytes": _status("VmHWM") - before}), flush=True)


def _status(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def run(count: int, seed: int = 0) -> dict[str, object]:
    """Decode so many mutants; return the counts, the slowest, the largest, and what broke a bound."""
    wrong: list[str] = []
    counts = {"picture": 0, "unreadable": 0}
    slowest, largest = (0.0, ""), (0, "")
    with tempfile.TemporaryDirectory() as temporary:
        names = []
        for number, (name, data) in enumerate(mutants(count, seed)):
            (Path(temporary) / f"{number:06}").write_bytes(data)
            names.append(name)
        done = 0
        while done < count:
            child = subprocess.run(
                [sys.executable, "-m", "tests.mutants", "--child", temporary, "--first", str(done)],
                capture_output=True, text=True, check=False, timeout=3600,
            )  # fmt: skip
            lines = [json.loads(line) for line in child.stdout.splitlines()]
            results = [line for line in lines if "said" in line]
            for name, found in zip(names[done:], results, strict=False):
                slowest = max(slowest, (found["seconds"], name))
                largest = max(largest, (found["bytes"], name))
                if found["said"] in counts:
                    counts[found["said"]] += 1
                else:
                    wrong.append(f"{name}: {found['said']}")
                if found["seconds"] > SECONDS or found["bytes"] > BOUND:
                    wrong.append(f"{name}: {found['seconds']:.1f} s, {found['bytes'] / 1e6:.0f} MB")
            done += len(results)
            if child.returncode:
                wrong.append(f"{names[done]}: the process died ({child.returncode}): {child.stderr[-200:]}")
                done += 1
    return {
        "mutants": count, **counts, "wrong": wrong,
        "slowest": f"{slowest[1]}, {slowest[0]:.2f} s", "largest": f"{largest[1]}, {largest[0] / 1e6:.0f} MB",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what decoders print
        decode_all(given.child, given.first)
        return
    found = run(given.count, given.seed)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()
