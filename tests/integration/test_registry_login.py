"""What an engine is told of the login to a registry, by the modules docker_image and swarm_service. The engine is one that keeps what it was sent."""

from __future__ import annotations

import base64
import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.integration.modules import run_module

REPOSITORY = "registry.service.consul:5000/sutazai/agent"
DIGEST = "sha256:" + "d" * 64
PINNED = f"{REPOSITORY}@{DIGEST}"
LOGIN = {"username": "reader", "password": "of-those-who-read", "serveraddress": "registry.service.consul:5000"}


class Engine:
    """Images by the names that they have, a registry with one tag, and at most one service."""

    def __init__(self) -> None:
        self.images: dict[str, list[str]] = {}
        self.tags = {f"{REPOSITORY}:1.0": DIGEST}
        self.service: dict | None = None
        self.version = 1
        self.logins: list[tuple[str, dict | None]] = []
        self.deleted: list[str] = []

    def note(self, what: str, header: str | None) -> None:
        self.logins.append((what, json.loads(base64.urlsafe_b64decode(header)) if header else None))

    def image(self, name: str) -> tuple[int, object]:
        for identity, names in self.images.items():
            if name in (identity, *names):
                return 200, {"Id": identity, "RepoTags": [], "RepoDigests": names}
        return 404, {"message": f"no such image: {name}"}

    def answer(self, method: str, url: str, header: str | None, body: dict | None) -> tuple[int, object]:
        split = urlsplit(url)
        path, query = unquote(split.path).removeprefix("/v1.41"), parse_qs(split.query)
        if path.startswith("/distribution/"):
            name = path.removeprefix("/distribution/").removesuffix("/json")
            self.note("asked", header)
            if not header:
                return 401, {"message": "unauthorized: authentication required"}
            return (
                (200, {"Descriptor": {"digest": self.tags[name]}})
                if name in self.tags
                else (404, {"message": "unknown"})
            )
        if path == "/images/json":
            return 200, [
                {"Id": identity, "Created": number, "RepoTags": None, "RepoDigests": names}
                for number, (identity, names) in enumerate(self.images.items())
            ]
        if path == "/images/create":
            self.note("got", header)
            self.images["sha256:new"] = query["fromImage"]
            return 200, {"status": "Download complete"}
        if method == "DELETE":
            self.deleted.append(path.removeprefix("/images/"))
            return 200, []
        if path.startswith("/images/"):
            return self.image(path.removeprefix("/images/").removesuffix("/json"))
        return self.swarm(method, path, header, body)

    def swarm(self, method: str, path: str, header: str | None, body: dict | None) -> tuple[int, object]:
        if method == "POST":
            self.note(path.rpartition("/")[2], header)
            self.version += 1
            self.service = {"ID": "s", "Spec": body, "Version": {"Index": self.version}}
            return 200, {"ID": "s"}
        answers = {
            "/info": {"Swarm": {"LocalNodeState": "active", "NodeID": "n", "ControlAvailable": True}},
            "/swarm": {"ID": "swarm"},
            "/services": [self.service] if self.service else [],
            "/services/s": self.service,
            "/nodes": [],
            "/secrets": [],
            "/configs": [],
        }
        if path == "/tasks":
            template = (self.service or {})["Spec"]["TaskTemplate"]
            return 200, [{"DesiredState": "running", "Status": {"State": "running"}, "Spec": template}]
        return 200, answers[path]


@contextlib.contextmanager
def serving(engine: Engine, socket: Path) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
            status, found = engine.answer(self.command, self.path, self.headers.get("X-Registry-Auth"), body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        do_GET = do_POST = do_DELETE = answer

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *_: object) -> None:
            """Nothing to note."""

    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(socket)
        server.shutdown()


@pytest.fixture
def engine(tmp_path):
    made = Engine()
    with serving(made, tmp_path / "engine") as made.socket:
        yield made


