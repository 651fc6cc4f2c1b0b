"""How a Consul cluster is judged."""

from ansible_collections.sutazai.platform.plugins.module_utils.consul_health import (
    member_problems,
    members_of,
    node_problems,
    server_problems,
    servers_of,
    service_problems,
)


def server(name, status="voter", **changes):
    return {
        "Name": name,
        "Address": f"{name}:8300",
        "NodeStatus": "alive",
        "Version": "1.20.6",
        "LastContact": "12ms",
        "LastIndex": 70,
        "Healthy": True,
        "StableSince": "2026-11-24T02:25:49Z",
        "Status": status,
        **changes,
    }


def state(*servers):
    return {"Healthy": True, "FailureTolerance": 1, "Servers": {entry["Name"]: entry for entry in servers}}


NAMES = ["consul-1", "consul-2", "consul-3"]


def judged(*servers, tolerance=1, expected=NAMES, minimum=1):
    return server_problems(servers_of(state(*servers)), tolerance, expected, minimum)


def test_servers_are_read_in_the_order_of_their_names():
    servers = servers_of(state(server("consul-2"), server("consul-1", "leader")))
    assert [(entry["name"], entry["leader"], entry["voter"], entry["stable"]) for entry in servers] == [
        ("consul-1", True, True, True),
        ("consul-2", False, True, True),
    ]


def test_a_server_without_a_date_is_not_stable():
    (entry,) = servers_of(state(server("consul-1", StableSince="0001-01-01T00:00:00Z")))
    assert not entry["stable"]


def test_nothing_is_read_from_an_empty_state():
    assert servers_of({}) == []


def test_three_healthy_voters_have_no_problems():
    assert judged(server("consul-1", "leader"), server("consul-2"), server("consul-3")) == []


def test_a_missing_server_is_named():
    (problem,) = judged(server("consul-1", "leader"), server("consul-2"))
    assert problem.startswith("Server consul-3 is not among the Raft peers (consul-1, consul-2)")


def test_an_unknown_server_is_named_when_names_are_expected():
    extra = [server("consul-1", "leader"), server("consul-2"), server("consul-3"), server("stranger")]
    assert "stranger is a Raft peer but not one of the expected" in judged(*extra)[0]
    assert judged(*extra, expected=[]) == []


def test_a_dead_server_is_told_from_a_lagging_and_a_new_one():
    problems = judged(
        server("consul-1", NodeStatus="failed", Healthy=False),
        server("consul-2", Healthy=False, LastContact="9s"),
        server("consul-3", "non-voter"),
    )
    assert "consul-1 (consul-1:8300) is failed" in problems[0]
    assert "last contact with the leader 9s ago" in problems[1]
    assert "consul-3 (consul-3:8300) doesn't vote yet" in problems[2]


def test_too_little_failure_tolerance_is_a_problem():
    problems = judged(server("consul-1", "leader"), server("consul-2"), server("consul-3"), tolerance=0)
    assert problems == ["The cluster survives the loss of 0 servers; 1 are wanted."]


def test_members_are_sorted_by_state():
    members = [
        {"Name": "b", "Status": 1},
        {"Name": "a", "Status": 1},
        {"Name": "c", "Status": 4},
        {"Name": "d", "Status": 3},
        {"Name": "e", "Status": 9},
    ]
    assert members_of(members) == {"alive": ["a", "b"], "failed": ["c"], "left": ["d"], "none": ["e"]}


def test_expected_members_must_be_alive():
    members = {"alive": ["a"], "failed": ["b"], "left": []}
    assert member_problems(members, ["a"]) == []
    assert member_problems(members, ["b", "c"]) == [
        "Member b is failed.",
        "Member c is not known to the agent: it has not joined.",
    ]


def test_a_node_must_be_registered_and_passing():
    assert node_problems("a", [{"CheckID": "serfHealth", "Status": "passing"}]) == []
    assert "not registered in the catalog" in node_problems("a", [])[0]
    critical = [{"CheckID": "serfHealth", "Status": "critical", "Output": "not live"}]
    assert node_problems("a", critical) == ["Node a is in the catalog, but serfHealth is critical: not live"]


def test_a_service_is_judged_by_its_checks():
    assert service_problems("web", 200, {"AggregatedStatus": "passing"}) == []
    assert "not registered" in service_problems("web", 404, "ServiceId web not found")[0]
    checks = [{"Name": "a", "Status": "passing"}, {"Name": "b", "Status": "critical", "Output": "refused\n"}]
    health = {"AggregatedStatus": "critical", "Checks": checks}
    assert service_problems("web", 503, health) == ["Service web is critical: b: refused"]


def test_servers_that_are_to_leave_may_be_there_in_whatever_state():
    found = servers_of(
        state(
            server("consul-1", "leader"),
            server("consul-2"),
            server("consul-3"),
            server("consul-4", NodeStatus="failed"),
        )
    )
    assert server_problems(found, 0, NAMES, 1, ["consul-4"]) == []
    assert len(server_problems(found, 0, NAMES, 1, ["consul-5"])) == 3


def test_who_has_left_excuses_nothing():
    found = servers_of(state(server("consul-1", "leader"), server("consul-2"), server("consul-3")))
    assert len(server_problems(found, 0, NAMES, 1, ["consul-4"])) == 1
