"""The service over HTTP, by a real process: the same answers as the command line, and nothing for those who may not."""

import itertools
import json
import socket
import threading

import httpx
import numpy as np
import pytest

from siamese_index import Gallery
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from tests.server.live import serving

API = "/api/v1"


@pytest.fixture(scope="module")
def known(tower_path, world, tmp_path_factory):
    """A gallery of twelve glyphs by two hands, with strangers."""
    place = tmp_path_factory.mktemp("served") / "glyphs.gallery"
    with Gallery.create(place, tower_path, fpir=0.1) as gallery:
        gallery.enroll_many(
            [(f"glyph {n}", images.encode(glyph(300 + n, hand))) for n in range(12) for hand in range(2)]
        )
        gallery.calibrate(strangers_given=[(f"s{n}", images.encode(glyph(400 + n, 0))) for n in range(40)])
        gallery.log(True)
    return place


@pytest.fixture(scope="module")
def service(known):
    with serving(known) as client:
        yield client


def shown(number, hand, name="probe.png"):
    return {"file": (name, images.encode(glyph(300 + number, hand)))}


def refused(answer, status, kind):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["type"] == f"urn:siamese-index:problem:{kind}" and told["status"] == status and told["detail"]
    assert "Traceback" not in answer.text and ".py" not in answer.text
    return told


def test_the_answers_are_those_of_the_command_line(service, known, tmp_path, sidx):
    for n in (0, 5, 20):
        (tmp_path / f"{n}.png").write_bytes(images.encode(glyph(300 + n, 7)))
    paths = [str(tmp_path / f"{n}.png") for n in (0, 5, 20)]
    done = sidx("identify", *paths, "--json", "--exit-zero", "-g", known)
    wanted = [json.loads(line) for line in done.stdout.splitlines()]
    files = [("file", (path, (tmp_path / path).read_bytes())) for path in paths]
    found = service.post(f"{API}/identifications", files=files).json()
    assert found["refused"] == []
    for one, other in zip(found["answers"], wanted, strict=True):
        assert one.pop("answer") > other.pop("answer") > 0  # each is on record
        del one["ms"], other["ms"]
        assert one == other
    lines = service.post(f"{API}/identifications", files=files, headers={"Accept": "application/x-ndjson"}).text
    assert [json.loads(line)["identity"] for line in lines.splitlines()] == [row["identity"] for row in wanted]
    one = service.post(f"{API}/identifications?k=1", content=(tmp_path / "0.png").read_bytes()).json()["answers"]
    assert len(one) == 1 and len(one[0]["candidates"]) == 1


def test_one_picture_of_several_that_cannot_be_read_costs_the_others_nothing(service):
    files = [("file", ("good.png", shown(0, 7)["file"][1])), ("file", ("bad.png", b"no picture"))]
    found = service.post(f"{API}/identifications", files=files).json()
    assert len(found["answers"]) == 1
    assert [(each["source"], each["code"]) for each in found["refused"]] == [("bad.png", "unreadable")]
    refused(service.post(f"{API}/identifications", files=files[1:]), 422, "unreadable")


