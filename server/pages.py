"""The page for people: files of the package, which hold nothing of a gallery."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent / "page"
# By the name's end, not by what a machine has registered: a browser runs no script of another type.
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Pages(StaticFiles):
    """The page's files. A browser asks each time whether they are still the same: after an update they fit together."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER, html=True)

    def file_response(self, full_path: str | os.PathLike[str], *args: object, **further: object) -> Response:
        """Return a file with its type."""
        answer = super().file_response(full_path, *args, **further)  # type: ignore[arg-type]
        answer.headers["cache-control"] = "no-cache"
        kind = _TYPES.get(Path(full_path).suffix)
        if kind is not None and answer.status_code == 200:
            answer.headers["content-type"] = f"{kind}; charset=utf-8"
        return answer
