"""The log of answers, held against the strangers that the threshold was learned from."""

from __future__ import annotations

import numpy as np

from siamese_index.thresholds.drift import Drift, drift

from .contract import OpenGallery


def check_log(gallery: OpenGallery) -> Drift:
    """Compare the logged answers of the active tower that named nobody with the strangers' searches."""
    with gallery.reading() as state:
        tower, tau, rows = state.active.id, state.threshold(None).tau, state.searches
        answers = [a for a in state.store.log.all() if a.tower == tower and a.distance is not None]
        vectors = np.array([np.frombuffer(answer.vector, np.float32) for answer in answers])
        asked = np.array([answer.distance for answer in answers], np.float64) - state.moves(vectors)
    return drift(asked, rows.distances[rows.own < 0], tau)
