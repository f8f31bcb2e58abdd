"""Pictures one after the other: what comes of folders, videos and streams, and when."""

import http.server
import os
import threading
import time

import cv2
import numpy as np
import pytest

from siamese_index import BadInput, Missing
from siamese_index.samples import images
from siamese_index.samples.video import _without_password, shots


def pictures(count, side=64):
    """Grey pictures, each a little lighter than the one before."""
    return [np.full((side, side, 3), 40 + 4 * i, np.uint8) for i in range(count)]


@pytest.fixture
def video(tmp_path):
    """Two seconds at ten pictures a second."""
    path = tmp_path / "door.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for picture in pictures(20):
        writer.write(picture)
    writer.release()
    return path


def test_of_a_video_one_picture_comes_per_interval(video):
    every = list(shots(str(video), 0.0))
    assert [round(shot.at, 3) for shot in every] == [round(i / 10, 3) for i in range(20)]
    assert all(abs(float(s.pixels.mean()) - (40 + 4 * i)) < 3 for i, s in enumerate(every))
    assert [round(shot.at, 3) for shot in shots(str(video), 0.5)] == [0, 0.5, 1.0, 1.5]
    assert every[3].name == "door.avi@0.30"


def test_colours_come_as_they_are(tmp_path):
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(3):
        writer.write(np.full((64, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's order
    writer.release()
    red, green, blue = next(iter(shots(str(path)))).pixels.reshape(-1, 3).mean(axis=0)
    assert red > 200 and green < 60 and blue < 60


def test_a_folder_comes_by_time_and_what_cannot_be_read_is_told(tmp_path):
    for number, picture in enumerate(pictures(3)):
        (tmp_path / f"{9 - number}.png").write_bytes(images.encode(picture))
        stamp = 1_700_000_000 + number
        os.utime(tmp_path / f"{9 - number}.png", (stamp, stamp))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(images.encode(pictures(1)[0]))
    told = []
    found = list(shots(str(tmp_path), once=True, told=told.append))
    assert [shot.name for shot in found] == ["9.png", "8.png", "7.png"]
    assert len(told) == 1 and "notes.txt" in told[0]


def test_a_clock_that_is_wrong_does_not_turn_the_order(tmp_path):
    for name, stamp in (("a.png", time.time() + 1e8), ("b.png", time.time() - 5), ("c.png", time.time())):
        (tmp_path / name).write_bytes(images.encode(pictures(1)[0]))
        os.utime(tmp_path / name, (stamp, stamp))
    at = [shot.at for shot in shots(str(tmp_path), once=True)]
    assert at == sorted(at) and at[-1] <= time.time()


def test_what_is_put_into_a_folder_comes_and_only_once(tmp_path):
    seen = []
    for shot in shots(str(tmp_path)):
        if shot.pixels is None:
            if not seen:
                (tmp_path / "a.png").write_bytes(images.encode(pictures(1)[0]))
                seen.append("written")
            elif len(seen) > 1:
                seen.append("again")
        else:
            seen.append(shot.name)
        if len(seen) > 4:
            break
    assert seen == ["written", "a.png", "again", "again", "again"]


@pytest.mark.parametrize("source", ["nowhere", "nowhere.mp4"])
def test_a_source_that_is_not_there_is_told(source):
    with pytest.raises(Missing, match="no such folder or video"):
        shots(source)


def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(BadInput, match="no video"):
        list(shots(str(tmp_path / "a.mp4")))
    with pytest.raises(BadInput, match="no time"):
        shots(str(tmp_path), every=-1)


def test_a_password_in_an_address_is_not_printed():
    assert _without_password("rtsp://door:secret@10.0.0.5:554/live?key=1") == "rtsp://10.0.0.5:554/live"


class Camera(http.server.BaseHTTPRequestHandler):
    """Sends eight pictures, then breaks off."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for picture in pictures(8):
            data = images.encode(picture, ".jpg")
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.02)

    def log_message(self, *_):
        pass


def test_a_stream_that_breaks_off_is_tried_again():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told, seen = [], 0
    try:
        for shot in shots(f"http://127.0.0.1:{server.server_port}/live.mjpg", 0.0, told=told.append):
            seen += shot.pixels is not None
            if told and shot.pixels is not None:
                break  # it came back
    finally:
        server.shutdown()
        server.server_close()
    assert seen > 1 and "broke off" in told[0]


def test_a_stream_that_was_never_there_is_an_error():
    with pytest.raises(Missing, match="nothing comes"):
        list(shots("http://127.0.0.1:9/none.mjpg"))
