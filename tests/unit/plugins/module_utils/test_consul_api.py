"""The HTTP side, against a server of the test's own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import (
    Answer,
    ConsulApi,
    Refused,
    Unreachable,
    patiently,
)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/v1/missing":
            self.answer(403, "token does not exist: ACL not found")
        else:
            self.answer(200, json.dumps({"path": self.path, "token": self.headers.get("X-Consul-Token")}))

    def do_PUT(self):
        self.answer(200, self.rfile.read(int(self.headers["Content-Length"])).decode())

    def answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def url():
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_the_token_goes_into_a_header_unless_asked_anonymously(url):
    api = ConsulApi({"url": url, "token": "secret"})
    assert api.get("/v1/x").data == {"path": "/v1/x", "token": "secret"}
    assert api.get("/v1/x", anonymous=True).data["token"] is None


def test_a_body_is_json(url):
    assert ConsulApi({"url": url}).put("/v1/x", {"a": 1}).data == {"a": 1}


def test_errors_are_answers(url):
    answer = ConsulApi({"url": url}).get("/v1/missing")
    assert answer.missing and not answer.ok
    assert "ACL not found" in answer.text


def test_what_is_demanded_is_there_or_refused_with_what_it_was_for(url):
    api = ConsulApi({"url": url})
    assert api.demand(Answer(200, "1"), "Reading it failed").data == 1
    with pytest.raises(Refused, match=f"^Reading it failed at {api.url}: 403 "):
        api.demand(api.get("/v1/missing"), "Reading it failed")


def test_a_closed_port_is_unreachable():
    with pytest.raises(Unreachable, match=r"No Consul agent answers at http://127\.0\.0\.1:9"):
        ConsulApi({"url": "http://127.0.0.1:9"}).get("/")


def test_text_that_is_not_json_is_text():
    assert Answer(500, "No cluster leader").data == "No cluster leader"


def test_patience_ends_with_the_last_answer():
    answers = iter([Answer(500, "no leader"), Answer(200, "1")])
    assert patiently(lambda: next(answers), 5, pause=0).ok
    assert patiently(lambda: Answer(500, "no leader"), 0).status == 500


def test_patience_with_an_agent_that_does_not_answer():
    def attempt():
        raise Unreachable("no")

    with pytest.raises(Unreachable):
        patiently(attempt, 0)
