"""The service under load: how long a client waits while others ask, with the service on one core and the load on another.

    SIAMESE_INDEX_DATA=… SIAMESE_INDEX_MODELS=… python -m benchmarks.service [load] [slow]

`load`: for each tower its bare rate (one picture after the other, nothing but the network, on the service's core); one
request alone; then requests that come at random (exponential gaps) at a share of that rate, 20 s each, and at the
largest share evenly, too. `slow`: the same while 200 connections are half open and 50 bodies come in at 10 bytes a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from siamese_index import Gallery, Tower
from siamese_index.samples import images
from siamese_index.towers.foreign import import_network
from siamese_index.towers.tower_file import TowerFile

SERVICE, LOAD = 0, 1  # cores
SHARES = (0.3, 0.5, 0.7, 0.8)
SECONDS = 20.0
PEOPLE = 40
BYTES = 10_000  # of a picture


def portrait(faces: Path, person: int, number: int) -> bytes:
    """Return a portrait of ORL as a JPEG of about 10 kB."""
    grey = images.decode((faces / f"s{person}" / f"{number}.pgm").read_bytes(), 3)
    large = cv2.resize(grey, (230, 280), interpolation=cv2.INTER_CUBIC)
    coded = (cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, q])[1].tobytes() for q in range(98, 60, -2))
    return min(coded, key=lambda data: abs(len(data) - BYTES))


def towers(models: Path, folder: Path) -> dict[str, TowerFile]:
    """Return towers by name, the fastest first: dlib's ResNet-34, and two of onnx' own tests with random weights."""
    import onnx

    from tests.towers.networks_of_others import with_random_weights

    found = {"ResNet-34 of dlib, 150 x 150": import_network(models / "face_embedder_rgb.onnx").file}
    for name, title in (("inception_v2", "Inception v2, 224 x 224"), ("resnet50", "ResNet-50, 224 x 224")):
        network = with_random_weights(name)
        onnx.save(network, str(folder / f"{name}.onnx"))
        last = network.graph.node[-1]
        output = last.input[0] if last.op_type == "Softmax" else network.graph.output[0].name
        found[title] = import_network(folder / f"{name}.onnx", output=output).file
    return found


def bare_rate(file: TowerFile, picture: bytes, repeats: int = 60) -> float:
    """Return how many pictures a second the network embeds, one after the other, on this process's core."""
    tower = Tower.of(file)
    taken = [tower.prepare(picture)]
    for _ in range(5):
        tower.embed(taken)
    began = time.perf_counter()
    for _ in range(repeats):
        tower.embed(taken)
    return repeats / (time.perf_counter() - began)


class Service:
    """`sidx serve` on a core of its own."""

    def __init__(self, gallery: Path) -> None:
        program = [sys.executable, "-c", "from siamese_index.cli import run; run()"]
        self._run = subprocess.Popen(
            ["taskset", "-c", str(SERVICE), *program, "serve", "--port", "0", "-g", str(gallery)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._run.stderr is not None
        found = re.search(r"http://127.0.0.1:(\d+)", self._run.stderr.readline())
        assert found is not None
        self.port = int(found[1])

    def close(self) -> None:
        self._run.terminate()
        self._run.wait(30)


class Client:
    """Connections that are kept open; each request is written at once, so that the load costs little itself."""

    def __init__(self, port: int) -> None:
        self._port, self._idle = port, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()

    async def ask(self, picture: bytes) -> tuple[float, int, str]:
        """Return seconds, status and verdict of one identification."""
        began = time.perf_counter()
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            "POST /api/v1/identifications HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            f"Content-Length: {len(picture)}\r\n\r\n"
        )
        writer.write(head.encode() + picture)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
        body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
        self._idle.append((reader, writer))
        verdict = body["answers"][0]["verdict"] if "answers" in body else body["title"]
        return time.perf_counter() - began, int(answer.split()[1]), verdict


async def alone(client: Client, pictures: list[bytes]) -> float:
    """Return the median seconds of one request after the other."""
    for picture in pictures[:10]:
        await client.ask(picture)
    return float(np.median([(await client.ask(picture))[0] for picture in pictures]))


async def under(client: Client, pictures: list[bytes], rate: float, even: bool = False) -> list[tuple[float, int, str]]:
    """Ask at random times, or evenly, `rate` times a second on average; return what came of each."""
    rng, asked = np.random.default_rng(0), []
    due = time.perf_counter()
    for number in range(int(rate * SECONDS)):
        due += 1 / rate if even else float(rng.exponential(1 / rate))
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(client.ask(pictures[number % len(pictures)])))
    return list(await asyncio.gather(*asked))


