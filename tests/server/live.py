"""A service in a process of its own, as a user starts it."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import httpx


@contextlib.contextmanager
def serving(gallery, *options, ended=False, **environment):
    """Start `sidx serve` for a gallery on a free port; yield a client, and end it, unless that is done inside."""
    program = [sys.executable, "-c", "from siamese_index.cli import run; run()"]
    command = [*program, "serve", "--port", "0", "-g", str(gallery), *map(str, options)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as run:
        said = ""
        try:
            for line in run.stderr:
                said += line
                if found := re.search(r"http://\S+:\d+", line):
                    break
            assert found, said
            with httpx.Client(base_url=found[0], timeout=60) as client:
                client.run = run
                yield client
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)
            said = run.stderr.read()
            code = run.wait(30)
    assert "Traceback" not in said, said
    assert ended or code in (0, 130), said
