"""Metrics in Prometheus' text format."""

from __future__ import annotations

import pytest

from sutazai_runtime.autoscaler.gauges import Gauges, serve
from sutazai_runtime.autoscaler.http_api import Api


def test_the_text_has_types_and_escapes_what_it_must():
    gauges = Gauges()
    gauges.show(
        {
            ("sutazai_autoscaler_replicas", (("service", 'a"b\\c\nd'),)): 7,
            ("sutazai_autoscaler_leader", ()): 1.0,
        }
    )
    gauges.count("sutazai_autoscaler_rounds_total", result="done")
    gauges.count("sutazai_autoscaler_rounds_total", result="done")
    assert gauges.render().splitlines() == [
        "# HELP sutazai_autoscaler_leader 1 if this one has the lock and decides.",
        "# TYPE sutazai_autoscaler_leader gauge",
        "sutazai_autoscaler_leader 1.0",
        "# HELP sutazai_autoscaler_rounds_total Rounds, by how they ended.",
        "# TYPE sutazai_autoscaler_rounds_total counter",
        'sutazai_autoscaler_rounds_total{result="done"} 2',
        "# HELP sutazai_autoscaler_replicas Replicas that the service should have.",
        "# TYPE sutazai_autoscaler_replicas gauge",
        'sutazai_autoscaler_replicas{service="a\\"b\\\\c\\nd"} 7',
    ]


def test_what_a_round_did_not_see_is_not_shown_any_more():
    gauges = Gauges()
    gauges.show({("sutazai_autoscaler_replicas", (("service", "a"),)): 7})
    gauges.show({})
    assert "replicas" not in gauges.render()
    with pytest.raises(AssertionError):
        gauges.show({("sutazai_autoscaler_shoes", ()): 1})


def test_they_are_served():
    gauges = Gauges()
    gauges.count("sutazai_autoscaler_rounds_total", result="failed")
    server = serve(gauges.render, "127.0.0.1", 0)
    try:
        api = Api(f"http://127.0.0.1:{server.server_port}")
        assert api.request("GET", "/metrics").body.decode() == gauges.render()
        assert api.request("GET", "/").status == 404
    finally:
        server.shutdown()
        server.server_close()
