"""Every change can be listed, undone and redone; the gallery can be asked as it was."""

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Missing
from siamese_index.analysis.doctor import examine
from siamese_index.thresholds.impostor_searches import ImpostorSearches


def unit(rng, n):
    v = rng.standard_normal((n, 8)).astype(np.float32)
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def content(gallery):
    """Everything that a user would call the content."""
    calibration = gallery.calibrate_vectors()
    return {
        "samples": sorted((row.identity, row.digest, row.source) for row in gallery.samples()),
        "identities": [(row.name, row.samples, row.tags) for row in gallery.identities()],
        "strangers": sorted(
            (row.name, row.state, row.nearest, row.distance and round(row.distance, 6))
            for row in gallery.strangers()
            if row.state != "removed"
        ),
        "threshold": calibration.threshold and round(calibration.threshold, 5),
        "misses": (calibration.misses, calibration.mated, calibration.set_aside),
        "target": calibration.evidence.target_fpir,
        "fusion": calibration.evidence.fusion,
        "log": gallery.log()[0],
        "towers": [(row.sha256, active) for row, active in gallery.towers()],
    }


def answers(gallery, probes):
    return [(d.identity, [(c.identity, round(c.distance, 5)) for c in d.candidates]) for d in
            gallery.identify_vectors(probes, log=False, k=3)]  # fmt: skip


def same(found, wanted):
    for key, value in wanted[0].items():
        assert found[0][key] == value, key
    assert found[1] == wanted[1]


def stale(gallery):
    session = gallery._session
    with session.reading() as state:
        searches = ImpostorSearches(state.store, state.active, session.searcher(state))
        searches.read()
        return searches.stale()


class Life:
    """A random history, with what a plain model of it would hold."""

    def __init__(self, gallery, seed):
        self.gallery, self.rng, self.names = gallery, np.random.default_rng(1000 + seed), 0

    def name(self):
        """A name that nobody has now; some were somebody's before."""
        self.names += 1
        free = [f"name {n}" for n in range(1, self.names) if f"name {n}" not in self.enrolled()]
        return str(self.rng.choice(free)) if free and self.rng.random() < 0.4 else f"name {self.names}"

    def enrolled(self):
        return [row.name for row in self.gallery.identities()]

    def some_samples(self, of=None, least=1):
        ids = [row.id for row in self.gallery.samples(of)]
        count = int(self.rng.integers(least, min(3, len(ids)) + 1))
        return [int(i) for i in self.rng.choice(ids, count, replace=False)]

    def step(self):
        g, rng, names = self.gallery, self.rng, self.enrolled()
        one = str(rng.choice(names))
        verb = str(rng.choice(
            ["enroll", "enroll", "more", "rename", "tag", "remove", "move", "move new", "merge", "split",
             "remove samples", "restore", "restore samples", "target", "fusion", "strangers", "stranger", "strict", "log"]
        ))  # fmt: skip
        if verb == "enroll":
            g.enroll_vectors([self.name(), "two", names[0]], unit(rng, 3), conflicts="allow", tags={"k": verb})
        elif verb == "more":
            g.enroll_vectors([one, one], unit(rng, 2), conflicts="allow")
        elif verb == "rename":
            g.rename(one, self.name())
        elif verb == "tag":
            g.tag(one, {"site": str(rng.integers(3)), "k": None})
        elif verb == "remove" and len(names) > 3:
            g.remove(one)
        elif verb == "move":
            try:
                g.curation.move(self.some_samples(), one)
            except BadInput as error:
                assert "already" in str(error)
        elif verb == "move new":
            g.curation.move(self.some_samples(), self.name(), new=True)
        elif verb == "merge" and len(names) > 3:
            g.curation.merge(one, next(name for name in names if name != one))
        elif verb == "split":
            samples = self.some_samples(one)
            if len(samples) < len(g.samples(one)):
                g.curation.split(one, self.name(), samples)
        elif verb == "remove samples" and len(names) > 4:
            g.curation.remove_samples(self.some_samples())
        elif verb == "restore":
            for row in g.curation.removed()[0][:1]:
                g.curation.restore(row.name, self.name())
        elif verb == "restore samples":
            for row in g.curation.removed()[1][:1]:
                try:
                    g.curation.restore_samples([row.id])
                except BadInput as error:  # whose it was is not enrolled; perhaps somebody else of that name is
                    assert row.identity not in names or "somebody else of that name" in str(error)
        elif verb == "target":
            g.calibrate_vectors(fpir=float(rng.choice([0.01, 0.05, 0.1])))
        elif verb == "fusion":
            g.calibrate_vectors(fusion=str(rng.choice(["best", "mean", "best-two"])))
        elif verb == "strangers":
            g.calibrate_vectors(names=[self.name(), one], vectors=unit(rng, 2))
        elif verb == "stranger":
            for row in g.strangers()[:1]:
                g.set_stranger(row.name, row.state == "removed")
        elif verb == "strict":
            g.set_strict(bool(rng.integers(2)))
        elif verb == "log":
            g.log(bool(rng.integers(2)))


@pytest.mark.parametrize("seed", range(4))
def test_a_random_history_undone_is_the_start_and_redone_the_end(place, seed, monkeypatch):
    monkeypatch.setattr("siamese_index.search.file_index.BASE_MINIMUM", 4)  # so that there are caches
    rng = np.random.default_rng(seed)
    probes = unit(rng, 5)
    with Gallery.create(place, dimension=8) as gallery, Gallery.open(place) as other:
        gallery.enroll_vectors([f"first {n // 2}" for n in range(8)], unit(rng, 8), conflicts="allow")
        gallery.calibrate_vectors(fpir=0.1, names=[f"s{n}" for n in range(12)], vectors=unit(rng, 12))
        life = Life(gallery, seed)
        known = {gallery.revision: (content(gallery), answers(gallery, probes))}
        start = gallery.revision
        for _ in range(25):
            life.step()
            now = content(gallery), answers(gallery, probes)
            assert answers(other, probes) == now[1]  # who has it open follows
            assert stale(gallery) == 0
            known.setdefault(gallery.revision, now)
        end = known[gallery.revision]
        for revision in rng.choice(sorted(known), 3):
            with gallery.past(int(revision)) as past:
                same((content(past), answers(past, probes)), known[int(revision)])
                assert past.revision == revision
        changed = [row for row in gallery.curation.history() if row.can_be_undone and row.revision > start]
        for row in changed:
            assert gallery.curation.undo()[0].revision == row.revision
            assert stale(gallery) == 0
            before = max(r for r in known if r < row.revision)
            same((content(gallery), answers(gallery, probes)), known[before])
            assert answers(other, probes) == known[before][1]
        for row in reversed(changed):
            assert gallery.curation.redo().revision == row.revision
        same((content(gallery), answers(gallery, probes)), end)
        with pytest.raises(Missing, match="nothing to redo"):
            gallery.curation.redo()
    assert examine(place).findings == ()
