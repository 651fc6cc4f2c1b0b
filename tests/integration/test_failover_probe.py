"""The failover probe against real servers on loopback that are killed and stopped under it. CONSUL_BIN and PG_BIN name binaries."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.failover_records import Events, judge, parse

from tests.integration.ports import free_ports
from tests.integration.waiting import eventually

COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
MODULES = "ansible_collections.sutazai.platform.plugins.modules"
CONSUL = os.environ.get("CONSUL_BIN") or shutil.which("consul")
REDIS = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
RABBITMQ = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/usr/sbin")
POSTGRESQL = os.environ.get("PG_BIN") or next(
    (str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), ""
)


def module(arguments: dict, **more) -> subprocess.Popen:
    """The module as a process, as Ansible runs it: arguments in, JSON out."""
    script = (
        "import json, sys, importlib; from ansible.module_utils.testing import patch_module_args; "
        "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder as F; "
        f"F(paths=[{str(COLLECTIONS)!r}])._install(); arguments = json.load(sys.stdin)\n"
        f"with patch_module_args(arguments): importlib.import_module('{MODULES}.failover_probe').main()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", script], text=True, **pipes)
    process.stdin.write(json.dumps({**arguments, **more}))
    process.stdin.close()
    process.stdin = None
    return process


def answer_of(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=120)
    assert out, err
    return json.loads(out)


class Run:
    """One run of the probe, judged when it is over."""

    def __init__(self, directory: Path, **arguments) -> None:
        self.place = {"directory": str(directory / "probe" / "run"), "run": "test_1", "wait_seconds": 40}
        self.arguments = {"rate_per_second": 20, "deadline_seconds": 2, "max_seconds": 60, **self.place, **arguments}
        self.process = module(self.arguments)
        self.injected: float | None = None

    def await_writing(self) -> dict:
        answer = answer_of(module(self.place, state="writing"))
        assert not answer.get("failed"), answer
        return answer

    def fault(self) -> None:
        time.sleep(1.5)
        self.injected = time.time()

    def finish(self, after: float = 2.0) -> dict:
        time.sleep(after)
        assert answer_of(module(self.place, state="stopped"))["changed"]
        answer = answer_of(self.process)
        assert not answer.get("failed"), answer
        with open(answer["records"], encoding="utf-8") as file:
            result = judge(parse(file), Events(self.injected))
        print(json.dumps(result, indent=1))
        return result


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# PostgreSQL


class Database:
    def __init__(self, directory: Path) -> None:
        self.data, self.port = directory / "data", free_ports(1)[0]
        self.account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.data.mkdir()
        if self.account:
            user = pwd.getpwnam("postgres")
            os.chown(self.data, user.pw_uid, user.pw_gid)
        initdb = [f"{POSTGRESQL}/initdb", "--pgdata", self.data, "--username=tester", "--auth=trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **self.account)
        self.start()

    def start(self) -> None:
        command = [f"{POSTGRESQL}/postgres", "-D", self.data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.data]
        self.process = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **self.account)
        eventually(lambda: self.sql("select 1"))

    def kill(self) -> None:
        """All at once, as when a host dies: a postmaster's children don't die with it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [self.process.pid, *map(int, children)]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def sql(self, statement: str):
        import psycopg

        with psycopg.connect(host="127.0.0.1", port=self.port, user="tester", dbname="postgres", autocommit=True) as to:
            return to.execute(statement).statusmessage


@pytest.fixture
def place():
    """A directory that servers' users get to; into pytest's own only who runs it may."""
    with tempfile.TemporaryDirectory(prefix="sutazai-probe-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def database(place):
    if not POSTGRESQL:
        pytest.skip("no PostgreSQL server: install one, or set PG_BIN to its bin directory")
    started = Database(place)
    yield started
    stop(started.process)


def of_database(database: Database) -> dict:
    return {
        "component": "postgresql",
        "host": "127.0.0.1",
        "port": database.port,
        "username": "tester",
        "database": "postgres",
    }


def test_postgresql_that_is_killed_loses_nothing_it_acknowledged(database, tmp_path):
    run = Run(tmp_path, **of_database(database))
    assert run.await_writing()["target"] == "failover_probe_test_1"
    run.fault()
    database.kill()
    time.sleep(2)
    database.start()
    result = run.finish()
    assert result["passed"], result["problems"]
    assert 2 < result["longest_gap_seconds"] < 15
    assert result["series"][0]["failed"] > 20, "attempts went on while nobody answered"
    assert result["series"][0]["longest_gap_before_fault_seconds"] < 1
    assert database.sql("select from pg_class where relname like 'failover%'") == "SELECT 0", "it left its table"


def test_a_row_that_vanishes_is_a_lost_write_and_a_doubled_one_is_counted(database, tmp_path):
    run = Run(tmp_path, **of_database(database))
    run.await_writing()
    run.fault()
    assert database.sql("delete from failover_probe_test_1 where number = 5") == "DELETE 1"
    database.sql("insert into failover_probe_test_1 values ('append', 6), ('append', 100000)")
    result = run.finish(after=0)
    series = result["series"][0]
    assert not result["passed"]
    assert (series["lost_numbers"], series["duplicated"], series["unexpected_numbers"]) == ([5], 1, [100000])


def test_a_hung_postgresql_does_not_hang_the_probe(database, tmp_path):
    run = Run(tmp_path, **of_database(database), deadline_seconds=1)
    run.await_writing()
    run.fault()
    processes = [database.process.pid]
    processes += map(
        int, Path(f"/proc/{database.process.pid}/task/{database.process.pid}/children").read_text().split()
    )
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3)
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
    result = run.finish()
    assert result["passed"], result["problems"]
    assert 2.5 < result["longest_gap_seconds"] < 10
    assert any("no answer within 1 s" in error for error in result["series"][0]["errors"])


