"""Runs on the lab's client host, with nothing but Python: `serve PORT` is what lies behind the edge, `load …` asks it through the edge.

Requests are sent at a constant rate whatever becomes of the earlier ones, each on a connection of its own: a kept one would survive what a
new client meets. Who fails tries once more, as the platform's clients do.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import http.server
import json
import ssl
import statistics
import sys
import threading
import time

RETRY_AFTER_SECONDS = 0.5


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.server.server_port}{self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Thousands of requests aren't worth a line each."""


def serve(port: int) -> None:
    http.server.ThreadingHTTPServer(("", port), Handler).serve_forever()


class Load:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.context = ssl.create_default_context(cafile=arguments.ca_file)
        self.lock = threading.Lock()
        self.answered: list[tuple[float, float]] = []  # when, and how long after the first attempt began
        self.first_failures: collections.Counter[str] = collections.Counter()
        self.failed_at: list[float] = []  # seconds after the start, when those that failed at first had begun
        self.failures: collections.Counter[str] = collections.Counter()
        self.backends: collections.Counter[str] = collections.Counter()  # by their ports

    def ask(self, number: int) -> str:
        """Why there was no answer; "" if there was the right one."""
        wanted = self.arguments
        connection = http.client.HTTPSConnection(
            wanted.address, 443, timeout=wanted.timeout_seconds, context=self.context
        )
        try:
            connection.request("GET", f"/v1/number/{number}", headers={"Host": wanted.name})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200:
                return f"status {answer.status}"
            backend, _slash, path = text.partition("/")
            if path != f"v1/number/{number}":
                return f"another answer: {text[:40]}"
            with self.lock:
                self.backends[backend] += 1
            return ""
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"[:80]
        finally:
            connection.close()

    def one(self, number: int) -> None:
        began = time.monotonic()
        error = self.ask(number)
        if error:
            with self.lock:
                self.first_failures[error] += 1
                self.failed_at.append(round(began - self.started, 2))
            time.sleep(RETRY_AFTER_SECONDS)
            error = self.ask(number)
        ended = time.monotonic()
        with self.lock:
            if error:
                self.failures[error] += 1
            else:
                self.answered.append((ended, ended - began))

    def run(self) -> dict[str, object]:
        wanted, threads = self.arguments, []
        start = self.started = time.monotonic()
        for number in range(round(wanted.seconds * wanted.rate)):
            pause = start + number / wanted.rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            thread = threading.Thread(target=self.one, args=(number,))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()
        moments = sorted(moment for moment, _took in self.answered)
        took = sorted(duration for _moment, duration in self.answered)
        gaps = [after - before for before, after in zip(moments, moments[1:], strict=False)]
        return {
            "attempted": len(threads),
            "answered": len(took),
            "failed_at_first": sum(self.first_failures.values()),
            "failed": sum(self.failures.values()),
            "backends": dict(self.backends),
            "errors": dict(self.first_failures.most_common(4)),
            "failed_at": sorted(self.failed_at)[:20],
            "longest_gap_seconds": round(max(gaps, default=0), 3),
            "median_milliseconds": round(statistics.median(took) * 1000, 1) if took else None,
            "p99_milliseconds": round(took[int(len(took) * 0.99)] * 1000, 1) if took else None,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("port", type=int)
    load = commands.add_parser("load")
    load.add_argument("--address", required=True)
    load.add_argument("--name", required=True)
    load.add_argument("--ca-file", required=True)
    load.add_argument("--rate", type=float, required=True)
    load.add_argument("--seconds", type=float, required=True)
    load.add_argument("--timeout-seconds", type=float, default=1)
    arguments = parser.parse_args()
    if arguments.command == "serve":
        serve(arguments.port)
    else:
        json.dump(Load(arguments).run(), sys.stdout)


if __name__ == "__main__":
    main()
