"""A new gallery on PostgreSQL: its tables, and its templates spread over one server or several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from psycopg import conninfo, sql

from siamese_index.errors import BadInput, SiameseIndexError

from .address import Address
from .postgres import PostgreSQL
from .postgres_schema import SCHEMA, TEMPLATE

PARTITIONS = 8  # on one server


@contextlib.contextmanager
def creating(address: Address, nodes: Sequence[Path | Address]) -> Iterator[PostgreSQL]:
    """Yield a new gallery's database inside a transaction; on leaving it is there, wholly or not at all.

    Raises BadInput when there is one already, Missing when a server cannot be reached or may not be used.
    """
    servers = [node for node in nodes if isinstance(node, Address)]
    if len(servers) != len(nodes):
        raise BadInput("A node is another server.", remedy="Such as postgresql://user@host/database")
    database = PostgreSQL(address, new=True)
    laid: list[Address] = []
    try:
        with contextlib.closing(database), database.writing("init"):
            for statement in SCHEMA:
                database.statement(statement)
            if not servers:
                for number in range(PARTITIONS):
                    database.statement(
                        f"CREATE TABLE template_{number} PARTITION OF template"
                        f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
                    )
                    _index(database, f"template_{number}")
            for number, node in enumerate(servers):
                with contextlib.closing(PostgreSQL(node, node=True)) as server, server.writing("init"):
                    server.statement(f"CREATE TABLE template_{number} {TEMPLATE}")
                    _index(server, f"template_{number}")
                laid.append(node)
                _link(database, number, len(servers), node)
            yield database
    except BaseException:
        for number, node in enumerate(laid):  # nothing is half there
            with contextlib.suppress(SiameseIndexError), contextlib.closing(PostgreSQL(node, node=True)) as server:
                server.statement(f"DROP TABLE IF EXISTS template_{number}")
        raise


def _index(server: PostgreSQL, table: str) -> None:
    server.statement(f"CREATE UNIQUE INDEX ON {table} (id)")
    server.statement(f"CREATE UNIQUE INDEX ON {table} (sample_id, tower_id)")
    server.statement(f"CREATE INDEX ON {table} (identity_id)")


def _link(database: PostgreSQL, number: int, of: int, node: Address) -> None:
    """Make a node's table the partition `number` of `of`."""
    told = conninfo.conninfo_to_dict(node.full)
    where = {k: str(told[k]) for k in ("host", "port", "dbname") if told.get(k)}
    # The distance and its order are computed where the templates are; a node that is down is an error at once.
    where |= {
        "extensions": "vector",
        "use_remote_estimate": "true",
        "batch_size": "1000",
        "fetch_size": "1000",
        "connect_timeout": "5",
        "parallel_commit": "true",
    }
    who = {k: str(told[k]) for k in ("user", "password") if told.get(k)}
    database.statement("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
    name = f"siamese_node_{number}"
    database.statement(
        sql.SQL("CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({})").format(
            sql.Identifier(name), _options(where)
        )
    )
    database.statement(
        sql.SQL("CREATE USER MAPPING FOR CURRENT_USER SERVER {} OPTIONS ({})").format(
            sql.Identifier(name), _options(who)
        )
    )
    database.statement(
        f"CREATE FOREIGN TABLE template_{number} PARTITION OF template FOR VALUES WITH (MODULUS {of},"
        f" REMAINDER {number}) SERVER {name} OPTIONS (table_name 'template_{number}')"
    )


def _options(pairs: dict[str, str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(k), sql.Literal(v)) for k, v in pairs.items())