async def half_open(port: int, stop: asyncio.Event) -> None:
    """Hold 200 connections with half a request, and 50 whose bodies come in slowly."""
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(250)]
    for writer in writers[:200]:
        writer.write(b"POST /api/v1/identifications HTTP/1.1\r\nHost: loc")
    for writer in writers[200:]:
        writer.write(
            b"POST /api/v1/identifications HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 10000\r\n\r\n"
        )
    while not stop.is_set():
        for writer in writers[200:]:
            writer.write(b"x")
        await asyncio.sleep(0.1)
    for writer in writers:
        writer.close()


def told(what: dict[str, Any], found: list[tuple[float, int, str]], one: float) -> None:
    """Print a row: percentiles in milliseconds, and how many times one request alone the 95th is."""
    seconds = [each[0] for each in found if each[1] == 200]
    p50, p95, p99 = (float(np.percentile(seconds, q)) for q in (50, 95, 99))
    row = {"requests": len(found), "refused": len(found) - len(seconds), "p50_ms": round(p50 * 1000, 1)}
    row |= {"p95_ms": round(p95 * 1000, 1), "p99_ms": round(p99 * 1000, 1), "p95_of_alone": round(p95 / one, 1)}
    print(json.dumps({**what, **row}), flush=True)


async def measured(name: str, gallery: Path, pictures: list[bytes], rate: float, parts: list[str]) -> None:
    """Load one service, and print its rows."""
    service = Service(gallery)
    try:
        client = Client(service.port)
        one = await alone(client, pictures)
        print(
            json.dumps({"tower": name, "bare_ms": round(1000 / rate, 1), "alone_ms": round(one * 1000, 1)}), flush=True
        )
        for share in SHARES if "load" in parts else ():
            told({"tower": name, "share": share}, await under(client, pictures, share * rate), one)
        if "load" in parts:
            found = await under(client, pictures, SHARES[-1] * rate, even=True)
            told({"tower": name, "share": SHARES[-1], "even": True}, found, one)
        if "slow" in parts:
            stop = asyncio.Event()
            others = asyncio.create_task(half_open(service.port, stop))
            await asyncio.sleep(1)
            told({"tower": name, "share": 0.3, "beside": "slow"}, await under(client, pictures, 0.3 * rate), one)
            stop.set()
            await others
    finally:
        service.close()


def main(parts: list[str]) -> None:
    parts = parts or ["load", "slow"]
    models, data = (Path(os.environ[f"SIAMESE_INDEX_{what}"]) for what in ("MODELS", "DATA"))
    with tempfile.TemporaryDirectory() as home:
        with zipfile.ZipFile(data / "orl_faces.zip") as archive:
            archive.extractall(Path(home) / "faces")
        faces = next((Path(home) / "faces").rglob("s1")).parent
        pictures = [portrait(faces, person, number) for person in range(1, PEOPLE + 1) for number in (2, 3, 4)]
        print(json.dumps({"bytes_of_a_picture": round(float(np.mean([len(each) for each in pictures])))}), flush=True)
        for number, (name, file) in enumerate(towers(models, Path(home)).items()):
            place = Path(home) / f"{number}.gallery"
            os.sched_setaffinity(0, {SERVICE, LOAD})
            with Gallery.create(place, file) as gallery:
                gallery.enroll_many(((f"s{p}", portrait(faces, p, 1)) for p in range(1, 31)), conflicts="allow")
                gallery.calibrate(strangers_given=[(f"s{p}", portrait(faces, p, 1)) for p in range(31, PEOPLE + 1)])
            command = [sys.executable, "-m", "benchmarks.service", "--bare", str(place), str(faces)]
            done = subprocess.run(["taskset", "-c", str(SERVICE), *command], capture_output=True, text=True, check=True)
            os.sched_setaffinity(0, {LOAD})
            asyncio.run(measured(name, place, pictures, float(done.stdout.split()[-1]), parts))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        with Gallery.open(sys.argv[2]) as opened:
            print(bare_rate(opened.tower_file(), portrait(Path(sys.argv[3]), 1, 2)))
    else:
        main(sys.argv[1:])
