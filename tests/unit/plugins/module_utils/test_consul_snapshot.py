"""What a snapshot would replace."""

from __future__ import annotations

from ansible_collections.sutazai.platform.plugins.module_utils.consul_snapshot import folders, kinds, refusal, summary


def test_an_empty_cluster_has_nothing_to_lose():
    assert refusal([], []) == ""


def test_keys_are_counted_by_their_first_part():
    assert folders(["a/1", "a/2", "b"]) == "a/ (2), b (1)"
    assert folders([f"k{number}" for number in range(10)], limit=2) == "k0 (1), k1 (1) and 8 more"


def test_the_refusal_says_what_is_there():
    why = refusal(["agents/1", "agents/2"], [{"Kind": "proxy-defaults"}])
    assert "2 keys, by their first part agents/ (2); 1 config entries" in why
    assert "restore_replace_data=true" in why
    assert "Patroni" not in why


def test_patronis_lock_is_pointed_out():
    assert "pause Patroni first" in refusal(["service/lab/leader"], [])


def test_a_snapshot_is_summed_up():
    counts = kinds({"Stats": [{"Name": "KVS", "Count": 5}, {"Name": "ACLToken", "Count": 9}]})
    assert summary(counts) == "5 keys, 9 tokens, 0 config entries"
