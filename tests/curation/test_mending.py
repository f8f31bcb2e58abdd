"""What the audit finds can be carried out: any number of findings as one change, which can be undone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Locked
from tests.curation.test_history import content, stale


@pytest.fixture
def imperfect(place):
    """Ten clear identities of four, but: a sample of p0 under p1, p8 twice, a copy, an outlier, a stranger enrolled."""
    rng = np.random.default_rng(3)
    centres = np.linalg.qr(rng.standard_normal((16, 16)))[0].astype(np.float32)

    def near(n, count):
        return centres[n] + 0.12 * rng.standard_normal((count, 16)).astype(np.float32)

    with Gallery.create(place, dimension=16, fpir=0.05) as gallery:
        for n in range(9):
            gallery.enroll_vectors([f"p{n}"] * 4, near(n, 4), conflicts="allow")
        gallery.enroll_vectors(["p1"], near(0, 1), conflicts="allow")
        gallery.enroll_vectors(["p8 again"] * 4, near(8, 4), conflicts="allow")
        copied = near(2, 1)
        gallery.enroll_vectors(["p2"] * 2, np.concatenate([copied, copied + 1e-4]), conflicts="allow")
        gallery.enroll_vectors(["p3"], centres[15:16], conflicts="allow")
        strangers = np.concatenate([near(n, 2) for n in range(9, 15)] + [near(4, 2)])
        gallery.calibrate_vectors(names=[*(f"s{n // 2}" for n in range(12)), "who", "who"], vectors=strangers)
        yield gallery


def test_findings_are_carried_out_as_one_change(imperfect):
    before, audit = content(imperfect), imperfect.audit()
    kinds = {finding.kind: finding for finding in audit.findings}
    assert {"mistaken", "one of two", "duplicate", "outlier", "stranger enrolled"} <= set(kinds)
    assert len({finding.id for finding in audit.findings}) == len(audit.findings)
    assert [f.id for f in imperfect.audit().findings] == [f.id for f in audit.findings]
    revision = imperfect.revision
    done = imperfect.curation.apply([f for f in audit.findings if f.can_be_applied])
    assert imperfect.revision == revision + 1 and stale(imperfect) == 0
    assert len(done) >= 5
    after = imperfect.audit()
    assert not {"mistaken", "one of two", "stranger enrolled"} & {f.kind for f in after.findings}
    assert after.fnir <= audit.fnir
    assert {row.name: row.samples for row in imperfect.identities()}["p0"] == 5
    assert "p8 again" not in [row.name for row in imperfect.identities()]
    imperfect.curation.undo()
    assert content(imperfect) == before and stale(imperfect) == 0


def test_what_does_not_stand_any_more_is_not_carried_out(imperfect):
    findings = imperfect.audit().findings
    mistaken = next(f for f in findings if f.kind == "mistaken")
    with pytest.raises(Locked, match="does not stand"):
        imperfect.curation.apply([mistaken, mistaken])
    imperfect.curation.move([mistaken.sample], mistaken.other)
    revision = imperfect.revision
    with pytest.raises(Locked, match="does not stand"):
        imperfect.curation.apply([mistaken])
    with pytest.raises(BadInput):
        imperfect.curation.apply([])
    assert imperfect.revision == revision


def test_three_that_are_one_become_one(file_gallery):
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    for n, name in enumerate(["a", "b", "c", "d", "e", "f", "a2", "a3"]):
        at = 0 if name.startswith("a") else n
        rows = centres[at] + 0.1 * rng.standard_normal((3, 8)).astype(np.float32)
        file_gallery.enroll_vectors([name] * 3, rows, conflicts="allow", tags={name: "1"})
    file_gallery.calibrate_vectors(fpir=0.1)
    [pair] = [f for f in file_gallery.audit().findings if f.kind == "one of two"]
    pairs = [replace(pair, identity="a", other="a2"), replace(pair, identity="a2", other="a3")]
    file_gallery.curation.apply(pairs)
    left = {row.name: row.samples for row in file_gallery.identities()}
    assert sum(left.values()) == 24 and len([n for n in left if n.startswith("a")]) == 1
    assert stale(file_gallery) == 0


def test_the_command_line_goes_through_them(imperfect, sidx, tmp_path):
    g = ("-g", str(imperfect.path) if isinstance(imperfect.path, str) else imperfect.path)
    if not hasattr(imperfect.path, "exists"):
        pytest.skip("the address of a server as it is printed has no password")
    found = [json.loads(line) for line in sidx("doctor", "--content", *g).stdout.splitlines()]
    [one] = [f for f in found if f["kind"] == "one of two"]
    assert one["remedy"] == "If they are: sidx identities merge 'p8 again' p8" and one["can_be_applied"]
    assert sidx("doctor", "--apply", *g).returncode == 2
    assert sidx("doctor", one["id"], *g).returncode == 2
    assert sidx("doctor", "--apply", "ffffffff", *g).returncode == 4
    done = sidx("doctor", "--apply", one["id"], *g)
    assert done.returncode == 0 and "'p8 again' is now 'p8'." in done.stderr
    asked = sidx("doctor", "--interactive", *g, stdin=b"y\nn\nq\n")
    assert asked.returncode == 0 and "1 of " in asked.stderr and "Take it back" in asked.stderr
    assert "Nothing was changed." in sidx("doctor", "--interactive", *g, stdin=b"").stderr
