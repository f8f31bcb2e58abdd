"""How good the networks of a training are on what was held out: while it runs, and at its end."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Cohort
from siamese_index.analysis.comparison import compare, tower_figures
from siamese_index.analysis.graded import correlation, graded_figures
from siamese_index.thresholds.planning import Planner
from siamese_index.towers.adapting import applied, whitening
from siamese_index.vectors import distances, unit

from .data import Data, Source
from .networks import LearnedSamples, embed
from .split import Split

if TYPE_CHECKING:
    import keras

LOOKED_AT = 1000  # samples that a look during the training searches
FEW_PAIRS = 10  # below which all held-out pairs choose the moment, and measure
WHITENED_BY = 2000  # samples that the closed form at the end learns from


@dataclass(frozen=True)
class Measuring:
    """What is held out, and what a network sees of it."""

    data: Data  # whose samples are whose
    learned: LearnedSamples  # what the network takes of them
    parts: Split
    fpir: float
    source: Source

    def moment(self, served: keras.Model) -> dict[str, float]:
        """Return the figures by which the moment is chosen; `error` is to be low, `noise` its standard error.

        Of searches by the watched identities among all held-out ones, of a part when they are many; or of graded pairs.
        """
        data, parts = self.data, self.parts
        if self.source.graded:
            return self._graded_moment(served)
        part = parts.unseen[:: max(1, len(parts.unseen) // LOOKED_AT)]
        names = [data.names[i] for i in data.whose[part]]
        watched = {data.names[i] for i in data.whose[parts.watched]}
        figures = tower_figures(embed(served, self.learned, part), names, watched, self.fpir) if len(part) else {}
        if not figures.get("searches"):
            return {}
        low, high = figures["fnir_interval"]
        shown = {"rank1": figures["rank1"], "fnir": figures["fnir"], "eer": figures["eer"]}
        return {**shown, "error": figures["fnir"], "noise": (high - low) / (2 * 1.96)}

    def _graded_moment(self, served: keras.Model) -> dict[str, float]:
        pairs, labels = self.source.within(self.parts.watched)
        if len(pairs) < FEW_PAIRS:
            pairs, labels = self.source.within(self.parts.unseen)
        items, at = np.unique(pairs, return_inverse=True)
        rows = embed(served, self.learned, items)[at.reshape(pairs.shape)]
        found = correlation(labels, distances(rows[:, 0], rows[:, 1])) if len(pairs) else None
        return {} if found is None else {"spearman": found, "error": 1 - found, "noise": len(pairs) ** -0.5}

    def vectors(self, served: keras.Model) -> Cohort:
        """Return the held-out samples' vectors."""
        unseen = self.parts.unseen
        names = tuple(self.data.names[i] for i in self.data.whose[unseen])
        digests = tuple(self.data.digests[i].tobytes().hex() for i in unseen)
        return Cohort(names, digests, embed(served, self.learned, unseen))

    def figures(self, measured: Cohort) -> dict[str, Any]:
        """Return the figures on held-out identities: on those that did not choose the moment, when there are such."""
        if self.source.graded:
            return self._graded(measured)
        if not len(measured):
            return {"searches": 0, "identities": 0}
        searched = self._searched(measured)
        figures = tower_figures(measured.vectors, measured.names, searched, self.fpir)
        figures["chose_the_moment"] = searched == self._chose()  # then their figures are a little kind
        with contextlib.suppress(BadInput):  # too few to plan with
            planner = Planner(measured.vectors, measured.names)
            figures["plan"] = [asdict(planner.plan(n, self.fpir)) for n in (10, 100, 1000) if n <= planner.others]
        plain = self.learned.take(self.parts.unseen) if len(self.learned.shape) == 1 else np.zeros((0, 0))
        if len(plain) and plain.any(axis=1).all():  # what a tower of vectors has to beat
            figures["plain"] = tower_figures(unit(plain), measured.names, searched, self.fpir)
        return figures

    def _graded(self, measured: Cohort) -> dict[str, Any]:
        left = np.setdiff1d(self.parts.unseen, self.parts.watched)
        pairs, labels = self.source.within(left)
        chose = len(pairs) < FEW_PAIRS or len(self.source.within(self.parts.watched)[0]) < FEW_PAIRS
        if chose:
            pairs, labels = self.source.within(self.parts.unseen)
        at = np.zeros(len(self.data), np.int64)
        at[self.parts.unseen] = np.arange(len(self.parts.unseen))
        figures = graded_figures(measured.vectors, at[pairs], labels)
        return {"searches": 0, "identities": 0, "chose_the_moment": chose, **figures}

    def closed_form(
        self, served: keras.Model, measured: Cohort
    ) -> tuple[dict[str, Any], tuple[NDArray[np.float32], NDArray[np.float32]] | None]:
        """Try a whitening by what was learned from, judged by held-out identities that did not choose the moment.

        Returns what came of it, and the (matrix, mean) where it is proved to be better.
        """
        data, seen = self.data, self.parts.seen
        if self.source.graded or not len(measured):
            return {}, None
        judges = self._searched(measured)
        if judges == self._chose():
            return {"tried": False}, None
        order = seen[np.argsort(data.whose[seen], kind="stable")]  # whole identities
        wanted, counts = np.unique(data.whose[order], return_counts=True)
        kept = np.isin(data.whose[order], wanted[:: max(1, -(-len(order) // WHITENED_BY))])
        order = order[kept][: 2 * WHITENED_BY]
        if int(counts.max(initial=0)) < 2:
            return {"tried": False}, None
        try:
            matrix, mean = whitening(embed(served, self.learned, order), data.whose[order].astype(np.int64))
        except BadInput:
            return {"tried": False}, None
        moved = applied(measured.vectors, matrix, mean)
        judged = compare(measured.vectors, moved, measured.names, judges, self.fpir)
        told: dict[str, Any] = {key: judged[key] for key in ("verdict", "rank1_change", "fnir_change") if key in judged}
        kept_it = judged["verdict"] == "better"
        told |= {"tried": True, "kept": kept_it, "without": judged["champion"], "with": judged["challenger"]}
        return told, (matrix, mean) if kept_it else None

    def _chose(self) -> set[str]:
        return {self.data.names[i] for i in self.data.whose[self.parts.watched]}

    def _searched(self, measured: Cohort) -> set[str]:
        held_out = set(measured.names)
        return (held_out - self._chose()) or held_out
