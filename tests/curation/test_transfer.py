"""A gallery is taken along and taken in: what comes back is what went, and conflicts are listed."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

from siamese_index import BadInput, Gallery, SiameseIndexError
from siamese_index.analysis.doctor import examine
from siamese_index.samples import images
from tests.curation.test_history import content, stale, unit

HAS_ARROW = importlib.util.find_spec("pyarrow") is not None
NEEDS_ARROW = pytest.mark.skipif(not HAS_ARROW, reason="pyarrow is not installed: it reads and writes .parquet")
KINDS = ["folder", "all.npz", pytest.param("all.parquet", marks=NEEDS_ARROW), "all.jsonl"]


def told(gallery):
    found = content(gallery)
    return {**found, "towers": None}


@pytest.fixture
def pictures(tower_path, tmp_path, person):
    with Gallery.create(tmp_path / "a.gallery", tower_path, fpir=0.05) as gallery:
        names = ["p0", "../up", "ünïcode 漢", ".hidden", "gallery.json", "p0/0001.png", "x" * 200]
        gallery.enroll_many(
            [(name, person(n, hand)) for n, name in enumerate(names) for hand in range(2)], conflicts="allow"
        )
        gallery.tag("p0", {"site": "north", "k": "v"})
        gallery.calibrate(
            fusion="mean", strangers_given=[("eve", person(8, 0)), ("eve", person(8, 1)), ("../dan", person(9, 0))]
        )
        gallery.set_strict(True)
        yield gallery


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_back_is_what_went(pictures, tower_path, tmp_path, person, kind):
    pictures.remove("p0")
    pictures.curation.undo()
    count = pictures.curation.export(tmp_path / kind)
    strangers = len(pictures.strangers())
    assert count == 14 + strangers
    with Gallery.create(tmp_path / "b.gallery", tower_path) as back:
        done = back.curation.take(tmp_path / kind)
        assert (len(done.samples.enrolled), done.samples.refused, done.settings) == (14, [], True)
        assert told(back) == told(pictures) and stale(back) == 0
        assert {row.name: row.tags for row in back.identities()}["p0"] == {"site": "north", "k": "v"}
        for probe in (person(1, 3), person(8, 2)):
            one, other = back.identify(probe), pictures.identify(probe)
            assert (one.verdict, one.identity, one.distance) == (other.verdict, other.identity, other.distance)
        back.curation.export(tmp_path / f"again-{kind}")
        again = back.curation.take(tmp_path / kind)  # a second time changes nothing
        assert (len(again.samples.enrolled), len(again.samples.already), again.strangers) == (0, 14, 0)
    if kind == "folder":
        files = sorted(p.relative_to(tmp_path / kind) for p in (tmp_path / kind).rglob("*") if p.is_file())
        assert files == sorted(
            p.relative_to(tmp_path / f"again-{kind}") for p in (tmp_path / f"again-{kind}").rglob("*") if p.is_file()
        )
        for file in files:
            assert (tmp_path / kind / file).read_bytes() == (tmp_path / f"again-{kind}" / file).read_bytes(), file
        assert len([f for f in files if f.suffix == ".png"]) == 17
    elif kind != "all.parquet":
        assert (tmp_path / kind).read_bytes() == (tmp_path / f"again-{kind}").read_bytes()
    assert examine(tmp_path / "b.gallery").findings == ()


def test_an_import_that_was_interrupted_is_repeated_to_the_same_end(file_gallery, tmp_path):
    rng = np.random.default_rng(0)
    file_gallery.enroll_many_vectors([f"p{n}" for n in range(1400)], unit(rng, 1400), conflicts="allow")
    file_gallery.calibrate_vectors(fpir=0.07, fusion="mean", names=["s1", "s2"], vectors=unit(rng, 2))
    file_gallery.curation.export(tmp_path / "all.jsonl")

    def stop(_):
        raise KeyboardInterrupt

    with Gallery.create(tmp_path / "back.gallery", dimension=8) as back:
        with pytest.raises(KeyboardInterrupt):
            back.curation.take(tmp_path / "all.jsonl", conflicts="allow", progress=stop)
        assert len(back.samples()) == 1024
        back.curation.take(tmp_path / "all.jsonl", conflicts="allow")
        assert content(back) == content(file_gallery)
        revision = back.revision
        back.curation.take(tmp_path / "all.jsonl", conflicts="allow")
        assert back.revision == revision  # nothing was new


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_taken_along_too(place, tmp_path, kind):
    rng = np.random.default_rng(0)
    with Gallery.create(place, dimension=8, fpir=0.1) as gallery:
        gallery.enroll_vectors([f"p{n // 2}" for n in range(12)], unit(rng, 12), conflicts="allow")
        gallery.calibrate_vectors(names=["s1", "s1", "s2"], vectors=unit(rng, 3))
        gallery.curation.export(tmp_path / kind)
        with Gallery.create(tmp_path / "back.gallery", dimension=8) as back:
            back.curation.take(tmp_path / kind, conflicts="allow")
            assert content(back) == content(gallery)
        with (
            Gallery.create(tmp_path / "other.gallery", dimension=9) as other,
            pytest.raises(BadInput, match="8 numbers"),
        ):
            other.curation.take(tmp_path / kind)


def test_another_tower_embeds_the_pictures_anew(pictures, tower_file, tmp_path, person):
    from dataclasses import replace

    pictures.curation.export(tmp_path / "all.jsonl")
    pictures.curation.export(tmp_path / "bare.jsonl", pictures=False)
    other = replace(tower_file, onnx=tower_file.onnx + b"\x72\x00")
    with Gallery.create(tmp_path / "b.gallery", other) as back:
        done = back.curation.take(tmp_path / "bare.jsonl")
        assert len(done.samples.refused) == 17 and "of another tower" in str(done.samples.refused[0].error)
        done = back.curation.take(tmp_path / "all.jsonl", conflicts="allow")
        assert len(done.samples.enrolled) == 14 and done.strangers == 3
        wanted = pictures.identify(person(1, 0)).distance
        assert back.identify(person(1, 0)).distance == pytest.approx(wanted, abs=1e-3)


def test_galleries_are_joined_and_conflicts_listed(pictures, tower_path, tmp_path, person):
    with Gallery.create(tmp_path / "b.gallery", tower_path) as other:
        other.enroll_many(
            [("p0", person(0, 3)), ("new", person(6, 3)), ("wrong", person(1, 0)), ("p9", person(10, 0))],
            conflicts="allow",
        )
        other.tag("p0", {"site": "south", "more": "1"})
    done = pictures.curation.take(tmp_path / "b.gallery")
    assert ("p9", str(person(10, 0))) in done.samples.enrolled or done.samples.refused
    assert ["already enrolled as '../up'" in str(r.error) for r in done.samples.refused if r.name == "wrong"] == [True]
    assert {row.name: row.tags for row in pictures.identities()}["p0"] == {"site": "north", "k": "v", "more": "1"}
    assert not done.settings and pictures.threshold().evidence.target_fpir == 0.05


def test_a_folder_of_known_people(gallery, person, tmp_path):
    (tmp_path / "known").mkdir()
    for n, name in enumerate(["ada", "bob"]):
        shutil.copy(person(n, 0), tmp_path / "known" / f"{name}.png")
        shutil.copy(person(n, 1), tmp_path / "known" / f"{name}-2.png")
    assert len(gallery.curation.take(tmp_path / "known").samples.enrolled) == 4
    assert {row.name: row.samples for row in gallery.identities()} == {"ada": 2, "bob": 2}


HEAD = "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\nDROP TABLE subject;\n"


def test_a_dump_of_compreface(file_gallery, gallery, person, tmp_path):
    """As pg_dump writes its tables: subjects, vectors, and pictures where they were kept."""
    rng = np.random.default_rng(0)
    rows = unit(rng, 3).tolist()
    numbers = ["{" + ",".join(map(repr, row)) + "}" for row in rows]
    picture = "\\\\x" + person(0, 0).read_bytes().hex()
    (tmp_path / "c.sql").write_text(
        f"{HEAD}COPY public.subject (id, api_key, subject_name) FROM stdin;\ns1\tk\tAda \\\\B\ns2\tk\tBöb\n\\.\n\n"
        "COPY public.embedding (id, subject_id, embedding, calculator, img_id) FROM stdin;\n"
        f"e1\ts1\t{numbers[0]}\tmobilenet\ti1\ne2\ts1\t{numbers[1]}\tmobilenet\t\\N\ne3\ts2\t{numbers[2]}\tmobilenet\t\\N\n\\.\n"
        f"COPY public.img (id, content) FROM stdin;\ni1\t{picture}\n\\.\n"
    )
    file_gallery.curation.take(tmp_path / "c.sql", conflicts="allow")
    assert {row.name: row.samples for row in file_gallery.identities()} == {"Ada \\B": 2, "Böb": 1}
    assert np.allclose(file_gallery.template(1), rows[0], atol=1e-6)
    done = gallery.curation.take(tmp_path / "c.sql")  # one of pictures takes the picture
    assert len(done.samples.enrolled) == 1 and len(done.samples.refused) == 2


def test_a_dump_of_deepface(file_gallery, tmp_path):
    rng = np.random.default_rng(0)
    numbers = ["{" + ",".join(map(repr, row)) + "}" for row in unit(rng, 3).tolist()]
    columns = "id, img_name, face, face_shape, model_name, detector_backend, aligned, l2_normalized, embedding"
    names = ["db/ada/1.jpg", "db/ada/2.jpg", "bob-1.jpg"]
    lines = [
        f"{i}\t{n}\t\\\\x00\t{{1}}\tFacenet\topencv\tt\tf\t{v}"
        for i, (n, v) in enumerate(zip(names, numbers, strict=True))
    ]
    (tmp_path / "d.sql").write_text(
        f"{HEAD}COPY public.embeddings ({columns}) FROM stdin;\n" + "\n".join(lines) + "\n\\.\n"
    )
    file_gallery.curation.take(tmp_path / "d.sql", conflicts="allow")
    assert {row.name: row.samples for row in file_gallery.identities()} == {"ada": 2, "bob": 1}
    for wrong, said in (("PGDMP\x01", "packed"), (HEAD, "neither")):
        (tmp_path / "w.dump").write_text(wrong)
        with pytest.raises(BadInput, match=said):
            file_gallery.curation.take(tmp_path / "w.dump")


def test_exports_that_are_not_what_they_should_be(file_gallery, tmp_path):
    good = tmp_path / "all.jsonl"
    file_gallery.enroll_vectors(["a"], unit(np.random.default_rng(0), 1))
    file_gallery.curation.export(good)
    head, line, end = good.read_text().splitlines()
    row = json.loads(line)
    for changed in (
        f"{head.replace('export 1', 'export 2')}\n{line}\n{end}\n",
        f"{head}\n{line}\n",  # cut short
        f"{head.replace('0.01', '7')}\n{line}\n{end}\n",
        f"{head.replace('0.01', '[]')}\n{line}\n{end}\n",
        *(
            f"{head}\n{json.dumps({**row, **wrong})}\n{end}\n"
            for wrong in (
                {"role": "owner"}, {"digest": "00"}, {"picture": "!"}, {"picture": 5}, {"vector": "x"}, {"vector": [[1]]},
                {"vector": [10**400]}, {"source": "\ud800"}, {"source": "x" * 5000}, {"name": None},
            )
        ),
        f"{head}\n{line[:-9]}\n{end}\n",
        "",
        "[" * 100_000,
    ):  # fmt: skip
        (tmp_path / "bad.jsonl").write_text(changed)
        revision = file_gallery.revision
        with pytest.raises(BadInput):
            file_gallery.curation.take(tmp_path / "bad.jsonl")
        assert file_gallery.revision == revision
    file_gallery.curation.export(tmp_path / "f")
    table = (tmp_path / "f" / "metadata.csv").read_text()
    (tmp_path / "f" / "metadata.csv").write_text(table.replace("\n,a", "\n../all.jsonl,a"))
    with pytest.raises(BadInput, match="outside"):
        file_gallery.curation.take(tmp_path / "f")
    for there in ("all.jsonl", "f"):
        with pytest.raises(BadInput):
            file_gallery.curation.export(tmp_path / there)


def changed_npz(path, out, **arrays):
    with np.load(path) as found:
        np.savez(out, **{**{key: found[key] for key in found.files}, **arrays})


def test_arrays_that_are_not_what_they_should_be(pictures, tower_path, tmp_path):
    """Nothing of them is taken in before all of a part is understood, and nothing is unpickled."""
    pictures.curation.export(tmp_path / "all.npz")
    bad = tmp_path / "bad.npz"
    with Gallery.create(tmp_path / "b.gallery", tower_path) as gallery, np.load(tmp_path / "all.npz") as found:
        count = len(found["roles"])
        wrong = [
            {"about": np.array("{}")}, {"about": np.array(["a", "b"])}, {"about": np.array([{}], object)},
            {"names": np.array([[1]] * count)}, {"names": np.array([b"\xff"] * count)}, {"roles": np.array(["owner"] * count)},
            {"vectors": np.ones(count, np.float32)}, {"vectors": np.array(["x"] * count)}, {"digests": np.ones(count)},
            {"ends": np.array([-1.5] * count)}, {"ends": np.array(["x"] * count)}, {"pictures": np.array(["x"])},
            {"names": found["names"][1:]}, {"ends": found["ends"][::-1]}, {"ends": found["ends"] + 10**9}, {"roles": np.array(0)},
        ]  # fmt: skip
        for arrays in wrong:
            changed_npz(tmp_path / "all.npz", bad, **arrays)
            with pytest.raises(BadInput):
                gallery.curation.take(bad)
            assert gallery.identities() == [], arrays
        whole = (tmp_path / "all.npz").read_bytes()
        for cut in (0, 30, len(whole) // 2, len(whole) - 5):
            bad.write_bytes(whole[:cut])
            with pytest.raises(BadInput):
                gallery.curation.take(bad)
        # A picture that nobody can look at is refused, also where its vector could be used.
        changed_npz(tmp_path / "all.npz", bad, pictures=np.zeros_like(found["pictures"]))
        done = gallery.curation.take(bad)
        assert len(done.samples.refused) == 17 and gallery.identities() == []


@NEEDS_ARROW
def test_columns_that_are_not_what_they_should_be(pictures, tower_path, tmp_path):
    import pyarrow
    from pyarrow import parquet

    pictures.curation.export(tmp_path / "all.parquet")
    table, bad = parquet.read_table(tmp_path / "all.parquet"), tmp_path / "bad.parquet"
    with Gallery.create(tmp_path / "b.gallery", tower_path) as gallery:
        for name, column in (
            ("role", ["owner"] * len(table)), ("name", [7] * len(table)), ("name", [None] * len(table)),
            ("digest", [b"\x00"] * len(table)), ("picture", ["text"] * len(table)), ("vector", [[["x"]]] * len(table)),
            ("vector", [{"a": 1}] * len(table)), ("source", ["s" * 5000] * len(table)),
        ):  # fmt: skip
            changed = table.set_column(table.schema.get_field_index(name), name, pyarrow.array(column))
            parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), bad)
            with pytest.raises(BadInput):
                gallery.curation.take(bad)
        for gone in table.column_names:
            parquet.write_table(table.drop_columns([gone]), bad)
            with pytest.raises(BadInput):
                gallery.curation.take(bad)
        bad.write_bytes((tmp_path / "all.parquet").read_bytes()[:-20])
        with pytest.raises(BadInput):
            gallery.curation.take(bad)
        assert gallery.identities() == []


def test_a_folder_that_is_not_what_it_should_be(pictures, tower_path, tmp_path):
    pictures.curation.export(tmp_path / "f")
    with Gallery.create(tmp_path / "b.gallery", tower_path) as gallery:
        for file in ("gallery.json", "metadata.csv", "strangers.csv", "vectors.npy"):
            whole = (tmp_path / "f" / file).read_bytes()
            for wrong in (b"", whole[: len(whole) // 2], b"\xff\x00" * 50, whole.replace(b"identity", b"identitz")):
                if wrong == whole:
                    continue
                (tmp_path / "f" / file).write_bytes(wrong)
                with pytest.raises(BadInput):
                    gallery.curation.take(tmp_path / "f")
            (tmp_path / "f" / file).write_bytes(whole)
        next((tmp_path / "f").rglob("0001.png")).unlink()
        with pytest.raises(SiameseIndexError):
            gallery.curation.take(tmp_path / "f")


def test_the_command_line(pictures, tower_path, tmp_path, sidx):
    done = sidx("export", "all.npz", "-g", "a.gallery")
    assert done.returncode == 0 and "all.npz holds" in done.stderr, done.stderr
    done = sidx("import", "all.npz", "--tower", tower_path, "-g", "new.gallery")
    assert done.returncode == 0 and "14 enrolled" in done.stderr and "taken over" in done.stderr, done.stderr
    assert sidx("samples", "export", 1, 2, "--to", "two", "-g", "a.gallery").returncode == 0
    assert len(list((tmp_path / "two").rglob("*.png"))) == 2
    assert images.decode(next((tmp_path / "two").rglob("*.png")).read_bytes(), 1).size
    assert sidx("export", "all.npz", "-g", "a.gallery").returncode == 2
    assert sidx("import", "nothing.npz", "-g", "a.gallery").returncode == 4
    assert sidx("export", "bare.jsonl", "--no-pictures", "-g", "a.gallery").returncode == 0
    (tmp_path / "bare.jsonl").write_text(
        (tmp_path / "bare.jsonl").read_text().replace(f'"{pictures.tower.id}"', '"other"')
    )
    none = sidx("import", "bare.jsonl", "--tower", tower_path, "-g", "none.gallery")
    assert none.returncode == 3 and "No gallery was made." in none.stderr and "taken over" not in none.stderr
    assert not (tmp_path / "none.gallery").exists()
