"""What is deployed starts: the systemd unit, and the command of the compose file."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from siamese_index import Gallery

ROOT = Path(__file__).parents[2]
SIDX = Path(sys.executable).with_name("sidx")
UNIT = (ROOT / "deploy" / "sidx.service").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    (tmp_path / "sidx.service").write_text(UNIT.replace("/opt/sidx/bin/sidx", str(SIDX)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "sidx.service"], capture_output=True, text=True
    )
    assert "sidx.service" not in done.stderr, done.stderr


@pytest.mark.parametrize("where", ["unit", "compose"])
def test_the_service_starts_as_it_is_deployed(where, tower_path, tmp_path, sidx):
    if where == "unit":
        command = shlex.split(re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)[1])[1:]
        home = re.search(r"^WorkingDirectory=(.*)$", UNIT, re.MULTILINE)[1]
        gallery = re.search(r"^Environment=SIDX_GALLERY=(.*)$", UNIT, re.MULTILINE)[1]
    else:
        command, home = COMPOSE["services"]["sidx"]["command"], "/data"
        gallery = re.search(r"SIDX_GALLERY=(\S+)", (ROOT / "Containerfile").read_text())[1]
    Gallery.create(gallery.replace(home, str(tmp_path)), tower_path).close()
    key = sidx("keys", "add", "me", "--role", "admin", "--file", "keys.json").stdout.split()[-1]
    command = [
        part.replace(home, str(tmp_path)).replace("8077", "0").replace("0.0.0.0", "127.0.0.1") for part in command
    ]
    environment = {"SIDX_GALLERY": gallery.replace(home, str(tmp_path)), "SIDX_MQTT": "", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen([SIDX, *command], env=environment, stderr=subprocess.PIPE, text=True) as run:
        try:
            url = re.search(r"http://\S+:\d+", run.stderr.readline())[0]
            assert httpx.get(f"{url}/readyz").status_code == 200
            assert httpx.get(f"{url}/api/v1/gallery").status_code == 401
            assert httpx.get(f"{url}/api/v1/gallery", headers={"x-api-key": key}).json()["role"] == "admin"
        finally:
            run.terminate()
            assert run.wait(30) == 0 or run.returncode == -15


def test_what_the_pages_show_is_yaml():
    for page in ("home-assistant", "frigate"):
        blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "howto" / f"{page}.md").read_text(), re.M | re.S)
        assert blocks and all(isinstance(yaml.safe_load(block), dict) for block in blocks)
