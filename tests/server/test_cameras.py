"""A camera here, the gallery there: the same visits as where both are in one place."""

import http.server
import json
import threading

import httpx
import pytest

from siamese_index import Gallery
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from tests.server.live import serving


def made(tower_path, tmp_path):
    """Make a gallery, and a folder of pictures: three of somebody, then of a stranger."""
    place, shots = tmp_path / "g.gallery", tmp_path / "shots"
    with Gallery.create(place, tower_path, fpir=0.1) as gallery:
        gallery.enroll_many([(f"g{n}", images.encode(glyph(300 + n, hand))) for n in range(8) for hand in range(3)])
        gallery.calibrate(
            strangers_given=[(f"s{n}", images.encode(glyph(400 + n, h))) for n in range(40) for h in (0, 1)]
        )
    shots.mkdir()
    for n in range(3):
        (shots / f"{n}.png").write_bytes(images.encode(glyph(303, 3 + n)))
    return place, shots


def test_visits_are_those_of_watching_here(tower_path, tmp_path, sidx):
    place, shots = made(tower_path, tmp_path)
    here = json.loads(sidx("watch", "shots", "--once", "--json", "-g", "g.gallery").stdout)
    key = sidx("keys", "add", "door", "--role", "ask", "--file", "keys.json").stdout.split()[-1]
    (tmp_path / "key.txt").write_text(key + "\n")
    with serving(place, "--api-key-file", tmp_path / "keys.json") as service:
        url = str(service.base_url)
        done = sidx("watch", "shots", "--once", "--json", "--to", url, "--key-file", "key.txt")
        assert done.returncode == 0, done.stderr
        there = json.loads(done.stdout)
        assert set(there) == set(here)
        for name in ("verdict", "identity", "frames", "independent", "revision", "tower", "probe"):
            assert there[name] == here[name], name
        assert abs(there["distance"] - here["distance"]) < 0.05  # it was sent as a JPEG
        refused = sidx("watch", "shots", "--once", "--to", url)
        assert refused.returncode == 2 and "no key" in refused.stderr
        counted = service.get("/metrics", headers={"x-api-key": key}).text
        assert f'sidx_answers_total{{verdict="{there["verdict"]}"}} 1.0' in counted
    for odd in ("http://[h", "http://127.0.0.1:1/ä", "http://a..b/", f"http://{'h' * 300}/", "http://u:secret@h"):
        done = sidx("watch", "shots", "--once", "--to", odd)
        assert done.returncode == 2 and "no address" in done.stderr and "secret" not in done.stderr, odd
    away = sidx("watch", "shots", "--once", "--to", url)
    assert away.returncode == 4 and "Is the service running?" in away.stderr
    assert sidx("watch", "shots", "--to", "ftp://x").returncode == 2
    assert sidx("watch", "shots", "--to", url, "--enroll", "ada").returncode == 2


def test_what_a_camera_sends_is_checked(tower_path, tmp_path):
    place, _ = made(tower_path, tmp_path)
    picture = images.encode(glyph(301, 5))
    with serving(place) as service:
        send = lambda at, data=picture, **more: service.post(  # noqa: E731
            "/api/v1/cameras/door/shots", params={"at": at, **more}, content=data
        )
        assert send(1.0).json() == {"visits": []}
        assert send(1.5, b"no picture").status_code == 422
        assert send(0.5).status_code == 400
        assert send(2.0, fpir=0.2).status_code == 409
        assert send("nan").status_code == 422
        over = send(9.0, b"").json()["visits"]
        assert len(over) == 1 and over[0]["frames"] == 1 and over[0]["verdict"] in ("match", "unknown", "ambiguous")
        assert send(10.0).json() == {"visits": []}
        assert len(service.delete("/api/v1/cameras/door").json()["visits"]) == 1
        assert service.delete("/api/v1/cameras/door").status_code == 404
        for n in range(64):
            assert service.post(f"/api/v1/cameras/{n}/shots?at=1", content=b"").status_code == 200
        assert service.post("/api/v1/cameras/more/shots?at=1", content=b"").status_code == 429


@pytest.mark.parametrize(
    "said", [b"hello", b'{"visits": null}', b"[" * 100_000, b'{"revision": 1, "visits": [{"verdict": "match"}]}']
)
def test_another_server_is_not_taken_for_the_service(said, tower_path, tmp_path, sidx):
    made(tower_path, tmp_path)

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = sidx("watch", "shots", "--once", "--to", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 2 and "another service" in done.stderr and "Traceback" not in done.stderr


def test_a_service_that_goes_away_is_waited_for(tower_path, tmp_path, sidx):
    """The picture is sent again until somebody answers; here a proxy that fails three times before it hands on."""
    place, _ = made(tower_path, tmp_path)
    with serving(place) as service:
        failures = iter([None, "drop", 503, 429])  # the first is of the greeting

        class Proxy(http.server.BaseHTTPRequestHandler):
            def pass_on(self):
                how = next(failures, None)
                data = self.rfile.read(int(self.headers.get("content-length", 0)))
                if how == "drop":
                    self.close_connection = True
                    return
                answer = (
                    httpx.request(self.command, f"{service.base_url}{self.path}", content=data) if how is None else None
                )
                body = answer.content if answer else b"{}"
                self.send_response(answer.status_code if answer else how)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = pass_on

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            done = sidx("watch", "shots", "--once", "--json", "--to", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            server.server_close()
        assert json.loads(done.stdout)["frames"] == 3
        assert done.stderr.count("Asking again") == 2 and done.returncode == 0  # nothing was lost