def image(engine: Engine, name: str, check: bool = False, **more: object) -> dict:
    login = {"username": LOGIN["username"], "password": LOGIN["password"]}
    return run_module("docker_image", {"socket": engine.socket, "name": name, **login, **more}, check)


def test_a_tag_is_asked_for_and_the_image_is_got_by_its_digest(engine):
    done = image(engine, f"{REPOSITORY}:1.0")
    assert (done["changed"], done["reference"], done["id"]) == (True, PINNED, "sha256:new")
    assert engine.logins == [("asked", LOGIN), ("got", LOGIN)]
    again = image(engine, f"{REPOSITORY}:1.0")
    assert (again["changed"], again["reference"]) == (False, PINNED)
    assert [what for what, _login in engine.logins] == ["asked", "got", "asked"]


@pytest.mark.parametrize("name", [PINNED, f"{REPOSITORY}:1.0@{DIGEST}"])
def test_nobody_is_asked_for_a_digest_that_is_there(engine, name):
    assert image(engine, name)["reference"] == PINNED
    assert engine.logins == [("got", LOGIN)]
    assert image(engine, name)["changed"] is False
    assert engine.logins == [("got", LOGIN)]


def test_in_check_mode_nothing_is_got(engine):
    would = image(engine, f"{REPOSITORY}:1.0", check=True)
    assert (would["changed"], would["reference"], engine.images) == (True, PINNED, {})
    unpublished = image(engine, f"{REPOSITORY}:2.0", check=True)
    assert (unpublished["changed"], unpublished["reference"]) == (True, f"{REPOSITORY}:2.0")


def test_older_images_go_and_those_of_others_stay(engine):
    for number in (1, 2, 3):
        engine.images[f"sha256:{number}"] = [f"{REPOSITORY}@sha256:{str(number) * 64}"]
    engine.images["sha256:9"] = ["registry.service.consul:5000/sutazai/another@sha256:" + "9" * 64]
    assert image(engine, PINNED, keep_versions=2)["deleted"] == [f"{REPOSITORY}@sha256:{n * 64}" for n in ("2", "1")]
    assert len(engine.deleted) == 2


def test_what_is_wrong_is_said_without_the_password(engine):
    assert "write it with its tag" in image(engine, REPOSITORY)["msg"]
    assert "unknown" in image(engine, f"{REPOSITORY}:2.0")["msg"]
    refused = image(engine, f"{REPOSITORY}:1.0", username="")
    assert "authentication required" in refused["msg"]
    assert LOGIN["password"] not in json.dumps(image(engine, f"{REPOSITORY}:2.0"))


def service(engine: Engine, check: bool = False, **more: object) -> dict:
    login = {"registry_username": LOGIN["username"], "registry_password": LOGIN["password"]}
    arguments = {"socket": engine.socket, "name": "agents", "image": PINNED, "wait_seconds": 5, **login, **more}
    return run_module("swarm_service", arguments, check)


def test_the_swarm_is_given_the_login_when_the_service_is_written(engine):
    assert service(engine)["created"]
    assert engine.logins == [("create", LOGIN)]
    assert service(engine)["changed"] is False
    assert service(engine, environment={"A": "b"})["changed"]
    assert engine.logins[1:] == [("update", LOGIN)]


def test_another_password_is_an_update(engine):
    service(engine)
    would = service(engine, check=True, registry_password="the-next-password")
    assert would["differences"] == ["Labels.sutazai.registry-login"]
    assert "password" not in json.dumps(would["diff"])
    assert service(engine, registry_password="the-next-password")["changed"]
    assert engine.logins[-1] == ("update", {**LOGIN, "password": "the-next-password"})
    assert service(engine, registry_password="the-next-password")["changed"] is False


def test_without_a_login_none_is_given(engine):
    assert service(engine, registry_username="", registry_password="")["created"]
    assert engine.logins == [("create", None)]
    assert engine.service["Spec"]["Labels"] == {}
