"""The fixtures of servers_here.py, whose functions tests import by that name: autoscaler/ has a conftest of its own."""

from servers_here import broker, broker_settings, redis_settings, tls_broker_settings, topology

__all__ = ["broker", "broker_settings", "redis_settings", "tls_broker_settings", "topology"]
