"""Nothing secret may reach a failure bundle; what explains the failure has to."""

from __future__ import annotations

import base64
import json
import shlex
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.redaction import (
    MARK,
    Redactor,
    is_secret_name,
    secret_values,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SECRETS = st.text(min_size=6, max_size=24).filter(lambda s: s not in MARK and s.strip() == s and len(set(s)) > 2)
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAbcdefghijklmnopqrstuvwxyz0123456789ABCDE\nFGH==\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    "name",
    [
        "rabbitmq_admin_password",
        "redis_replication_password",
        "consul_gossip_key",
        "rabbitmq_erlang_cookie",
        "pki_ca_passphrase",
        "platform_consul_management_token",
        "SecretID",
        "secret_id",
        "PGPASSWORD",
        "masterauth_password",
        "api-key",
        "X-Consul-Token",
        "ansible_ssh_pass",
        "ansible_become_password",
        "key",
        "credentials",
        "encrypt",
        "tokens",
        "clientSecret",
        "--requirepass",
        "encryption_key",
    ],
)
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "platform_tls_key_file",
        "public_key",
        "token_ttl",
        "password_file",
        "pki_key_bits",
        "keyspace",
        "monkeys_count",
        "host",
        "consul_token_policies",
        "secrets_directory",
        "keepalive",
        "passed",
        "sort_keys",
        "password_encryption",
    ],
)
def test_names_of_harmless_things(name):
    assert not is_secret_name(name)


@given(SECRETS, st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_a_known_secret_never_survives(secret, before, after):
    redactor = Redactor([secret])
    assert secret not in redactor.text(f"{before}{secret}{after}")
    for nested in (secret, [secret], {"a": [{"b": secret}]}, {secret: 1}, (secret,)):
        assert secret not in repr(redactor.data(nested)) or secret in MARK


@given(SECRETS)
@settings(max_examples=150, deadline=None)
def test_a_known_secret_never_survives_escaping(secret):
    redactor = Redactor([secret])
    forms = [
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps({"x": secret}))[1:-1],
        json.dumps(json.dumps(json.dumps(secret)))[1:-1],
        quote(secret, safe=""),
        quote_plus(secret),
        quote(quote(secret, safe=""), safe=""),
        shlex.quote(secret),
        repr(secret)[1:-1],
        "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else json.dumps(c)[1:-1] for c in secret),
        base64.b64encode(secret.encode()).decode(),
    ]
    for form in forms:
        got = redactor.text(f"<<{form}>>")
        assert MARK in got, (form, got)
        core = form.strip("'\"\\")
        assert len(core) < 6 or core not in got


@given(st.lists(SECRETS, max_size=3), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_twice_is_once(secrets, text):
    redactor = Redactor(secrets)
    once = redactor.text(text)
    assert redactor.text(once) == once


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@settings(max_examples=100, deadline=None)
def test_any_data_can_be_redacted_and_written(data):
    json.dumps(Redactor(["abcdef"]).data(data))


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (PEM, "MHcCAQ"),
        (json.dumps({"key": PEM}), "MHcCAQ"),
        ("-----BEGIN PRIVATE KEY-----\nMIIcutoff", "MIIcutoff"),
        ("AbcdefghijklmnopqrstuvwxyzMIIrest\n-----END PRIVATE KEY-----\nafter", "MIIrest"),
        ("amqps://celery:h0nt/r2@rabbitmq:5671//", "h0nt"),
        ("postgresql://u:p@ss@db/x", "p@ss"),
        ("Authorization: Bearer eyJhbGciOi.abc.def", "eyJ"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
        ('curl -H "X-Consul-Token: 5f3d7c1e-1b2c-4d5e-8f90-112233445566" https://x', "5f3d7c1e"),
        ("[WARN] agent: ACL token 5f3d7c1e-1b2c-4d5e-8f90-112233445566 not found", "5f3d7c1e"),
        ("encrypt = qfQXr7IRg1uG8lCj5oXUZJqIuvlXpL3JmVYyNyJ5Wn8=", "qfQXr7"),
        ("qfQXr7IRg1uG8lCj5oXUZJqIuvlXpL3JmVYyNyJ5Wn8=", "qfQXr7"),
        ('{"password": "a b c", "user": "x"}', "a b c"),
        (r"{\"password\": \"a b c\", \"user\": \"x\"}", "a b c"),
        ("redis-cli --pass hunter2secret ping", "hunter2secret"),
        ("consul acl -token=hunter2secret", "hunter2secret"),
        ("PGPASSWORD=hunter2secret psql", "hunter2secret"),
        ("ALTER ROLE x PASSWORD 'hunter2secret'", "hunter2secret"),
        ("requirepass hunter2secret", "hunter2secret"),
        ("sentinel auth-pass mymaster hunter2secret", "hunter2secret"),
        ('sentinel sentinel-pass "hunter2secret"', "hunter2secret"),
        ("masterauth_password hunter: password: hunter2secret", "hunter2secret"),
    ],
)
def test_what_looks_like_a_secret(text, gone):
    assert gone not in Redactor().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgres: FATAL: password authentication failed for user celery",
        "dial tcp 10.0.0.1:8300: connect: connection refused",
        "2026-11-24T02:00:00 redis-1 redis-server[12]: # Failed opening the AOF file: Permission denied",
        "key_file=/etc/sutazai/pki/host.key",
        "raft: node-id 5f3d7c1e-1b2c-4d5e-8f90-112233445566 stepped down",
        "ssh://root@10.0.0.1 unreachable",
    ],
)
def test_what_explains_a_failure_stays(text):
    assert Redactor(["s3cr3tvalue"]).text(text) == text


def test_data_by_key():
    clean = Redactor().data(
        {
            "redis_users": [{"name": "app", "password": "hunter2"}],
            "env": {"name": "DB_PASSWORD", "value": "hunter2"},
            "secrets": {"a": "hunter2", "b": ["hunter2"]},
            "no_password": None,
            "number": {"password": 12345},
            "host": "redis-1",
        }
    )
    assert "hunter2" not in repr(clean) and "12345" not in repr(clean)
    assert clean["host"] == "redis-1" and clean["redis_users"][0]["name"] == "app"


def test_values_are_found_in_variables():
    found = secret_values(
        {
            "redis_admin_password": "aaaaaaaa",
            "users": [{"name": "x", "password": "bbbbbbbb"}, {"name": "API_TOKEN", "value": "cccccccc"}],
            "platform_tls_key_file": "/etc/key",
            "tokens": ["dddddddd"],
            "passwords": {"one": "eeeeeeee", "two": None},
            "token_enabled": True,
            "acl_token": True,
            "pin_password": 123456,
        }
    )
    assert found == {"aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd", "eeeeeeee", "123456"}


def test_a_number_can_be_a_secret():
    assert Redactor(["123456"]).data({"x": [123456, 7]}) == {"x": [MARK, 7]}
