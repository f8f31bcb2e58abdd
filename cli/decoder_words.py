"""What decoders of pictures print to standard error, without a file's name: counted, and told at the end."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator

from .output import note

# Of libjpeg and libpng; what else is printed there passes as it is.
_DECODERS = re.compile(r"libpng (?:warning|error): |Corrupt JPEG data|Premature end of JPEG|Invalid SOS")
_DAMAGED = re.compile(r"premature end|Premature end")  # pixels are missing that the picture was read without


@contextlib.contextmanager
def gathered() -> Iterator[None]:
    """Keep what decoders print off the terminal. Our own messages go where they went before."""
    if not hasattr(os, "memfd_create") or not isinstance(sys.stderr, io.TextIOWrapper) or sys.stderr.fileno() != 2:
        yield
        return
    ours, before, printed = sys.stderr, os.dup(2), os.memfd_create("decoders")
    sys.stderr = os.fdopen(os.dup(before), "w", encoding=ours.encoding, errors="backslashreplace", buffering=1)
    os.dup2(printed, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        with contextlib.suppress(OSError):  # nobody may read on
            sys.stderr.close()
        sys.stderr = ours
        with os.fdopen(printed, "rb") as file:
            file.seek(0)
            _tell(file.read().decode(errors="replace").splitlines())


def _tell(lines: list[str]) -> None:
    for line in lines:
        if not _DECODERS.search(line):
            note(line)
    damaged = Counter(line for line in lines if _DAMAGED.search(line))
    if damaged:
        from siamese_index.describe import counted

        words = "; ".join(damaged)
        note(f"{counted(damaged.total(), 'time')} a picture was read though pixels were missing in it ({words}).")
