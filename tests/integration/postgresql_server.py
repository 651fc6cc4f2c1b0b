"""PostgreSQL for tests and benchmarks: servers of their own from Debian's packages, and the one that the environment names.

SUTAZAI_TEST_POSTGRESQL_HOST (of a cluster all, separated by commas), _PORT, _USER, _PASSWORD, _DB and _CA_FILE name it. Its user makes and drops
schemas of its own in that database.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.integration.ports import free_ports

CHECKOUT = Path(__file__).resolve().parents[2]
COLLECTIONS = CHECKOUT / ".ansible" / "collections"
MODULE = "ansible_collections.sutazai.platform.plugins.modules.postgresql_partition"
ENVIRONMENT = "SUTAZAI_TEST_POSTGRESQL_"


def installed() -> list[Path]:
    """Directories of PostgreSQL's programs, one for each version."""
    return sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Server:
    """A server of our own, on the loopback address and in a directory of its own."""

    def __init__(self, programs: Path, durable: bool = False) -> None:
        self.programs = programs
        self.directory = Path(tempfile.mkdtemp(prefix="sutazai-postgresql-"))
        self.account = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        os.chown(self.directory, self.account.pw_uid, self.account.pw_gid)
        self.data = self.directory / "data"
        self.started = False
        (self.port,) = free_ports(1)
        settings = (
            f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.directory}'\n"
            f"fsync = {'on' if durable else 'off'}\nautovacuum_naptime = 5s\ndeadlock_timeout = 200ms\n"
        )
        try:
            self._as_account(
                "initdb",
                "--pgdata",
                self.data,
                "--auth",
                "trust",
                "--username",
                "postgres",
                "--locale",
                "C.UTF-8",
                "--no-sync",
            )
            with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(settings)
            self._as_account("pg_ctl", "--pgdata", self.data, "--log", self.directory / "log", "--wait", "start")
            self.started = True
        except BaseException:
            self.stop()
            raise

    def _as_account(self, program: str, *arguments: object) -> None:
        become = (
            {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        )
        with (self.directory / f"{program}.out").open("w") as output:
            done = subprocess.run(
                [self.programs / program, *map(str, arguments)],
                cwd=self.directory,
                stdout=output,
                stderr=output,
                check=False,
                **become,
            )
        if done.returncode:
            raise RuntimeError(f"{program}: {(self.directory / f'{program}.out').read_text()}")

    def crash(self) -> None:
        """End it as a failing host does, and start it again."""
        self._as_account("pg_ctl", "--pgdata", self.data, "--mode", "immediate", "--wait", "stop")
        self._as_account("pg_ctl", "--pgdata", self.data, "--log", self.directory / "log", "--wait", "start")

    def stop(self) -> None:
        if self.started:
            self._as_account("pg_ctl", "--pgdata", self.data, "--mode", "immediate", "--wait", "stop")
            self.started = False
        shutil.rmtree(self.directory)

    def login(self) -> dict:
        return {
            "login_unix_socket": str(self.directory),
            "login_port": self.port,
            "login_user": "postgres",
            "login_db": "postgres",
        }


class Given:
    """The server that the environment names."""

    def login(self) -> dict:
        names = {
            "HOST": "login_host",
            "PORT": "login_port",
            "USER": "login_user",
            "PASSWORD": "login_password",
            "DB": "login_db",
            "CA_FILE": "ca_file",
        }
        return {
            option: os.environ[ENVIRONMENT + name]
            for name, option in names.items()
            if os.environ.get(ENVIRONMENT + name)
        }

    def stop(self) -> None:
        pass


def available() -> list[Path | None]:
    """What tests run on: each version that is installed, and None for the server of the environment."""
    return [*installed(), *([None] if os.environ.get(ENVIRONMENT + "HOST") else [])]


def start(programs: Path | None, durable: bool = False) -> Server | Given:
    return Server(programs, durable) if programs else Given()


def connect(login: dict, **more) -> psycopg.Connection:
    parameters = {
        "host": login.get("login_unix_socket") or login.get("login_host"),
        "port": login.get("login_port"),
        "user": login.get("login_user"),
        "password": login.get("login_password"),
        "dbname": login["login_db"],
        "sslrootcert": login.get("ca_file"),
        "sslmode": "verify-full" if login.get("ca_file") else None,
        "target_session_attrs": "read-write" if "," in login.get("login_host", "") else None,
    }
    return psycopg.connect(**{name: value for name, value in parameters.items() if value}, autocommit=True, **more)


class Place:
    """A schema of one test's own, and the module working in it."""

    def __init__(self, server: Server | Given) -> None:
        self.login = server.login()
        self.server = server
        self.schema = f"partition_test_{os.getpid()}_{time.monotonic_ns() % 10**9}"
        self.connection = connect(self.login)
        self.sql(f'CREATE SCHEMA "{self.schema}"')
        self.sql(f'SET search_path = "{self.schema}"')

    def crash(self) -> None:
        self.server.crash()
        self.connection = connect(self.login)
        self.sql(f'SET search_path = "{self.schema}"')

    def close(self) -> None:
        self.sql(f'DROP SCHEMA "{self.schema}" CASCADE')
        self.connection.close()

    def sql(self, statement: str, *parameters: object) -> list[tuple]:
        cursor = self.connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: object) -> object:
        return self.sql(statement, *parameters)[0][0]

    def popen(self, check: bool = False, **options) -> subprocess.Popen:
        arguments = {
            **self.login,
            "schema": self.schema,
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": tempfile.gettempdir(),
            **options,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
            cwd=tempfile.gettempdir(),
        )
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, check: bool = False, timeout: float = 600, **options) -> dict:
        out, err = self.popen(check, **options).communicate(timeout=timeout)
        try:
            return json.loads(out)
        except ValueError as error:
            raise AssertionError(f"the module said {out!r} {err!r}") from error


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


