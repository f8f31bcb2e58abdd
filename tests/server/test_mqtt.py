"""Answers published to a real broker, which is there, goes away and comes back."""

import contextlib
import json
import queue
import socket
import subprocess
import time

import cv2
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from siamese_index import BadInput, Gallery
from siamese_index.server.mqtt import Publisher
from tests.server.live import environment, known_and_unknown, serving


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("broker") / "environment", "amqtt==0.11.3", "setuptools")


@contextlib.contextmanager
def broker(programs, folder, port):
    """Start a broker; yield a queue of (topic, payload) that a subscriber fills."""
    (folder / "broker.yaml").write_text(
        f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
    )
    with subprocess.Popen([programs / "amqtt", "-c", folder / "broker.yaml"], stderr=subprocess.DEVNULL) as run:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            came, there = queue.Queue(), queue.Queue()
            client = paho.Client(CallbackAPIVersion.VERSION2)
            client.on_message = lambda _client, _data, message: came.put((message.topic, json.loads(message.payload)))
            client.on_connect = lambda client, *_: client.subscribe("door/#", qos=1)
            client.on_subscribe = lambda *_: there.put(True)
            client.connect("127.0.0.1", port)
            client.loop_start()
            there.get(timeout=20)
            yield came
            client.disconnect()
            client.loop_stop()
        finally:
            run.terminate()


def other_bytes(path):
    """Return the same pixels in a file of other bytes."""
    return cv2.imencode(".png", cv2.imread(path), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def ask(service, path):
    with open(path, "rb") as file:
        return service.post("/api/v1/identifications", files={"file": file}).json()["answers"][0]


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def test_each_verdict_has_a_topic_and_a_broker_that_is_away_delays_nothing(programs, tower_path, tmp_path):
    place, (one, _, other) = known_and_unknown(tower_path, tmp_path)
    with Gallery.open(place) as gallery:
        gallery.enroll_many([("ada", one), ("twin", other_bytes(one))], conflicts="allow")
        gallery.enroll_many([("bea", other)], conflicts="allow")
        gallery.remove("bea")
    port = free_port()
    with serving(place, "--mqtt", f"mqtt://127.0.0.1:{port}/door") as service:
        began = time.monotonic()
        early = ask(service, other)
        assert time.monotonic() - began < 5  # nobody waits for a broker
        with broker(programs, tmp_path, port) as came:
            assert came.get(timeout=40) == ("door/unknown", early)  # it waited for the broker
            late = ask(service, one)
            assert late["verdict"] == "ambiguous"
            assert came.get(timeout=20) == ("door/ambiguous", late)
            service.delete("/api/v1/identities/twin")
            match = ask(service, one)
            assert came.get(timeout=20) == ("door/match", match) and match["identity"] == "ada"
            assert came.empty()
        assert ask(service, one)["verdict"] == "match"


@pytest.mark.parametrize(
    "address", ["", "localhost", "http://localhost", "mqtt://", "mqtt://h:x/", "mqtt://h/a/+/b", "mqtt://h/a/#"]
)
def test_what_is_no_broker_is_refused(address):
    with pytest.raises(BadInput):
        Publisher(address)
