"""A real browser that looks at the page of a real service: Debian's Chromium, driven by Playwright."""

import contextlib
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
AXE = "axe-core@4.14.1"


@contextlib.contextmanager
def browsing():
    """Start a browser, or skip where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def looking(browser, url, **context):
    """Open the page; what it writes to its console, and whatever it asks of others, is a fault."""
    with browser.new_context(**context) as opened:
        page, faults = opened.new_page(), []
        page.set_default_timeout(30_000)
        page.on("console", lambda said: said.type in ("error", "warning") and faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith((url, "blob:" + url)) or faults.append(asked.url))
        page.goto(url)
        page.faults = faults
        yield page
        assert faults == [], faults


def seen(page, view):
    """Go to a view, and wait until it shows everything."""
    page.evaluate("view => { location.hash = view }", view)
    page.wait_for_load_state("networkidle")
    page.locator(f'nav a[href="#{view.split("/")[0]}"][aria-current]').wait_for()
    page.locator("main h1").wait_for()
    return page


@functools.cache
def axe():
    """Return the source of axe-core, or skip where it cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, AXE]
        if shutil.which("npm") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("axe-core cannot be had here")
        return (Path(folder) / "node_modules" / "axe-core" / "axe.min.js").read_text()


def findings(page):
    """Return what axe-core finds in a page as it is."""
    page.evaluate(axe())
    found = page.evaluate("axe.run()")
    return [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found["violations"]]
