"""What CompreFace's clients send and read, route by route, against a live service."""

import base64
from uuid import UUID

import pytest

from siamese_index import Gallery
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from tests.server.live import serving

API = "/api/v1"
RECOGNITION = f"{API}/recognition"


@pytest.fixture(scope="module")
def clients(tower_path, tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "glyphs.gallery"
    with Gallery.create(place, tower_path, fpir=0.1) as gallery:
        gallery.enroll_many([(f"g{n}", images.encode(glyph(300 + n, hand))) for n in range(10) for hand in range(2)])
        gallery.calibrate(strangers_given=[(f"s{n}", images.encode(glyph(400 + n, 0))) for n in range(40)])
    with serving(place, "--compat", "compreface") as client:
        client.headers["x-api-key"] = "00000000-0000-0000-0000-000000000002"  # whatever they have: there are no keys
        client.place = place
        yield client


def shown(number, hand):
    return images.encode(glyph(300 + number, hand))


def test_subjects(clients):
    assert clients.get(f"{RECOGNITION}/subjects").json() == {"subjects": sorted(f"g{n}" for n in range(10))}
    made = clients.post(f"{RECOGNITION}/subjects", json={"subject": "ada", "api_endpoint": "x"})
    assert (made.status_code, made.json()) == (201, {"subject": "ada"})
    again = clients.post(f"{RECOGNITION}/subjects", json={"subject": "ada"})
    assert (again.status_code, again.json()["code"]) == (400, 43)
    assert clients.put(f"{RECOGNITION}/subjects/ada", json={"subject": "Ada & co"}).json() == {"updated": True}
    face = clients.post(
        f"{RECOGNITION}/faces?subject=Ada%20%26%20co&det_prob_threshold=0.8", files={"file": ("a", shown(20, 0))}
    )
    assert face.status_code == 201 and face.json()["subject"] == "Ada & co" and UUID(face.json()["image_id"])
    assert clients.put(f"{RECOGNITION}/subjects/Ada%20%26%20co", json={"subject": "g9"}).json() == {
        "updated": True
    }  # merged
    assert "Ada & co" not in clients.get(f"{RECOGNITION}/subjects").json()["subjects"]
    with Gallery.open(clients.place) as gallery:
        assert {row.name: row.samples for row in gallery.identities()}["g9"] == 3
    for answer in (
        clients.put(f"{RECOGNITION}/subjects/nobody", json={"subject": "x"}), clients.delete(f"{RECOGNITION}/subjects/nobody"),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["code"]) == (404, 42) and "result" not in answer.json()
    assert clients.post(f"{RECOGNITION}/faces?subject=tmp", files={"file": shown(21, 0)}).status_code == 201
    assert clients.delete(f"{RECOGNITION}/subjects/tmp").json() == {"subject": "tmp"}
    clients.post(f"{RECOGNITION}/subjects", json={"subject": "both"})  # announced, then enrolled otherwise
    clients.post(f"{API}/samples?identity=both&conflict=true", files={"file": shown(23, 0)})
    assert clients.delete(f"{RECOGNITION}/subjects/both").status_code == 200
    assert clients.get(f"{API}/identities/both").status_code == 404
    assert clients.post(f"{RECOGNITION}/subjects", json={"subject": None}).status_code == 400


def test_faces(clients):
    page = clients.get(f"{RECOGNITION}/faces?page=0&size=5&subject=").json()
    assert (
        len(page["faces"]) == 5
        and page["total_elements"] == page["total_pages"] * 5 + (page["total_elements"] % 5 or 5) - 5
    )
    assert set(page) == {"faces", "page_number", "page_size", "total_pages", "total_elements"}
    coded = {"file": base64.b64encode(shown(22, 0)).decode()}
    ids = [clients.post(f"{RECOGNITION}/faces?subject=f", json=coded).json()["image_id"]]
    assert clients.post(f"{RECOGNITION}/faces?subject=f", json=coded).json()["image_id"] == ids[0]  # the same picture
    ids += [
        clients.post(f"{RECOGNITION}/faces?subject=f", files={"file": shown(22, h)}).json()["image_id"]
        for h in (1, 2, 3)
    ]
    assert images.decode(clients.get(f"{RECOGNITION}/faces/{ids[0]}/img").content, 1).size
    assert images.decode(clients.get(f"{API}/static/key/images/{ids[0]}").content, 1).size
    assert clients.delete(f"{RECOGNITION}/faces/{ids[0]}").json() == {"image_id": ids[0], "subject": "f"}
    assert clients.get(f"{RECOGNITION}/faces/{ids[0]}/img").content == b""
    gone = clients.delete(f"{RECOGNITION}/faces/{ids[0]}")
    assert (gone.status_code, gone.json()["code"]) == (404, 44)
    assert clients.delete(f"{RECOGNITION}/faces/none").status_code == 404
    both = clients.post(f"{RECOGNITION}/faces/delete", json=ids[1:3]).json()
    assert both == [{"image_id": each, "subject": "f"} for each in ids[1:3]]
    assert clients.delete(f"{RECOGNITION}/faces?subject=f").json() == {"deleted": 1}
    assert "f" in clients.get(f"{RECOGNITION}/subjects").json()["subjects"]  # a subject stays without its pictures
    assert clients.delete(f"{RECOGNITION}/subjects/f").status_code == 200


@pytest.mark.parametrize(
    "query",
    ["?&limit=0", "?limit=&prediction_count=2&status=True&face_plugins=&threshold=", "?status=false&detect_faces=true"],
)
def test_recognition(clients, query):
    for files in ({"file": ("f.jpg", shown(3, 0))}, {"file": ("f", shown(3, 0), "")}):
        found = clients.post(f"{RECOGNITION}/recognize{query}", files=files).json()["result"]
        assert (
            len(found) == 1
            and found[0]["subjects"][0]["subject"] == "g3"
            and found[0]["subjects"][0]["similarity"] >= 0.5
        )
        assert found[0]["box"] == {"probability": 1.0, "x_min": 0, "y_min": 0, "x_max": 64, "y_max": 64}
        assert len(found[0]["subjects"]) == (2 if "prediction_count=2" in query else 1)
        assert ("execution_time" in found[0]) == ("status=True" in query)


def test_unknown_is_less_than_half_and_never_without_a_subject(clients):
    found = clients.post(f"{RECOGNITION}/recognize?face_plugins=calculator", files={"file": shown(60, 0)}).json()[
        "result"
    ][0]
    assert found["subjects"][0]["similarity"] < 0.5 and len(found["embedding"]) == 32


def test_verification_and_detection(clients):
    same = {"source_image": shown(4, 5), "target_image": shown(4, 5)}
    found = clients.post(f"{API}/verification/verify", files=same).json()["result"][0]
    assert found["face_matches"][0]["similarity"] == 1 and found["source_image_face"]["box"]["x_max"] == 64
    face = clients.get(f"{RECOGNITION}/faces?subject=g4").json()["faces"][0]["image_id"]
    near = clients.post(f"{RECOGNITION}/faces/{face}/verify?limit=0", files={"file": shown(4, 0)}).json()["result"][0]
    assert near["subject"] == "g4" and near["similarity"] > 0.9
    assert len(clients.post(f"{API}/detection/detect", files={"file": shown(4, 0)}).json()["result"]) == 1


def test_failures_are_json_with_a_message_and_no_result(clients):
    import numpy as np

    blank = images.encode(np.full((64, 64, 1), 200, np.uint8))
    for answer, status, code in (
        (clients.post(f"{RECOGNITION}/recognize", files={"file": blank}), 400, 28),
        (clients.post(f"{RECOGNITION}/recognize", files={"file": b"nothing"}), 400, 0),
        (clients.post(f"{RECOGNITION}/recognize", files={"other": shown(1, 0)}), 400, 34),
        (clients.post(f"{RECOGNITION}/recognize", json={"file": "%%%"}), 400, 0),
        (clients.post(f"{RECOGNITION}/recognize", content=b"["), 400, 34),
        (clients.post(f"{RECOGNITION}/faces?subject=", files={"file": shown(1, 0)}), 400, 0),
        (clients.post(f"{RECOGNITION}/faces?subject=other", files={"file": shown(1, 0)}), 400, 0),  # enrolled as g1
        (clients.post(f"{API}/verification/verify", files={"source_image": shown(1, 0)}), 400, 34),
    ):
        told = answer.json()
        assert (answer.status_code, told["code"]) == (status, code), told
        assert told["message"] and "result" not in told


def test_an_empty_gallery_knows_no_face_and_everything_can_be_deleted(tower_path, tmp_path, sidx):
    with Gallery.create(tmp_path / "g.gallery", tower_path):
        pass
    key = sidx("keys", "add", "dt", "--role", "admin", "--file", "k.json").stdout.strip()
    with serving(tmp_path / "g.gallery", "--compat", "compreface", "--api-key-file", tmp_path / "k.json") as clients:
        none = clients.get(f"{RECOGNITION}/subjects")
        assert (none.status_code, none.json()["code"]) == (401, 20)
        clients.headers["x-api-key"] = key
        empty = clients.post(f"{RECOGNITION}/recognize", files={"file": shown(1, 0)})
        assert (empty.status_code, empty.json()["code"]) == (400, 28)
        for n in range(3):
            clients.post(f"{RECOGNITION}/faces?subject=s{n}", files={"file": shown(n, 0)})
        assert clients.delete(f"{RECOGNITION}/subjects").json() == {"deleted": 3}
        assert clients.get(f"{RECOGNITION}/subjects").json() == {"subjects": []}
    assert sidx("serve", "--compat", "other", "-g", "g.gallery").returncode == 2


def test_a_key_to_enroll_removes_one_subjects_pictures_and_not_all(tower_path, tmp_path, sidx):
    place = tmp_path / "g.gallery"
    with Gallery.create(place, tower_path) as gallery:
        gallery.enroll_many([(f"g{n}", images.encode(glyph(300 + n, 0))) for n in range(3)])
    key = sidx("keys", "add", "door", "--role", "enroll", "--file", "keys.json").stdout.split()[-1]
    with serving(place, "--compat", "compreface", "--api-key-file", tmp_path / "keys.json") as service:
        faces, headers = "/api/v1/recognition/faces", {"x-api-key": key}
        assert service.delete(faces, headers=headers).status_code == 403
        assert service.delete(faces, params={"subject": "g1"}, headers=headers).json() == {"deleted": 1}
        assert service.get("/api/v1/gallery", headers=headers).json()["identities"] == 2
