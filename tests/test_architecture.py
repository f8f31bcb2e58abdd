"""The architecture: which module may import which, what an import costs, what the wheel holds."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOTS = {
    "siamese_index": "siamese_index",
    "siamese_index.cli": "cli",
    "siamese_index.training": "training",
    "siamese_index.server": "server",
}
# From the ground up: what stands in a line may import what stands in it or above it, never below.
LAYERS = (
    ("_package", "errors", "files", "vectors"),
    ("samples",),
    ("towers",),
    ("store",),
    ("search",),
    ("thresholds",),
    ("describe",),
    ("session",),
    ("identify", "enrollment", "calibrate", "promote"),
    ("analysis",),
    ("curation",),
    ("gallery",),
    ("__init__",),
    ("rebuild",),
    ("training",),
    ("server",),
    ("cli",),
)


def modules():
    """Return module name -> file, of everything that is shipped."""
    found = {}
    for package, folder in ROOTS.items():
        for file in (ROOT / folder).rglob("*.py"):
            words = [*package.split("."), *file.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(words[:-1] if words[-1] == "__init__" else words)] = file
    return found


MODULES = modules()
TREES = {name: ast.parse(file.read_text()) for name, file in MODULES.items()}


def targets(name, node):
    """Yield the full names that an import names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        words = name.split(".")
        home = words if MODULES[name].name == "__init__.py" else words[:-1]
        base = [*home[: len(home) - node.level + 1]] if node.level else []
        base = ".".join(base + ([node.module] if node.module else []))
        yield from (f"{base}.{alias.name}" for alias in node.names)


def ours(target):
    """Return the module of ours that a name is or is in, or None."""
    while target and target not in MODULES:
        target = target.rpartition(".")[0]
    return target or None


def imported():
    """Return (importer, imported) pairs of our modules: imports anywhere, for types too, and by name when asked for."""
    pairs = set()
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                pairs |= {(name, found) for target in targets(name, node) if (found := ours(target))}
    from siamese_index import _HOMES
    from siamese_index.cli.app import COMMANDS
    from siamese_index.cli.app import MODULES as PLACES

    pairs |= {("siamese_index", f"siamese_index.{home}") for home in _HOMES.values()}
    pairs |= {("siamese_index.cli.app", f"siamese_index.cli.{PLACES.get(command, command)}") for command in COMMANDS}
    return {(a, b) for a, b in pairs if a != b}


IMPORTED = imported()


def external(library):
    """Return the modules that import a library, anywhere."""
    return {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for target in targets(name, node)
        if target.split(".")[0] == library
    }


def layer(module):
    part = module.split(".")[1] if "." in module else "__init__"
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def test_no_module_imports_one_that_imports_it():
    waiting = {name: {b for a, b in IMPORTED if a == name} for name in MODULES}
    while free := {name for name, needs in waiting.items() if not needs & waiting.keys()}:
        for name in free:
            del waiting[name]
    assert waiting == {}


def test_modules_are_imported_by_name_only_where_that_hides_nothing():
    """What is asked for: names of the package, verbs of the facade (imported for their types, too), commands, a user's."""
    way = re.compile(r"\b(import_module|__import__|LazyLoader)\(")
    by_name = {name for name, file in MODULES.items() if way.search(file.read_text())}
    assert by_name == {
        "siamese_index",
        "siamese_index._package",
        "siamese_index.cli.app",
        "siamese_index.training.towers",
    }
    assert {name for name, file in MODULES.items() if "when_used(" in file.read_text()} == {
        "siamese_index._package",
        "siamese_index.gallery",
    }
    for when_used in re.findall(r"when_used\((.*?)\)", MODULES["siamese_index.gallery"].read_text(), re.DOTALL):
        for name in re.findall(r'"([\w.]+)"', when_used):
            assert ("siamese_index.gallery", f"siamese_index.{name}") in IMPORTED


def test_arrows_run_one_way():
    wrong = sorted((a, b) for a, b in IMPORTED if layer(b) > layer(a))
    assert wrong == []
    assert {layer(name) for name in MODULES} == set(range(len(LAYERS)))


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("faiss", {"siamese_index.search.scan"}),
        (
            "sqlite3",
            {
                "siamese_index.store.sqlite",
                "siamese_index.store.schema",
                "siamese_index.store.sqlite_errors",
                "siamese_index.store.sqlite_checks",
                "siamese_index.store.sqlite_copy",
            },
        ),
        ("sqlite_utils", {"siamese_index.store.schema"}),
        ("psycopg", {"siamese_index.store.postgres", "siamese_index.store.postgres_layout"}),
        (
            "onnxruntime",
            {"siamese_index.towers.device", "siamese_index.towers.foreign", "siamese_index.training.quantize"},
        ),
        ("tensorflow", {"siamese_index.training.networks", "siamese_index.training.convert"}),
    ],
)
def test_each_library_is_used_in_few_places(library, homes):
    assert external(library) == homes


def test_keras_is_for_training_and_typer_for_the_command_line():
    assert {name.split(".")[1] for name in external("keras")} == {"training"}
    assert {name.split(".")[1] for name in external("typer")} == {"cli"}


# -- shape -----------------------------------------------------------------------------------------


def test_the_engine_shows_at_most_twenty_names():
    shown = [p for p in (ROOT / "siamese_index").iterdir() if p.suffix == ".py" or any(p.glob("*.py"))]
    assert len(shown) <= 20, sorted(p.name for p in shown)


def test_modules_and_classes_have_a_readable_length():
    lengths = {name: len(file.read_text().splitlines()) for name, file in MODULES.items()}
    assert {name: n for name, n in lengths.items() if n > 420} == {}
    assert lengths["siamese_index.gallery"] <= 400
    classes = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert {name: n for name, n in classes.items() if n > 400} == {}


def test_the_formatter_is_nearly_always_right():
    skipped = sum(file.read_text().count("fmt: skip") + file.read_text().count("fmt: off") for file in MODULES.values())
    assert skipped <= 10


def test_a_class_name_means_one_class():
    names = Counter(node.name for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == set()


def test_shipped_code_has_no_asserts():
    """They are gone under `python -O`."""
    found = [name for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert found == []


def test_every_package_says_what_it_is_for_and_the_drawing_names_it():
    drawn = (ROOT / "docs" / "development.md").read_text()
    for name, file in MODULES.items():
        if file.name == "__init__.py":
            assert ast.get_docstring(TREES[name]), name
        assert name.rpartition(".")[2] in ("__main__", *re.findall(r"\w+", drawn)), (
            f"docs/development.md does not name {name}"
        )


# -- what it costs and what it ships ----------------------------------------------------------------


def test_importing_the_library_loads_only_what_it_needs():
    script = (
        "import sys, siamese_index\n"
        "heavy = {'tensorflow', 'keras', 'faiss', 'onnxruntime', 'scipy', 'sqlite_utils', 'typer', 'numpy', 'cv2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "from siamese_index import Gallery\n"
        "heavy -= {'numpy', 'cv2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_folders_with_code_are_packages_of_the_wheel():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == {name for name, file in MODULES.items() if file.name == "__init__.py"}
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    assert mapped == ROOTS


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
    page = [f"siamese_index/server/page/{file.name}" for file in (ROOT / "server" / "page").iterdir()]
    assert page and set(page) <= set(names)
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
        if isinstance(thing, str):
            continue
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
