"""The service keeps what /openapi.json promises: to a client that is generated from it, and to random requests."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.server.live import environment, known_and_unknown, serving

HERE = Path(__file__).parent
CASES = 2000


@pytest.fixture
def service(tower_path, tmp_path):
    place, pictures = known_and_unknown(tower_path, tmp_path)
    with serving(place) as client:
        client.pictures = pictures
        yield client


def test_a_generated_client(service, tmp_path):
    programs = environment(tmp_path / "environment", "openapi-python-client==0.29.1", "httpx", "python-dateutil")
    (tmp_path / "openapi.json").write_text(service.get("/openapi.json").text)
    described = json.loads((tmp_path / "openapi.json").read_text())
    assert described["openapi"].startswith("3.1")
    make = [programs / "openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "made"]
    made = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0 and "Unable" not in made.stdout, made.stdout
    address = str(service.base_url)
    use = [programs / "python", HERE / "clients" / "generated.py", address, *service.pictures]
    done = subprocess.run(use, env={"PYTHONPATH": str(tmp_path / "made")}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_random_requests_find_no_fault(service, tmp_path):
    programs = environment(tmp_path / "environment", "schemathesis==4.32.5")
    # A training would be started again and again: it has its own test.
    command = [
        programs / "schemathesis", "--config-file", HERE / "schemathesis.toml", "run", f"{service.base_url}/openapi.json",
        "--max-examples", "45", "--seed", "1", "--workers", "2", "--exclude-path-regex", "^/api/v1/trainings$",
        "--phases", "examples,coverage,fuzzing", "--report", "ndjson", "--report-dir", "report",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    cases = next(int(line.split()[0]) for line in done.stdout.splitlines() if "generated" in line and "passed" in line)
    assert cases >= CASES
