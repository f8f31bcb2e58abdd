"""A service killed while clients enroll: every picture whose request was answered with 2xx is there afterwards.

python -m tests.server.kills --kills 1000
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from siamese_index import Gallery
from siamese_index.analysis.doctor import examine
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from tests.server.live import serving

CLIENTS = 4


def killed_once(gallery: Path, seed: int) -> tuple[set[tuple[str, str]], list[str]]:
    """Enroll by several clients until the service is killed; return what was acknowledged, and what is wrong."""
    rng, acknowledged, stop = random.Random(seed), set(), threading.Event()

    def enroll(url: str, client: int) -> None:
        with httpx.Client(base_url=url, timeout=20) as ask:
            for number in range(10_000):
                name = f"{seed} {client} {number}"
                picture = images.encode(glyph(seed * 97 + client * 31 + number, number))
                try:
                    answer = ask.post(f"/api/v1/samples?identity={name}&conflict=true", files={"file": picture})
                except httpx.HTTPError:
                    return
                if answer.is_success and not stop.is_set():
                    acknowledged.add((name, answer.json()["enrolled"][0]["source"]))

    with serving(gallery, ended=True) as client:
        threads = [threading.Thread(target=enroll, args=(str(client.base_url), n)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.05, 0.6))
        os.kill(client.run.pid, signal.SIGKILL)
        client.run.wait()
        for thread in threads:
            thread.join()
    with Gallery.open(gallery) as opened:
        there = {row.identity for row in opened.samples()}
    lost = [f"{seed}: {name} was acknowledged and is not there" for name, _ in acknowledged if name not in there]
    return acknowledged, lost + [f"{seed}: {found.what}" for found in examine(gallery).findings]


def main() -> None:
    from siamese_index.training import train
    from siamese_index.training.glyphs import draw

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    options = parser.parse_args()
    began, count, wrong = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory(prefix="kills-") as home:
        draw(Path(home) / "learn", range(10), range(6))
        train(Path(home) / "learn", steps=5, size=32, dimension=16, out=Path(home) / "t.tower")
        for seed in range(options.kills):
            gallery = Path(home) / f"{seed // 50}.gallery"
            if not gallery.exists():
                Gallery.create(gallery, Path(home) / "t.tower").close()
            acknowledged, found = killed_once(gallery, seed)
            count += len(acknowledged)
            wrong += found
    print(f"killed {options.kills} times in {time.monotonic() - began:.0f} s; {count} acknowledged; {len(wrong)} wrong")
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
