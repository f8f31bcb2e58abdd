"""Clients of CompreFace that exist, unmodified, each in an environment of its own, against a live service."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.live import environment, known_and_unknown, serving

HERE = Path(__file__).parent / "clients"


@pytest.fixture
def clients(tower_path, tmp_path):
    """The port of a service, and three pictures: of somebody, of the same, of nobody."""
    place, pictures = known_and_unknown(tower_path, tmp_path)
    with serving(place, "--compat", "compreface") as client:
        yield [str(client.base_url.port), *pictures]


@pytest.mark.parametrize(
    ("script", "packages"),
    [
        ("sdk.py", ["compreface-sdk==0.6.0", "urllib3<2", "setuptools"]),
        ("sdk_python.py", ["compreface-sdk-python==1.0.6"]),
    ],
)
def test_clients_in_python(clients, tmp_path, script, packages):
    programs = environment(tmp_path / "environment", *packages)
    done = subprocess.run([programs / "python", HERE / script, *clients], capture_output=True, text=True)
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