class LockWaits(threading.Thread):
    """Looks a hundred times per second how long anybody but the module has been waiting for a lock."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.place, self.longest, self.samples = place, 0.0, 0
        self.ended = threading.Event()

    def run(self) -> None:
        query = """SELECT coalesce(max(extract(epoch FROM clock_timestamp() - locks.waitstart))::float, 0)
            FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
            WHERE NOT locks.granted AND activity.application_name <> 'sutazai.platform.postgresql_partition'"""
        with connect(self.place.login) as connection:
            while not self.ended.wait(0.01):
                self.longest = max(self.longest, connection.execute(query).fetchone()[0])
                self.samples += 1

    def stop(self) -> float:
        self.ended.set()
        self.join(60)
        assert self.samples, "nobody looked"
        return self.longest


@dataclass
class Writer(threading.Thread):
    """Inserts, changes, moves between tenants and deletes rows, and knows what must be there in the end."""

    place: Place
    table: str
    seed: int
    tenants: int
    existing: list[int]  # rows that are this writer's to change
    isolation: str = "READ COMMITTED"
    pause: float = 0.001
    longest: float = 0.0  # seconds that one statement took
    rows: dict[int, tuple[int, str] | None] = field(default_factory=dict)  # by id: tenant and data, None when deleted
    transactions: int = 0
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.chosen = random.Random(self.seed)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            with connect(self.place.login) as connection:
                connection.execute(f'SET search_path = "{self.place.schema}"')
                while not self.ended.is_set():
                    self.write(connection)
                    self.transactions += 1
                    time.sleep(self.pause)
        except Exception as error:
            # What a writer meets is what the test is about.
            self.errors.append(repr(error))

    def write(self, connection: psycopg.Connection) -> None:
        """One transaction of one to three changes; every eighth is taken back."""
        kept = dict(self.rows)
        connection.execute(f"BEGIN ISOLATION LEVEL {self.isolation}")
        for _change in range(self.chosen.randint(1, 3)):
            began = time.monotonic()
            self.change(connection)
            self.longest = max(self.longest, time.monotonic() - began)
        if self.chosen.random() < 0.125:
            connection.execute("ROLLBACK")
            self.rows = kept
        else:
            connection.execute("COMMIT")

    def change(self, connection: psycopg.Connection) -> None:
        kind, text = self.chosen.random(), f"{self.seed}-{self.chosen.random()}"
        tenant = self.chosen.randint(1, self.tenants)
        mine = self.chosen.choice(self.existing) if self.existing else 0
        if kind < 0.4 or not self.existing:
            query = f"INSERT INTO {self.table} (tenant_id, data) VALUES (%s, %s) RETURNING id"
            (number,) = connection.execute(query, (tenant, text)).fetchone()
            self.rows[number] = (tenant, text)
            self.existing.append(number)
        elif kind < 0.6:
            query = f"UPDATE {self.table} SET data = %s WHERE id = %s RETURNING tenant_id"
            for (found,) in connection.execute(query, (text, mine)).fetchall():
                self.rows[mine] = (found, text)
        elif kind < 0.8:
            query = f"UPDATE {self.table} SET tenant_id = %s, data = %s WHERE id = %s RETURNING id"
            if connection.execute(query, (tenant, text, mine)).fetchall():
                self.rows[mine] = (tenant, text)
        else:
            connection.execute(f"DELETE FROM {self.table} WHERE id = %s", (mine,))
            self.rows[mine] = None

    def stop(self) -> None:
        self.ended.set()
        self.join(60)
        assert not self.is_alive(), "the writer hangs"


def ordinary_table(place: Place, rows: int, identity: bool = False) -> None:
    """An unpartitioned table of events, tenants 1 to 499."""
    number = "bigint GENERATED ALWAYS AS IDENTITY" if identity else "bigserial"
    place.sql(
        f"CREATE TABLE events (id {number} PRIMARY KEY, tenant_id int NOT NULL, data text NOT NULL DEFAULT '' CHECK (data <> 'bad'), "
        "size int GENERATED ALWAYS AS (length(data)) STORED)"
    )
    place.sql("CREATE INDEX events_data ON events (data)")
    place.sql("GRANT SELECT ON events TO PUBLIC")
    place.sql(
        f"INSERT INTO events (tenant_id, data) SELECT n % 499 + 1, 'row ' || n FROM generate_series(1, {rows}) AS n"
    )
    place.sql("ANALYZE events")


def compare(place: Place, rows: int, writers: list[Writer]) -> dict[str, int]:
    """Every row of the table against what was put there first and what writers have made of it since."""
    place.sql("CREATE TEMPORARY TABLE expected (id bigint PRIMARY KEY, tenant_id int, data text)")
    with place.connection.cursor() as cursor, cursor.copy("COPY expected FROM STDIN") as copy:
        for writer in writers:
            for number, row in writer.rows.items():
                copy.write_row((number, *(row or (None, None))))
    place.sql(
        f"INSERT INTO expected SELECT n, n % 499 + 1, 'row ' || n FROM generate_series(1, {rows}) AS n ON CONFLICT DO NOTHING"
    )
    ((lost, wrong, back, unknown),) = place.sql("""
        SELECT count(*) FILTER (WHERE expected.data IS NOT NULL AND events.id IS NULL),
               count(*) FILTER (WHERE expected.data IS NOT NULL AND events.id IS NOT NULL
                                AND (events.tenant_id, events.data) <> (expected.tenant_id, expected.data)),
               count(*) FILTER (WHERE expected.id IS NOT NULL AND expected.data IS NULL AND events.id IS NOT NULL),
               count(*) FILTER (WHERE expected.id IS NULL)
        FROM expected FULL JOIN events USING (id)""")
    doubled = place.value("SELECT count(*) - count(DISTINCT id) FROM events")
    place.sql("DROP TABLE expected")
    return {"lost": lost, "wrong": wrong, "deleted_but_there": back, "unknown": unknown, "doubled": doubled}
