"""Metrics about the autoscaler itself, in Prometheus' text format.

They are few and are all known at the end of a round, so a round is shown whole: no scrape sees half of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Name, what it is, and what it says.
KNOWN: dict[str, tuple[str, str]] = {
    "sutazai_autoscaler_leader": ("gauge", "1 if this one has the lock and decides."),
    "sutazai_autoscaler_held": ("gauge", "1 while somebody holds the autoscaler in Consul's KV."),
    "sutazai_autoscaler_dry_run": ("gauge", "1 if decisions are only noted."),
    "sutazai_autoscaler_last_round_timestamp_seconds": (
        "gauge",
        "When the last round ended in which everything could be read.",
    ),
    "sutazai_autoscaler_rounds_total": ("counter", "Rounds, by how they ended."),
    "sutazai_autoscaler_replicas": ("gauge", "Replicas that the service should have."),
    "sutazai_autoscaler_running_replicas": ("gauge", "Replicas that run."),
    "sutazai_autoscaler_wanted_replicas": ("gauge", "Replicas that a rule wants, without steps, range and cooldowns."),
    "sutazai_autoscaler_min_replicas": ("gauge", "The fewest that the rules and the service's labels allow."),
    "sutazai_autoscaler_max_replicas": ("gauge", "The most that the rules and the service's labels allow."),
    "sutazai_autoscaler_metric_per_replica": ("gauge", "A rule's metric, for each replica."),
    "sutazai_autoscaler_metric_missing": ("gauge", "1 if a rule's metric is missing, stale or incomplete."),
    "sutazai_autoscaler_decisions_total": ("counter", "Decisions by action and reason."),
    "sutazai_autoscaler_failed_changes_total": ("counter", "Changes that were decided but couldn't be made."),
}
Labels = tuple[tuple[str, str], ...]


class Gauges:
    """Numbers by name and labels. What `round` sets replaces what the round before has set; counters go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, Labels], float] = {}
        self._shown: dict[tuple[str, Labels], float] = {}

    def count(self, name: str, **labels: str) -> None:
        assert KNOWN[name][0] == "counter", name
        with self._lock:
            key = name, tuple(sorted(labels.items()))
            self._counters[key] = self._counters.get(key, 0) + 1

    def show(self, numbers: Mapping[tuple[str, Labels], float]) -> None:
        assert {name for name, _ in numbers} <= KNOWN.keys()
        with self._lock:
            self._shown = dict(numbers)

    def render(self) -> str:
        with self._lock:
            numbers = {**self._shown, **self._counters}
        lines = []
        for name, (kind, text) in KNOWN.items():
            mine = sorted((labels, value) for (known, labels), value in numbers.items() if known == name)
            if mine:
                lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
                lines += [f"{name}{_labels(labels)} {value!r}" for labels, value in mine]
        return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}" if labels else ""


def serve(render: Callable[[], str], address: str, port: int) -> ThreadingHTTPServer:
    """Answer /metrics until `shutdown` is called on what is returned; `server_port` tells which port 0 became."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = render().encode() if found else b"Only /metrics is here.\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape is nothing to note."""

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
