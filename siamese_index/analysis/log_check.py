"""The log of answers, held against the strangers that the threshold was learned from."""

from __future__ import annotations

import numpy as np

from siamese_index.thresholds.drift import Drift, drift

from .contract import OpenGallery


def check_log(gallery: OpenGallery) -> Drift:
    """Compare the logged answers of the active tower that named nobody with the strangers' searches."""
    with gallery.reading() as state:
        tower, tau, rows = state.active.id, state.threshold(None).tau, state.searches
        answers = [answer for answer in state.store.log.all() if answer.tower == tower]
    asked = np.array([answer.distance for answer in answers if answer.distance is not None])
    return drift(asked, rows.distances[rows.own < 0], tau)
