"""Whether those who ask still look like the strangers that the threshold was learned from."""

from __future__ import annotations

import threading
import time

from siamese_index import Gallery
from siamese_index.analysis.log_check import check_log

EVERY = 60.0  # seconds: comparing reads all answers on record


class StrangerAlarm:
    """The alarm of `sidx log check`, compared anew once a minute at most."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery, self._rings, self._last = gallery, False, -EVERY
        self._one = threading.Lock()

    def rings(self) -> bool:
        """Return whether it rings; False where too little is known to compare."""
        with self._one:
            if time.monotonic() - self._last >= EVERY:
                self._rings, self._last = check_log(self._gallery).alarm, time.monotonic()
            return self._rings
