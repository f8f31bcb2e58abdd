"""Answers to an MQTT broker, a topic for each verdict: a switch, a light or a message can follow them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from siamese_index import BadInput, Decision, NotInstalled

VERDICTS = ("match", "unknown", "ambiguous")
PREFIX = "sidx"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_WAITING = 1000  # answers that wait while the broker is away; later ones are dropped, and counted
log = logging.getLogger("siamese_index.server")


class Broker(NamedTuple):
    """Where a broker is, and who calls it."""

    host: str
    port: int
    prefix: str
    user: str | None
    password: str
    tls: bool

    @classmethod
    def at(cls, address: str) -> Broker:
        """Return the broker at mqtt://[USER:PASSWORD@]HOST[:PORT][/PREFIX]; mqtts:// is by TLS. Raises BadInput."""
        try:
            at = urlsplit(address)
            host, port = at.hostname, at.port or _PORTS.get(at.scheme, 0)
        except ValueError:
            host, port = None, 0
        if (
            not host
            or len(host) > 253
            or len(address) > 1000
            or not port
            or at.scheme not in _PORTS
            or "?" in address
            or "#" in address
        ):
            raise BadInput("This is no address of an MQTT broker.", "Expected mqtt://HOST:PORT/PREFIX, or mqtts://.")
        prefix = at.path.strip("/") or PREFIX
        if any(sign in prefix for sign in "+#\0"):
            raise BadInput(f"{prefix!r} is no topic.", "+ and # stand for others there.")
        user = None if at.username is None else unquote(at.username)
        return cls(host, port, prefix, user, unquote(at.password or ""), at.scheme == "mqtts")


class Publisher:
    """Publishes each answer to PREFIX/match, PREFIX/unknown or PREFIX/ambiguous; it delays no answer.

    A broker that is away is called again and again; answers wait meanwhile, so many at most.
    """

    def __init__(self, address: str) -> None:
        """`address` is as for `Broker.at`. Raises BadInput, NotInstalled."""
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError:
            raise NotInstalled(
                "MQTT is not installed: there is no paho.", remedy='In the folder of its source: pip install ".[serve]"'
            ) from None
        at = Broker.at(address)
        self._prefix, self._shown, self._dropped = at.prefix, f"{at.host}:{at.port}", 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._full = paho.MQTT_ERR_QUEUE_SIZE
        self._client.max_queued_messages_set(_WAITING)
        self._client.reconnect_delay_set(1, 30)
        if at.user is not None:
            self._client.username_pw_set(at.user, at.password)
        if at.tls:
            self._client.tls_set()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_async(at.host, at.port)
        self._client.loop_start()

    def close(self) -> None:
        """Send what waits, if the broker is there, and end."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, answers: Sequence[Decision]) -> None:
        """Publish answers, each as the JSON object of `sidx identify --json`, at least once (QoS 1)."""
        for answer in answers:
            if answer.verdict in VERDICTS:
                data = json.dumps(answer.to_dict(), ensure_ascii=False).encode("utf-8", "replace")
                if self._client.publish(f"{self._prefix}/{answer.verdict}", data, qos=1).rc == self._full:
                    self._dropped += 1

    def _on_connect(self, *given: object) -> None:
        reason = given[3]
        if getattr(reason, "is_failure", False):
            log.warning("MQTT broker %s: %s", self._shown, reason)
        elif self._dropped:
            log.warning("MQTT broker %s is there; %s answers were not published", self._shown, self._dropped)
            self._dropped = 0

    def _on_disconnect(self, *given: object) -> None:
        reason = given[3]
        if getattr(reason, "is_failure", False):
            log.warning("MQTT broker %s went away: %s", self._shown, reason)
