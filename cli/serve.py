"""`sidx serve`: answer over HTTP."""

from __future__ import annotations

import logging
import socket
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Missing, NotInstalled

from .options import DEFAULT_GALLERY, GalleryOption
from .output import note

EXAMPLE = "sidx serve --port 8077 -g people.gallery"


def serve(
    host: Annotated[str, typer.Option(help="Where to listen; another address than this machine's needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8077,
    keys: Annotated[
        Path | None, typer.Option("--api-key-file", help="Keys of `sidx keys`; without it everybody may do everything.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only answer: nothing but answers on record (sidx log) is written.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Without keys: also answer by this host name; repeatable."),
    ] = None,
    compat: Annotated[
        str | None, typer.Option(metavar="<compreface>", help="Also the routes that clients of CompreFace call.")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that answer; several do not train, watch or speak CompreFace.", min=1, max=64)
    ] = 1,
    mqtt: Annotated[
        str | None,
        typer.Option(
            metavar="mqtt://HOST/PREFIX",
            help="Publish answers to a broker: PREFIX/match, PREFIX/unknown, PREFIX/ambiguous.",
            envvar="SIDX_MQTT",
            show_envvar=True,
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Also open the page in the browser.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Answer over HTTP, and with a page for people: the same engine, the same answers. Ctrl-C ends it.

    The routes are told by /openapi.json.
    """
    try:
        import uvicorn

        from siamese_index.server.app import service
        from siamese_index.server.guard import is_loopback
        from siamese_index.server.keys import Keys
        from siamese_index.server.workers import check
        from siamese_index.server.workers import run as several
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"The service is not installed: there is no {error.name}.",
            remedy='In the folder of its source: pip install ".[serve]"',
        ) from None
    if compat not in (None, "compreface"):
        raise BadInput(f"--compat cannot be {compat!r}.", "Expected compreface.")
    if keys is None and not is_loopback(host):
        raise BadInput(
            f"{host} can be reached by others, and there are no keys.",
            "Everybody there could enroll and delete.",
            "Make a key: sidx keys add NAME --file keys.json, and give --api-key-file keys.json",
        )
    known = None if keys is None else Keys(keys)
    if known is not None and not known.all():
        raise BadInput(f"{keys}: there is no key in it.", remedy=f"Make one: sidx keys add NAME --file {keys}")
    logging.basicConfig(format="%(levelname)s %(message)s")
    if compat is not None and workers > 1:
        raise BadInput(
            "--compat and --workers exclude each other.", "A subject without pictures is known to one process."
        )
    options: dict[str, Any] = {
        "hosts": allow_host or (),
        "read_only": read_only,
        "compat": compat is not None,
        "mqtt": mqtt,
    }
    config: dict[str, Any] = {
        "host": host,
        "port": port,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # whom a request is from is never asked
        "timeout_keep_alive": 30,
        "backlog": 1024,
        "timeout_graceful_shutdown": 5,
    }
    app = service(gallery, known, **options) if workers == 1 else None
    if app is None:
        check(gallery, mqtt)
    listening = _listening(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    note(f"Listening:  {url}   (Ctrl-C ends it)")
    if open_ and not webbrowser.open(url):  # it waits until the service runs: the socket listens already
        note("No browser was found to open it.")
    if app is not None:
        uvicorn.Server(uvicorn.Config(app, **config)).run(sockets=[listening])
    else:
        several(listening, workers, config, gallery, keys, **options)


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises Missing where that cannot be.

    It says that it is of TCP: only then asyncio sends the parts of an answer at once, not 40 ms apart.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        raise Missing(
            f"{host}:{port} cannot be listened on.", f"{error.strerror}.", "Choose another --host or --port."
        ) from None
    return listening
