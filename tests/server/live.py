"""A service in a process of its own, as a user starts it."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import httpx

from siamese_index import Gallery
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph


@contextlib.contextmanager
def serving(gallery, *options, ended=False, **environment):
    """Start `sidx serve` for a gallery on a free port; yield a client, and end it, unless that is done inside."""
    program = [sys.executable, "-c", "from siamese_index.cli import run; run()"]
    command = [*program, "serve", "--port", "0", "-g", str(gallery), *map(str, options)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as run:
        said = ""
        try:
            for line in run.stderr:
                said += line
                if found := re.search(r"http://\S+:\d+", line):
                    break
            assert found, said
            with httpx.Client(base_url=found[0], timeout=60) as client:
                client.run = run
                yield client
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)
            said = run.stderr.read()
            code = run.wait(30)
    assert "Traceback" not in said, said
    assert ended or code in (0, 130), said


def known_and_unknown(tower, folder):
    """Make a gallery in which others are enrolled; return it, and pictures of somebody, of the same, of nobody."""
    with Gallery.create(folder / "glyphs.gallery", tower, fpir=0.05) as gallery:
        gallery.enroll_many([(f"g{n}", images.encode(glyph(300 + n, hand))) for n in range(8) for hand in range(2)])
        gallery.calibrate(strangers_given=[(f"s{n}", images.encode(glyph(400 + n, 0))) for n in range(60)])
        gallery.enroll("ada", [images.encode(glyph(500, 0))], conflicts="allow")
        others = (glyph(n, 0) for n in range(520, 600))
        other = next(each for each in others if gallery.identify(images.encode(each)).distance > 0.9)
        gallery.remove("ada")
        gallery.log(True)
    pictures, same = [], glyph(500, 0).copy()
    same[0, :3] = 200  # other bytes
    for name, picture in (("one", glyph(500, 0)), ("same", same), ("other", other)):
        pictures.append(str(folder / f"{name}.png"))
        (folder / f"{name}.png").write_bytes(images.encode(picture))
    return folder / "glyphs.gallery", pictures


def environment(folder, *packages):
    """Make an environment with packages; return its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    subprocess.run(pip, check=True)
    return folder / "bin"