def test_a_probe_that_cannot_begin_says_why(tmp_path):
    run = Run(
        tmp_path, component="postgresql", host="127.0.0.1", port=free_ports(1)[0], username="nobody", wait_seconds=1
    )
    waited = answer_of(module(run.place, state="writing"))
    assert waited["failed"] and "postgresql at 127.0.0.1 failed" in waited["msg"] and "refused" in waited["msg"]
    assert answer_of(run.process)["failed"]


# Redis


@pytest.fixture
def nodes(tmp_path):
    if not REDIS or not shutil.which("redis-cli"):
        pytest.skip("no redis-server and redis-cli on PATH")
    ports = free_ports(6, bus=True)
    processes = {}
    for port in ports:
        home = tmp_path / str(port)
        home.mkdir()
        options = f"--port {port} --bind 127.0.0.1 --cluster-enabled yes --cluster-node-timeout 2000 --appendonly yes"
        options += " --cluster-require-full-coverage no --save '' --repl-diskless-sync-delay 0 --logfile log"
        processes[port] = subprocess.Popen([REDIS, *options.replace("''", "").split()], cwd=home)
    time.sleep(1)
    create = ["redis-cli", "--cluster", "create", *(f"127.0.0.1:{port}" for port in ports)]
    subprocess.run([*create, "--cluster-replicas", "1", "--cluster-yes"], check=True, capture_output=True)

    def settled():
        command = ["redis-cli", "-p", str(ports[0]), "cluster", "nodes"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return "handshake" not in str(lines) and sum("slave" in line for line in lines) == 3 and lines

    eventually(settled)
    time.sleep(2)  # the replicas' first synchronisation
    yield ports, processes
    for process in processes.values():
        stop(process)


def test_redis_master_that_is_killed(nodes, tmp_path):
    ports, processes = nodes
    listing = subprocess.run(
        ["redis-cli", "-p", str(ports[0]), "cluster", "nodes"], check=True, capture_output=True, text=True
    ).stdout
    master = next(line.split() for line in listing.splitlines() if "master" in line and "10923" in line)
    # Neither the first node nor the one that the client is told of.
    run = Run(tmp_path, component="redis", host="127.0.0.1", port=ports[0], redis_slots="10923-16383")
    run.await_writing()
    run.fault()
    processes[int(master[1].partition("@")[0].rpartition(":")[2])].kill()
    result = run.finish(after=8)
    waited, plain = result["series"]
    assert result["passed"], result["problems"]
    # The shard is gone for the node timeout of 2 s, and back soon after; but without a replica nothing is safe.
    assert 1.5 < plain["longest_gap_seconds"] == result["longest_gap_seconds"] < 9
    assert waited["lost"] == 0 and waited["longest_gap_seconds"] > 7
    assert any("0 replicas have it" in error for error in waited["errors"])


# Consul


@pytest.fixture
def agent(tmp_path):
    if not CONSUL:
        pytest.skip("no Consul binary: set CONSUL_BIN to the path of one")
    http, rpc, serf, dns = free_ports(4)
    options = f"-dev -bind=127.0.0.1 -http-port={http} -server-port={rpc} -serf-lan-port={serf} -serf-wan-port=-1"
    options += f" -dns-port={dns} -grpc-port=-1 -grpc-tls-port=-1"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([CONSUL, "agent", *options.split()], stdout=log, stderr=log)
    yield f"http://127.0.0.1:{http}", process
    stop(process)


def test_consul_that_stands_still(agent, tmp_path):
    url, process = agent
    run = Run(tmp_path, component="consul", host=url)
    run.await_writing()
    run.fault()
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    result = run.finish()
    assert result["passed"], result["problems"]
    assert 3 < result["longest_gap_seconds"] < 9


# RabbitMQ


@pytest.fixture
def broker(place):
    if not RABBITMQ:
        pytest.skip("no rabbitmq-server")
    port, distribution = free_ports(2)
    home = place / "home"
    home.mkdir()
    user = pwd.getpwnam("rabbitmq") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(home, user.pw_uid, user.pw_gid)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "RABBITMQ_NODENAME": f"probe{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(home),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1 +sbwt none",
        "ERL_EPMD_PORT": str(free_ports(3)[2]),
    }
    account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}

    running: list[subprocess.Popen] = []

    def start() -> None:
        process = subprocess.Popen(
            [RABBITMQ], env=environment, cwd="/", stdout=subprocess.DEVNULL, start_new_session=True, **account
        )
        running.append(process)
        eventually(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, 120)

    def kill() -> None:
        process = running.pop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        start()
        yield port, kill, start
    finally:
        kill()
        # It refuses to end as long as it hasn't noticed that its node is gone.
        epmd = ["epmd", "-port", environment["ERL_EPMD_PORT"], "-kill"]
        eventually(lambda: "Killed" in subprocess.run(epmd, check=False, capture_output=True, text=True).stdout)


def test_rabbitmq_that_is_killed_keeps_what_it_confirmed(broker, tmp_path):
    port, kill, restart = broker
    run = Run(
        tmp_path, component="rabbitmq", host="127.0.0.1", port=port, username="guest", password="guest", wait_seconds=60
    )
    assert run.await_writing()["target"] == "failover-test_1"
    run.fault()
    kill()
    restart()
    result = run.finish(after=4)
    assert result["passed"], result["problems"]
    assert 1 < result["longest_gap_seconds"] < 40
    assert "longest_read_gap_seconds" in result["series"][0]
