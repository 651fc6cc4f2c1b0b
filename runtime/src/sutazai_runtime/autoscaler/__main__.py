"""`python -m sutazai_runtime.autoscaler run|report|check|simulate`"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from sutazai_runtime.autoscaler.consul import Consul, Lock
from sutazai_runtime.autoscaler.engine import Engine
from sutazai_runtime.autoscaler.gauges import Gauges, serve
from sutazai_runtime.autoscaler.http_api import Api, Refused, Unreachable, read_secret
from sutazai_runtime.autoscaler.rabbitmq import RabbitMQ
from sutazai_runtime.autoscaler.rules import ServiceRules, WrongRules
from sutazai_runtime.autoscaler.service import Autoscaler, DecisionLog
from sutazai_runtime.autoscaler.settings import ConsulSettings, Settings, load_settings
from sutazai_runtime.autoscaler.simulation import Load, simulate, table
from sutazai_runtime.autoscaler.usage import Reporter

log = logging.getLogger("sutazai_runtime.autoscaler")


def connect_consul(settings: ConsulSettings) -> Consul:
    def headers() -> dict[str, str]:
        return {"X-Consul-Token": read_secret(settings.token_file)} if settings.token_file else {}

    return Consul(Api(settings.url, settings.tls, headers))


def run(settings: Settings, stop: threading.Event) -> None:
    """Decide whenever this one has the lock."""
    consul = connect_consul(settings.consul)
    told = settings.rabbitmq
    rabbitmq = RabbitMQ(told.urls, told.username, told.password_file, told.tls) if told else None
    gauges = Gauges()
    lock = Lock(
        consul,
        f"{settings.consul.prefix}/lock",
        socket.gethostname(),
        settings.consul.lock_ttl_seconds,
        settings.consul.lock_delay_seconds,
    )
    autoscaler = Autoscaler(
        settings, Engine(settings.docker_socket), consul, rabbitmq, lock, gauges, DecisionLog(settings.decision_log)
    )
    server = serve(gauges.render, settings.metrics_address, settings.metrics_port) if settings.metrics_port else None
    try:
        autoscaler.run(stop)
    finally:
        if server:
            server.shutdown()
            server.server_close()


def report(settings: Settings, stop: threading.Event, node: str) -> None:
    """Report this node's containers until told to stop."""
    key = f"{settings.consul.prefix}/usage/{node}"
    reporter = Reporter(Engine(settings.docker_socket), connect_consul(settings.consul), key, node)
    failure = ""
    while not stop.is_set():
        began = time.monotonic()
        try:
            reporter.report()
            failure = ""
        except (Unreachable, Refused) as error:
            if str(error) != failure:
                log.error("Nothing is reported: %s", error)
            failure = str(error)
        stop.wait(max(0.0, began + settings.interval_seconds - time.monotonic()))
    try:
        reporter.retract()
    except (Unreachable, Refused) as error:
        log.warning("The last report can't be taken back, it will be too old soon: %s", error)


def parse_load(text: str, rules: ServiceRules) -> Load:
    """`0:cpu=100;120:cpu=900,queue_length=3000` is what comes when: seconds, and the loads of the whole service from then on."""
    steps = []
    for step in text.split(";"):
        second, _, loads = step.partition(":")
        named = dict(load.split("=", 1) for load in loads.split(",") if load)
        unknown = sorted(set(named) - {metric.kind for metric in rules.metrics})
        if unknown:
            raise ValueError(f"{rules.service} has no rule about {', '.join(unknown)}")
        steps.append(
            (
                float(second),
                {metric.name: float(named[metric.kind]) for metric in rules.metrics if metric.kind in named},
            )
        )
    return Load(tuple(sorted(steps)))


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog="sutazai-autoscaler",
        description="More replicas of a Swarm service when it has much to do, fewer when it has little.",
    )
    commands = main_parser.add_subparsers(dest="command", required=True)
    texts = {
        "run": "decide, on a Swarm manager",
        "report": "report what this node's containers use",
        "check": "say what is wrong with the settings",
        "simulate": "say what the rules would do under a load",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("--config", required=True, help="the settings, a YAML file")
        if name == "report":
            command.add_argument("--node", default=socket.gethostname(), help="this node's name (%(default)s)")
        if name == "simulate":
            command.add_argument("--service", required=True, help="whose rules")
            command.add_argument("--load", required=True, help=(parse_load.__doc__ or "").strip())
            command.add_argument("--seconds", type=int, default=3600, help="how long (%(default)s)")
            command.add_argument("--replicas", type=int, help="to begin with (the fewest)")
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    told = parser().parse_args(arguments)
    # systemd's journal has the time already. Decisions go to the standard output, this to the other one.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = load_settings(told.config, needs_rules=told.command != "report")
    except WrongRules as wrong:
        for problem in wrong.problems:
            print(problem, file=sys.stderr)
        return 1
    if told.command == "check":
        print(f"{told.config} is right: rules for {', '.join(settings.rules)}.")
        return 0
    if told.command == "simulate":
        return _simulate(settings, told)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if told.command == "report":
        report(settings, stop, told.node)
    else:
        run(settings, stop)
    return 0


def _simulate(settings: Settings, told: argparse.Namespace) -> int:
    rules = settings.rules.get(told.service)
    if rules is None:
        print(f"There are no rules for {told.service}, only for {', '.join(settings.rules)}.", file=sys.stderr)
        return 1
    try:
        load = parse_load(told.load, rules)
    except ValueError as error:
        print(f"--load: {error}. It looks like 0:cpu=100;120:cpu=900,queue_length=3000.", file=sys.stderr)
        return 1
    print(table(simulate(rules, load, told.seconds, settings.interval_seconds, told.replicas)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
