"""Has gateways send this host's Fabio requests, or none.

Gateways ask Fabio for /health on the port of its requests. That is a route like any other, to Fabio's own page, from a key in Consul that
only this host's Fabio reads: while it isn't there, Fabio answers that there is no route, and goes on with the rest.

fabio-turn up|down SETTINGS    SETTINGS is a file in JSON, written by Ansible; the token is in CONSUL_HTTP_TOKEN
"""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request


def change(settings: dict, method: str, content: bytes = b"") -> None:
    headers = {"X-Consul-Token": os.environ["CONSUL_HTTP_TOKEN"]}
    url = f"{settings['consul_url']}/v1/kv/{settings['key']}"
    # The settings are the role's own: the agent of this host, by http.
    asked = urllib.request.Request(url, data=content or None, headers=headers, method=method)  # noqa: S310
    # Consul's agent on this host, never through a proxy.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=5) as answer:
        if answer.read().strip() != b"true":
            raise OSError(f"Consul didn't take {settings['key']}")


def up(settings: dict) -> None:
    """Fabio listens when it has its first routes."""
    until = time.monotonic() + settings["wait_seconds"]
    while True:
        try:
            socket.create_connection((settings["address"], settings["port"]), timeout=2).close()
            change(settings, "PUT", settings["route"].encode())
            return
        except OSError as error:
            if time.monotonic() > until:
                raise SystemExit(f"Fabio takes no requests after {settings['wait_seconds']} s: {error}") from error
        time.sleep(0.2)


def down(settings: dict) -> None:
    if not os.environ.get("MAINPID"):
        return  # it has died: there is nothing to wait for
    try:
        change(settings, "DELETE")
    except OSError as error:
        print(f"Gateways can't be told that Fabio is about to stop: {error}", file=sys.stderr)
    time.sleep(settings["drain_seconds"])


def main() -> None:
    turn, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    {"up": up, "down": down}[turn](settings)


if __name__ == "__main__":
    main()
