"""Clients of CompreFace that exist, unmodified, each in an environment of its own, against a live service."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siamese_index import Gallery
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from tests.server.live import serving

HERE = Path(__file__).parent / "clients"


@pytest.fixture
def clients(tower_path, tmp_path):
    """A service whose gallery knows others, and three pictures: of somebody, of the same, of nobody."""
    with Gallery.create(tmp_path / "glyphs.gallery", tower_path, fpir=0.05) as gallery:
        gallery.enroll_many([(f"g{n}", images.encode(glyph(300 + n, hand))) for n in range(8) for hand in range(2)])
        gallery.calibrate(strangers_given=[(f"s{n}", images.encode(glyph(400 + n, 0))) for n in range(60)])
        gallery.enroll("ada", [images.encode(glyph(500, 0))], conflicts="allow")
        others = (glyph(n, 0) for n in range(520, 600))
        other = next(each for each in others if gallery.identify(images.encode(each)).distance > 0.9)  # of nobody
        gallery.remove("ada")
    pictures, same = [], glyph(500, 0).copy()
    same[0, :3] = 200  # other bytes
    for name, picture in (("one", glyph(500, 0)), ("same", same), ("other", other)):
        pictures.append(tmp_path / f"{name}.png")
        pictures[-1].write_bytes(images.encode(picture))
    with serving(tmp_path / "glyphs.gallery", "--compat", "compreface") as client:
        yield [str(client.base_url.port), *map(str, pictures)]


@pytest.mark.parametrize(
    ("script", "packages"),
    [
        ("sdk.py", ["compreface-sdk==0.6.0", "urllib3<2", "setuptools"]),
        ("sdk_python.py", ["compreface-sdk-python==1.0.6"]),
    ],
)
def test_clients_in_python(clients, tmp_path, script, packages):
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    subprocess.run(pip, check=True)
    done = subprocess.run([home / "bin" / "python", HERE / script, *clients], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_client_in_javascript(clients, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    made = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "@exadel/compreface-js-sdk@1.0.0"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"the package cannot be had here: {made.stderr[-200:]}")
    shutil.copy(HERE / "sdk.mjs", tmp_path)
    done = subprocess.run(["node", "sdk.mjs", *clients], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
