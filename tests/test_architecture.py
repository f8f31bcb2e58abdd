"""The architecture: which module may import which, what an import costs, what the wheel holds."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def imports(tmp_path_factory):
    """All (importer, imported) pairs of modules, of the package laid out as it is installed."""
    home = tmp_path_factory.mktemp("laid-out")
    for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items():
        shutil.copytree(ROOT / folder, home / name.replace(".", "/"), dirs_exist_ok=True)
    script = (
        "import grimp, json; graph = grimp.build_graph('siamese_index', include_external_packages=True, cache_dir=None)\n"
        "print(json.dumps([(m, n) for m in graph.modules for n in graph.find_modules_directly_imported_by(m)]))"
    )
    path = {**os.environ, "PYTHONPATH": str(home)}
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{script}"],
                          cwd=home, env=path, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(pair) for pair in json.loads(done.stdout)]


def part(module):
    words = module.split(".")
    return words[1] if len(words) > 1 and words[1] in ("cli", "training") else "engine"


def importers(imports, library):
    return {one for one, other in imports if other.split(".")[0] == library}


def test_arrows_run_from_cli_to_training_to_the_engine(imports):
    allowed = {("cli", "training"), ("cli", "engine"), ("training", "engine")}
    ours = [(one, other) for one, other in imports if other.startswith("siamese_index")]
    assert {part(one) for one, _ in ours} == {"cli", "training", "engine"}
    wrong = [(a, b) for a, b in ours if part(a) != part(b) and (part(a), part(b)) not in allowed]
    assert wrong == []


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("faiss", {"siamese_index.search.scan"}),
        ("sqlite3", {"siamese_index.store.sqlite", "siamese_index.store.schema"}),
        ("sqlite_utils", {"siamese_index.store.schema"}),
        ("onnxruntime", {"siamese_index.towers.tower", "siamese_index.training.optimizing"}),
        ("tensorflow", {"siamese_index.training.fit"}),
    ],
)
def test_each_library_is_used_in_few_places(imports, library, modules):
    assert importers(imports, library) == modules


def test_keras_is_for_training_and_typer_for_the_command_line(imports):
    assert {part(m) for m in importers(imports, "keras")} == {"training"}
    assert {part(m) for m in importers(imports, "typer")} == {"cli"}


def test_importing_the_library_loads_only_what_it_needs():
    script = (
        "import sys, siamese_index\n"
        "heavy = {'tensorflow', 'keras', 'faiss', 'onnxruntime', 'scipy', 'sqlite_utils', 'typer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_folders_with_code_are_packages_of_the_wheel():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    folders = {p.parent for top in ("siamese_index", "cli", "training") for p in (ROOT / top).rglob("*.py")}
    assert {ROOT / mapped[name] for name in listed} == folders


def test_the_wheel_works_from_elsewhere(tmp_path):
    source = tmp_path / "source"
    subprocess.run(["git", "-C", ROOT, "checkout-index", "-a", f"--prefix={source}/"], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("siamese_index-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert {n.split("/")[0] for n in names} == {"siamese_index", names[-1].split("/")[0]}  # nothing else at the top
    assert "siamese_index/py.typed" in names
    modules = [n[:-3].replace("/", ".") for n in names if n.endswith(".py") and "__" not in n]
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); import importlib, siamese_index\n"
        f"assert siamese_index.__file__.startswith({str(tmp_path)!r}), siamese_index.__file__\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_thing_is_documented():
    import siamese_index

    for name in siamese_index.__all__:
        thing = getattr(siamese_index, name)
        assert thing.__doc__, name
        for attribute, value in vars(thing).items():
            if not attribute.startswith("_") and callable(value):
                assert value.__doc__, f"{name}.{attribute}"


def test_versions_are_pinned_without_addresses():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert all("==" in line for line in pins if line and not line.startswith("#"))
    assert not any("://" in line for line in pins)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins if "==" in line}
    wanted = {
        d.split(">")[0].split("[")[0].lower()
        for d in [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["train-cpu"]]
    }
    assert wanted - {"siamese-index"} <= pinned
    import siamese_index

    assert siamese_index.__version__ == PROJECT["project"]["version"]


def test_an_opencv_that_cannot_be_loaded_says_what_to_install():
    script = "import sys; sys.modules['cv2'] = None; from siamese_index import Gallery"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.rstrip().endswith("On Debian: apt-get install libgl1 libglib2.0-0")