@pytest.mark.parametrize(
    ("query", "body", "status", "kind"),
    [
        ("?k=0", True, 422, "bad_input"), ("?fpir=2", True, 422, "bad_input"), ("?fpir=0.1&threshold=1", True, 422, "bad_input"),
        ("?tag=nothing", True, 400, "tag"), ("?exclude=", True, 422, "bad_input"), ("", False, 400, "no_picture"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_problem(service, query, body, status, kind):
    refused(service.post(f"{API}/identifications{query}", files=shown(0, 7) if body else None), status, kind)


def test_who_is_enrolled_can_be_seen_and_changed(service):
    made = service.post(f"{API}/samples?identity=new/one%20%26%20more", files=shown(30, 0))
    assert made.status_code == 201 and made.json()["enrolled"][0]["identity"] == "new/one & more"
    assert service.post(f"{API}/samples?identity=new/one%20%26%20more", files=shown(30, 0)).status_code == 200
    page = service.get(f"{API}/identities?limit=5").json()
    assert len(page["identities"]) == 5 and page["next"] == page["identities"][-1]["name"]
    names, after = [], ""
    while after is not None:
        page = service.get(f"{API}/identities", params={"limit": 5, "after": after}).json()
        names, after = names + [row["name"] for row in page["identities"]], page["next"]
    assert len(names) == len(set(names)) == 13
    name = "new%2Fone%20%26%20more"
    seen = service.get(f"{API}/identities/{name}").json()
    assert seen["samples"] == 1 and seen["sample_rows"][0]["other"]
    sample = seen["sample_rows"][0]["id"]
    small = service.get(f"{API}/samples/{sample}/thumbnail")
    assert small.headers["content-type"] == "image/png" and images.decode(small.content, 1).size
    again = service.get(f"{API}/samples/{sample}/thumbnail", headers={"If-None-Match": small.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    assert service.patch(f"{API}/identities/{name}", json={"tags": {"site": "north"}}).json()["tags"] == {
        "site": "north"
    }
    found = service.get(f"{API}/identities?tag=site=north").json()["identities"]
    assert [row["sample"] for row in found] == [sample]
    assert service.patch(f"{API}/identities/{name}", json={"name": "nn"}).json()["name"] == "nn"
    refused(service.patch(f"{API}/identities/nn", json={"name": "glyph 1"}), 422, "bad_input")
    refused(service.get(f"{API}/identities/{name}"), 404, "missing")
    assert service.delete(f"{API}/identities/nn").json() == {"count": 1}
    assert service.get(f"{API}/removed").json()["identities"][0]["name"] == "nn"
    assert service.post(f"{API}/restorations", json={"identity": "nn"}).json() == {"count": 1}
    newest = service.get(f"{API}/history?limit=1").json()[0]["revision"]
    late = refused(service.post(f"{API}/undo", params={"revision": newest - 1}), 409, "outdated")
    assert late["detail"].startswith("glyphs.gallery: the newest change is not")  # not where it lies
    undone = service.post(f"{API}/undo", params={"count": 2, "revision": newest}).json()
    assert [row["verb"] for row in undone] == ["restore", "remove"]
    gone = service.post(f"{API}/purges", json={"identities": ["nn"]}).json()
    assert gone["identities"] == 1 and gone["swept"]
    assert service.get(f"{API}/gallery").json()["identities"] == 12


def test_head_and_the_methods_that_an_address_has(service):
    known = service.get(f"{API}/identities/glyph 1")
    asked = service.head(f"{API}/identities/glyph 1")
    assert asked.status_code == 200 and asked.content == b""
    assert asked.headers["content-length"] == str(len(known.content))
    for method, path, allowed in (
        ("POST", f"{API}/identities/glyph 1", "DELETE, GET, HEAD, PATCH"),
        ("DELETE", f"{API}/audit", "GET, HEAD, POST"),
        ("PUT", f"{API}/merges", "POST"),
        ("POST", "/page/app.js", "GET, HEAD"),
    ):
        answer = service.request(method, path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


def test_an_address_that_is_no_text_is_refused(service):
    refused(service.get(f"{API}/identities/%ff"), 400, "address")
    refused(service.get(f"{API}/identities/%EF%BF%BD"), 404, "missing")  # the character itself is a name


def test_an_identity_is_created_from_its_first_pictures_once(service):
    made = service.post(f"{API}/identities?name=created", files=shown(60, 0))
    assert made.status_code == 201 and made.json()["enrolled"][0]["identity"] == "created"
    refused(service.post(f"{API}/identities?name=created", files=shown(60, 1)), 409, "exists")
    refused(service.post(f"{API}/identities?name=empty"), 400, "no_picture")
    assert service.delete(f"{API}/identities/created").json() == {"count": 1}
    service.post(f"{API}/undo", params={"count": 2})


def test_where_all_pictures_are_refused_nothing_looks_well(service):
    bad = [("file", (f"{n}.png", b"no picture")) for n in range(2)]
    refused(service.post(f"{API}/samples?identity=nobody", files=bad), 422, "unreadable")
    refused(service.patch(f"{API}/identities/glyph 1", json={"merge": "true"}), 422, "bad_input")  # no boolean


def test_a_request_with_a_key_is_answered_once(service):
    key = {"Idempotency-Key": "abc"}
    before = service.get(f"{API}/gallery").json()["samples"]
    first = service.post(f"{API}/samples?identity=glyph 3", files=shown(3, 5), headers=key)
    again = service.post(f"{API}/samples?identity=glyph 3", files=shown(3, 5), headers=key)
    assert first.json() == again.json() and first.json()["enrolled"]
    refused(service.post(f"{API}/samples?identity=glyph 3", files=shown(3, 6), headers=key), 422, "other_request")
    assert service.get(f"{API}/gallery").json()["samples"] == before + 1
    refused(service.post(f"{API}/samples?identity=glyph 4", files=shown(3, 5)), 422, "bad_input")  # enrolled as another


def test_a_wrong_answer_is_corrected(service):
    found = service.post(f"{API}/identifications", files=shown(40, 3)).json()["answers"][0]
    assert found["verdict"] == "unknown"
    answer = service.get(f"{API}/answers?limit=1").json()[0]
    assert answer["id"] == found["answer"]
    assert answer["verdict"] == "unknown" and answer["probe"] == "probe.png"
    assert images.decode(service.get(f"{API}/answers/{answer['id']}/picture").content, 1).size
    clusters = service.get(f"{API}/review").json()["clusters"]
    assert any(answer["id"] in each["answers"] for each in clusters)
    done = service.post(f"{API}/answers/{answer['id']}/feedback", json={"identity": "glyph 40"}).json()
    assert done["truth"] == "identity" and done["new"]
    assert service.post(f"{API}/identifications", files=shown(40, 3)).json()["answers"][0]["identity"] == "glyph 40"
    refused(service.post(f"{API}/answers/{answer['id']}/feedback", json={"ignore": True}), 422, "bad_input")
    refused(service.post(f"{API}/answers/1/feedback", json={"owner": "me"}), 422, "bad_input")
    service.post(f"{API}/undo")


def test_the_operating_point_is_told_and_set(service):
    told = service.get(f"{API}/operating-point").json()
    assert told["target_fpir"] == 0.1 and told["non_mated"]["count"] >= 40 and told["mated"]["count"] >= 24
    others = {point["target_fpir"]: point for point in told["others"]}
    assert len(others) == 28 and others[0.1]["threshold"] == told["threshold"] and others[0.1]["promised"]
    assert others[0.1]["misses"] == told["misses"] and others[0.1]["fnir_interval"] == told["fnir_interval"]
    assert all(a["threshold"] <= b["threshold"] for a, b in itertools.pairwise(told["others"]))
    low, high = others[0.1]["fpir_interval"]
    assert low < others[0.1]["false_alarms"] / others[0.1]["non_mated"] < high
    set_ = service.put(f"{API}/operating-point", json={"target_fpir": 0.2}).json()
    assert set_["target_fpir"] == 0.2 and set_["threshold"] >= told["threshold"]
    assert service.put(f"{API}/operating-point", json={"target_fpir": 0.1}).json()["threshold"] == told["threshold"]
    same = service.post(f"{API}/verifications", files=[("a", shown(0, 0)["file"]), ("b", shown(0, 1)["file"])]).json()
    assert same["verdict"] in ("match", "unknown") and same["distance"] < 1
    health = service.get(f"{API}/health").json()
    assert health["problems"] == [] and health["drift"]["alarm"] is False and health["drift"]["says"]
    assert "findings" in service.get(f"{API}/audit").json()
    assert service.get(f"{API}/towers").json()[0]["active"]
    backup = service.post(f"{API}/backups").json()
    assert backup["bytes"] > 0 and backup["file"].endswith(".backup")
    forms = [(f"glyph {n}", ("p.png", images.encode(glyph(300 + n, 8)))) for n in range(4)]
    forms += [("somebody", ("q.png", images.encode(glyph(500, 0))))]
    counted = service.post(f"{API}/evaluations", files=forms).json()
    assert counted["mated"] == 4


def test_metrics_are_what_was_answered(service):
    def count():
        lines = service.get("/metrics").text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}

    before = count()
    service.post(f"{API}/identifications", files=shown(1, 7))
    after = count()
    told = [key for key in after if key.startswith("sidx_answers_total{") and after[key] > before[key]]
    assert (
        len(told) == 1 and after["sidx_identification_seconds_count"] == before["sidx_identification_seconds_count"] + 1
    )
    assert after["sidx_waiting_pictures"] == 0
    assert service.get("/healthz").json() == {"status": "ok"} and service.get("/readyz").json()["status"] == "ok"


def test_pages_of_others_and_other_hosts_are_refused(service):
    url = f"{API}/identifications"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        refused(service.post(url, files=shown(0, 7), headers={"Origin": origin}), 403, "other_page")
    refused(service.post(url, files=shown(0, 7), headers={"Sec-Fetch-Site": "cross-site"}), 403, "other_page")
    for host in ("evil.example", "evil.example:80", "[", ""):
        refused(service.get(f"{API}/gallery", headers={"Host": host}), 421, "other_host")
    assert service.get(f"{API}/gallery", headers={"Host": "localhost"}).status_code == 200
    mine = str(service.base_url).rstrip("/")
    assert service.post(url, files=shown(0, 7), headers={"Origin": mine}).status_code == 200
    told = service.get(f"{API}/gallery").headers
    assert "access-control-allow-origin" not in told and "default-src 'self'" in told["content-security-policy"]


def test_what_is_too_large_is_refused_and_costs_little(service):
    def forever():
        for _ in range(400):
            yield b"x" * 1_000_000

    with socket.create_connection(("127.0.0.1", service.base_url.port)) as large:
        large.sendall(b"POST /api/v1/identifications HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n")
        assert large.recv(4096).startswith(b"HTTP/1.1 413 ")
    try:
        streamed = service.post(f"{API}/identifications", content=forever())
        assert streamed.status_code == 413
    except httpx.WriteError:  # it did not wait for the end
        pass
    import cv2

    bomb = cv2.imencode(".png", np.zeros((20_000, 20_000), np.uint8))[1].tobytes()
    refused(service.post(f"{API}/identifications", content=bomb), 422, "unreadable")
    assert service.post(f"{API}/identifications", files=shown(0, 7)).status_code == 200


def test_slow_and_half_open_connections_stop_nobody(service):
    port, waiting = service.base_url.port, []
    for _ in range(200):
        waiting.append(socket.create_connection(("127.0.0.1", port)))
    for _number in range(50):
        waiting.append(socket.create_connection(("127.0.0.1", port)))
        waiting[-1].sendall(
            b"POST /api/v1/identifications HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\nab"
        )
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(service.post(f"{API}/identifications", files=shown(2, 7)).status_code)
        )
        for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert answers == [200] * 8
    for each in waiting:
        each.close()


def test_keys_have_roles_and_are_revoked(known, tmp_path, sidx):
    place = tmp_path / "copy.gallery"
    with Gallery.open(known) as gallery:
        gallery.backup(place)
    keys = {}
    for role in ("ask", "enroll", "admin"):
        made = sidx("keys", "add", role, "--role", role, "--file", "keys.json")
        keys[role] = {"x-api-key": made.stdout.strip()}
        assert len(made.stdout.strip()) >= 40
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    assert all(key["x-api-key"] not in (tmp_path / "keys.json").read_text() for key in keys.values())
    rows = [json.loads(line) for line in sidx("keys", "list", "--file", "keys.json", "--json").stdout.splitlines()]
    assert [row["role"] for row in rows] == ["ask", "enroll", "admin"] and "sha256" not in rows[0]
    with serving(place, "--api-key-file", tmp_path / "keys.json", "--host", "0.0.0.0") as service:
        service.base_url = f"http://127.0.0.1:{service.base_url.port}"
        ask, enroll = f"{API}/identifications", f"{API}/samples?identity=glyph 1"
        refused(service.post(ask, files=shown(0, 7)), 401, "no_key")
        refused(service.get("/metrics"), 401, "no_key")
        refused(service.post(ask, files=shown(0, 7), headers={"x-api-key": "x"}), 401, "no_key")
        assert service.post(ask, files=shown(0, 7), headers=keys["ask"]).status_code == 200
        bearer = {"Authorization": f"Bearer {keys['ask']['x-api-key']}"}
        assert service.get("/metrics", headers=bearer).status_code == 200
        refused(service.post(enroll, files=shown(1, 9), headers=keys["ask"]), 403, "not_allowed")
        assert service.post(enroll, files=shown(1, 9), headers=keys["enroll"]).status_code == 201
        refused(service.post(f"{API}/purges", json={"identities": ["x"]}, headers=keys["enroll"]), 403, "not_allowed")
        refused(service.post(f"{API}/purges", json={"identities": ["x"]}, headers=keys["admin"]), 404, "missing")
        assert service.get("/healthz").status_code == 200
        assert sidx("keys", "revoke", rows[0]["id"], "--file", "keys.json").returncode == 0
        refused(service.post(ask, files=shown(0, 7), headers=keys["ask"]), 401, "no_key")
        refused(service.post(f"{API}/undo", headers=keys["enroll"]), 403, "not_allowed")
        stored = (tmp_path / "keys.json").read_text()
        for broken in ("{", stored.replace('"sha256": "', '"sha256": ["').replace('"\n  }', '"]\n  }')):
            (tmp_path / "keys.json").write_text(broken)
            refused(service.post(ask, files=shown(0, 7), headers=keys["admin"]), 503, "keys")
        (tmp_path / "keys.json").unlink()
        refused(service.post(ask, files=shown(0, 7), headers=keys["admin"]), 503, "keys")
        (tmp_path / "keys.json").write_text(stored)
        for role, header in keys.items():
            assert service.get(f"{API}/gallery", headers=header).json().get("role", "ask") == role, role
    assert sidx("keys", "revoke", "nobody", "--file", "keys.json").returncode == 4
    assert sidx("keys", "add", "x", "--role", "owner", "--file", "keys.json").returncode == 2
    (tmp_path / "other.json").write_text('{"mine": 1}')
    assert sidx("keys", "add", "x", "--file", "other.json").returncode == 6
    assert json.loads((tmp_path / "other.json").read_text()) == {"mine": 1}


def test_nobody_is_let_in_by_mistake(known, tmp_path, sidx):
    open_ = sidx("serve", "--host", "0.0.0.0", "-g", known)
    assert open_.returncode == 2 and "there are no keys" in open_.stderr and "sidx keys add" in open_.stderr
    assert sidx("serve", "--api-key-file", "none.json", "-g", known).returncode == 4
    assert sidx("serve", "-g", "none.gallery").returncode == 4
    taken = sidx("serve", "--host", "203.0.113.1", "--api-key-file", "k.json", "-g", known)
    assert taken.returncode == 4
    with serving(known, "--read-only") as service:
        assert service.post(f"{API}/identifications", files=shown(0, 7)).status_code == 200
        refused(service.post(f"{API}/samples?identity=x", files=shown(0, 9)), 403, "read_only")
        refused(service.delete(f"{API}/identities/glyph 1"), 403, "read_only")
        assert service.get(f"{API}/samples/1/picture").status_code == service.get(f"{API}/audit").status_code == 200


def test_a_gallery_of_vectors_is_asked_by_rows(tmp_path, sidx):
    rows = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    with Gallery.create(tmp_path / "v.gallery", dimension=8) as gallery:
        gallery.enroll_vectors(["a", "b", "c"], rows[:3], conflicts="allow")
    rows[4] = np.nan
    np.save(tmp_path / "many.npy", rows)
    done = sidx("identify", "many.npy", "--json", "--exit-zero", "-g", "v.gallery")
    wanted = [json.loads(line) for line in done.stdout.splitlines()]
    with serving(tmp_path / "v.gallery") as service:
        files = {"file": ("many.npy", (tmp_path / "many.npy").read_bytes())}
        found = service.post(f"{API}/identifications", files=files).json()
    assert [{**row, "ms": 0} for row in found["answers"]] == [{**row, "ms": 0} for row in wanted] and len(wanted) == 5
    assert [each["source"] for each in found["refused"]] == ["many.npy row 4"]


def test_what_a_stranger_tried(service):
    """Each of these answered otherwise once."""
    whole = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + shown(50, 0)["file"][1]
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    cut = whole + b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="b.png"\r\n\r\n' + b"half"
    told = service.post(f"{API}/samples?identity=cut&conflict=true", content=cut, headers=form)
    refused(told, 400, "cut_short")
    refused(service.get(f"{API}/identities/cut"), 404, "missing")
    for kind in ("multipart/form-data; boundary=x; charset=undefined",):
        refused(
            service.post(f"{API}/identifications", content=whole + b"\r\n--x--", headers={"Content-Type": kind}),
            400,
            "form",
        )
    refused(service.post(f"{API}/undo", headers={"Origin": "http://["}), 403, "other_page")
    refused(service.get(f"{API}/history", headers={"Sec-Fetch-Site": "cross-site"}), 403, "other_page")
    refused(service.post(f"{API}/identifications?tag=a=b&tag=a=c", files=shown(0, 7)), 400, "tag")
    service.post(f"{API}/samples?identity=removed&conflict=true", files=shown(51, 0))
    assert service.get(f"{API}/identities/removed").json()["samples"] == 1
    assert service.patch(f"{API}/identities/removed", json={"name": " Bob "}).json()["name"] == "Bob"
    refused(service.patch(f"{API}/identities/Bob", json={"tags": {"x": "y"}, "name": "glyph 1"}), 422, "bad_input")
    assert service.get(f"{API}/identities/Bob").json()["tags"] == {}
    answers = []

    def send():
        key = {"Idempotency-Key": "many"}
        url = f"{API}/samples?identity=Bob&conflict=true"
        answers.append(service.post(url, files=shown(51, 1), headers=key))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {answer.status_code for answer in answers} == {201}
    service.delete(f"{API}/identities/Bob")


def test_what_is_written_is_read_and_asked_at_once(service):
    """By whoever writes, and by the command line beside it."""
    for hand in range(5, 9):
        service.post(f"{API}/samples?identity=glyph 41&conflict=true", files=shown(41, hand))
        assert service.get(f"{API}/identities/glyph 41").json()["samples"] == hand - 4
        candidates = service.post(f"{API}/identifications", files=shown(41, hand)).json()["answers"][0]["candidates"]
        assert candidates[0]["identity"] == "glyph 41" and candidates[0]["distance"] < 1e-3
    service.delete(f"{API}/identities/glyph 41")


@pytest.mark.keras
def test_a_training_is_listened_to_and_cancelled(service):
    made = service.post(f"{API}/trainings", json={"steps": 5000})
    assert made.status_code == 202
    job = made.json()["id"]
    refused(service.post(f"{API}/trainings", json={}), 409, "running")
    stages = []
    with service.stream("GET", f"{API}/trainings/{job}/events") as events:
        for line in events.iter_lines():
            if line.startswith("data:"):
                stages.append(json.loads(line[5:]))
                if "step" in stages[-1] and len(stages) < 50:
                    service.delete(f"{API}/trainings/{job}")
    assert any("step" in each for each in stages) and stages[-1]["state"] == "cancelled"
    assert service.get(f"{API}/trainings").json()[0]["state"] == "cancelled"
    assert len(service.get(f"{API}/towers").json()) == 1
    refused(service.get(f"{API}/trainings/none"), 404, "missing")
    refused(service.post(f"{API}/towers/none/promotion"), 404, "missing")
