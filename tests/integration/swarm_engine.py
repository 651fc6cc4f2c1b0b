"""An engine that answers on a socket as a Swarm's manager does, as far as the modules ask: nodes, tasks, services, membership."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Swarm:
    """Nodes by id. A drained node's tasks move to the first active one, if `moves`; `requests` are those that change something."""

    def __init__(self, managers: int, workers: int, moves: bool = True) -> None:
        self.nodes: dict[str, dict] = {}
        self.tasks: list[dict] = []
        self.requests: list[str] = []
        self.moves, self.control_answers = moves, [False]
        for number in range(managers):
            self.add(f"m-{number + 1}", "manager", leader=number == 0)
        for number in range(workers):
            self.add(f"w-{number + 1}", "worker")

    def add(self, name: str, role: str, leader: bool = False) -> None:
        self.nodes[name] = {
            "ID": name,
            "Version": {"Index": 10},
            "Spec": {"Role": role, "Availability": "active", "Labels": {"of": "somebody"}},
            "Description": {"Hostname": name},
            "Status": {"State": "ready", "Addr": f"10.0.0.{len(self.nodes) + 1}"},
        }
        if role == "manager":
            self.nodes[name]["ManagerStatus"] = {"Leader": leader, "Reachability": "reachable", "Addr": ""}

    def run(self, node: str, service: str) -> None:
        self.tasks.append({"NodeID": node, "ServiceID": service, "Status": {"State": "running"}})

    def services(self) -> list[dict]:
        wanted: dict[str, int] = {}
        running: dict[str, int] = {}
        for task in self.tasks:
            service, is_running = task["ServiceID"], task["Status"]["State"] == "running"
            wanted[service] = wanted.get(service, 0) + (not task.get("replacement", False))
            running[service] = running.get(service, 0) + is_running
        return [
            {
                "ID": name,
                "Spec": {"Name": f"service-{name}"},
                "ServiceStatus": {"RunningTasks": running[name], "DesiredTasks": wanted[name]},
            }
            for name in wanted
        ]

    def update(self, name: str, version: int, spec: dict) -> tuple[int, object]:
        node = self.nodes[name]
        if version != node["Version"]["Index"]:
            return 500, {"message": "rpc error: update out of sequence"}
        node["Version"]["Index"] += 1
        node["Spec"] = spec
        if spec["Role"] == "worker":
            node.pop("ManagerStatus", None)
        if spec["Availability"] == "drain":
            for task in [task for task in self.tasks if task["NodeID"] == name]:
                task["Status"]["State"] = "shutdown"
                if self.moves:
                    self.run("m-1", task["ServiceID"])
                    self.tasks[-1]["replacement"] = True
        return 200, None

    def answer(self, method: str, path: str, query: str, body: object) -> tuple[int, object]:
        parts = path.removeprefix("/v1.41/").split("/")
        if method != "GET":
            self.requests.append(f"{method} {'/'.join(parts)}")
        if parts == ["nodes"]:
            return 200, list(self.nodes.values())
        if parts == ["tasks"]:
            return 200, self.tasks
        if parts == ["services"]:
            return 200, self.services()
        if parts == ["info"]:
            control = self.control_answers.pop(0) if len(self.control_answers) > 1 else self.control_answers[0]
            return 200, {"Swarm": {"LocalNodeState": "active", "NodeID": "n", "ControlAvailable": control}}
        if parts == ["swarm", "leave"]:
            return 200, None
        if method == "DELETE":
            if self.nodes[parts[1]]["Status"]["State"] != "down":
                return 400, {"message": f"node {parts[1]} is not down and can't be removed"}
            del self.nodes[parts[1]]
            return 200, None
        if method == "POST" and parts[-1] == "update":
            return self.update(parts[1], int(query.removeprefix("version=")), dict(body))
        return 200, self.nodes[parts[1]]


@contextlib.contextmanager
def serving(swarm: Swarm, socket: Path) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            path, _, query = self.path.partition("?")
            status, found = swarm.answer(self.command, path, query, json.loads(self.rfile.read(length) or b"null"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode() if found is not None else b"")

        do_GET = do_POST = do_DELETE = answer

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *_: object) -> None:
            """Nothing to note."""

    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(socket)
        server.shutdown()
    socket.unlink()
