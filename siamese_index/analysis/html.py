"""One HTML page that needs nothing else: plots as SVG, pictures inside, fit to be printed."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.describe import GLOSSARY
from siamese_index.errors import NotInstalled
from siamese_index.files import GENERATOR
from siamese_index.samples import images

if TYPE_CHECKING:
    from matplotlib.axes import Axes


DET_TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8)
_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p { max-width: 46rem } .quiet { color: #5a5a5a }
table { border-collapse: collapse; margin: .5rem 0 } td, th { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
svg { max-width: 100%; height: auto }
.strip { display: flex; flex-wrap: wrap; gap: 1rem } .strip figure { margin: 0; break-inside: avoid }
figcaption { font-size: .8rem; color: #444 } img { image-rendering: pixelated; height: 6rem; margin-right: .15rem; border: 1px solid #ccc }
@media print { body { margin: 0; max-width: none } h2 { break-after: avoid } }
"""  # noqa: E501


def page(title: str, about: str, sections: Iterable[tuple[str, str]]) -> str:
    """Return the page: a title, a sentence, and (heading, HTML) sections; empty ones are left out."""
    parts = [f"<h2>{escape(heading)}</h2>\n{body}" for heading, body in sections if body]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR}<title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f'<body><h1>{escape(title)}</h1>\n<p class="quiet">{escape(about)}</p>\n'
        + "\n".join(parts)
        + f"\n<details><summary>What the words mean</summary>{table(list(GLOSSARY.items()))}</details>"
        + "\n</body></html>\n"
    )


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Return a table; numbers are set right."""
    cells = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' if isinstance(c, (int, float)) else ''}>{_cell(c)}</td>" for c in row)
        + "</tr>"
        for row in rows
    )
    titles = "<tr>" + "".join(f"<th>{escape(title)}</th>" for title in head) + "</tr>" if head else ""
    return f"<table>{titles}{cells}</table>"


def strip(pictures: Iterable[tuple[Sequence[NDArray[np.uint8]], str]]) -> str:
    """Return pictures (height, width, channels) in groups, each with a caption."""
    groups = []
    for group, caption in pictures:
        shown = "".join(
            f'<img alt="" src="data:image/png;base64,{base64.b64encode(images.encode(p)).decode()}">' for p in group
        )
        groups.append(f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>")
    return f'<div class="strip">{"".join(groups)}</div>' if groups else ""


def plot(draw: Callable[[Axes], None], width: float = 7.0, height: float = 3.2) -> str:
    """Return what `draw` draws as an SVG element. Raises NotInstalled without matplotlib."""
    matplotlib = _matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "siamese-index", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def has_no_fonts() -> bool:
    """Whether matplotlib was never used in this home: it would leave a list of fonts there."""
    homes = (Path("~/.cache/matplotlib"), Path("~/.config/matplotlib"), Path("~/.matplotlib"))
    return "MPLCONFIGDIR" not in os.environ and not any(home.expanduser().exists() for home in homes)


def _matplotlib() -> Any:
    """Import matplotlib and return it; in a home where it never was it leaves nothing. Raises NotInstalled."""
    with contextlib.ExitStack() as stack:
        if has_no_fonts() and "matplotlib" not in sys.modules:
            os.environ["MPLCONFIGDIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="sidx-"))
            stack.callback(os.environ.pop, "MPLCONFIGDIR")
        try:
            import matplotlib
            import matplotlib.font_manager  # writes what it found
        except ImportError:
            raise NotInstalled(
                "Reports need matplotlib.", remedy='In the folder of its source: pip install ".[report]"'
            ) from None
    return matplotlib


def histogram(mated: NDArray[np.float64], others: NDArray[np.float64], tau: float | None, what: str) -> str:
    """Return the distances of mated searches to their identity and of all to the nearest other, with the threshold."""

    def draw(axes: Axes) -> None:
        edges = np.linspace(0, max(1.0, float(np.max(np.concatenate([mated, others])))), 61).tolist()
        axes.hist(others, edges, color="#d55e00", alpha=0.55, label=f"nearest other identity ({len(others)})")
        axes.hist(mated, edges, color="#0072b2", alpha=0.55, label=f"own identity ({len(mated)})")
        if tau is not None:
            axes.axvline(tau, color="black", linewidth=1, label=f"threshold {tau:.3f}")
        axes.set(xlabel="distance", ylabel=what)
        axes.legend(frameon=False)

    return plot(draw)


def det(curves: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]], across: str, up: str) -> str:
    """Return a DET plot on normal-deviate axes (Martin et al., 1997) of (label, rates across, rates up)."""
    from scipy.special import ndtri

    def draw(axes: Axes) -> None:
        for label, x, y in curves:
            inside = (x > 0) & (x < 1) & (y > 0) & (y < 1)
            axes.plot(ndtri(x[inside]), ndtri(y[inside]), label=label, linewidth=1.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([float(ndtri(t)) for t in DET_TICKS], [f"{t:.3g}" for t in DET_TICKS])
        ends = (float(ndtri(0.0005)), float(ndtri(0.9)))
        axes.set(xlabel=across, ylabel=up, xlim=ends, ylim=ends)
        axes.grid(color="#ddd", linewidth=0.6)
        if len(curves) > 1:
            axes.legend(frameon=False)

    return plot(draw, 4.5, 4.2)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(f"{value:,}" if isinstance(value, int) else str(value))
