"""What is installed with this package, and under which licence: from the metadata of what is installed here."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("train-cpu", "postgres", "dask", "serve")
HEAD = """# Third-party packages

What `pip install ".[train-cpu,postgres,dask,serve]"` installs beside siamese-index itself, with the versions of `constraints.txt`
on Linux and Python 3.11, and the licence that each package's metadata names. Nothing of them is part of the wheel; their own files hold
the texts. No networks, weights or pictures of others are shipped. Made by `python docs/generate.py`; `make sbom` writes the
same as CycloneDX.

| package | version | licence | wanted by |
|---|---|---|---|
"""
# The expression of a licence that a package names only in words.
NAMED = {
    "MIT": ("MIT License", "MIT license", "The MIT License"),
    "Apache-2.0": ("Apache Software License", "Apache 2.0", "Apache License 2.0", "Apache License, Version 2.0"),
    "BSD-3-Clause": ("BSD License", "BSD", "BSD 3-Clause License", "BSD-3"),
    "PSF-2.0": (
        "Python Software Foundation License",
        "PSF License",
        "License agreement for matplotlib versions 1.3.0 and later",
    ),
    "LGPL-3.0-only": ("GNU Lesser General Public License v3 (LGPLv3)",),
    "MPL-2.0": ("Mozilla Public License 2.0 (MPL 2.0)",),
}


def licence(package: Distribution) -> str:
    """Return the licence of a package as its metadata names it, as an SPDX expression where that is plain."""
    about = package.metadata
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    classes = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or () if c.startswith("License")]
    said = [c for c in classes if c != "OSI Approved"] or [
        (about.get("License") or "").strip().splitlines()[0:1] or [""]
    ][0]
    for expression, names in NAMED.items():
        if said and (said[0] in names or said[0] == expression or said[0].startswith(names)):
            return expression
    return said[0] if said and said[0] else "not named"


def wanted(name: str, extras: tuple[str, ...]) -> list[str]:
    """Return the packages that a package wants on this system."""
    found = []
    for text in distribution(name).requires or ():
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found.append((canonicalize_name(need.name), tuple(sorted(need.extras))))
    return found  # type: ignore[return-value]


def page() -> str:
    """Return the page."""
    waiting: list[tuple[str, tuple[str, ...], str]] = [("siamese-index", EXTRAS, "")]
    seen: dict[str, str] = {}
    done: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, extras, by = waiting.pop(0)
        if (name, extras) in done:
            continue
        done.add((name, extras))
        try:
            needs = wanted(name, extras)
        except PackageNotFoundError:
            continue
        if name not in ("siamese-index", "pip"):  # pip is that of whoever made the environment
            seen.setdefault(name, by)
        waiting += [(need, more, name) for need, more in needs]  # type: ignore[misc]
    rows = []
    for name, by in sorted(seen.items()):
        package = distribution(name)
        rows.append(f"| {package.metadata['Name']} | {package.version} | {licence(package)} | {by} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
