"""Every host: a valid certificate of the platform's authority, and a key that only its group reads."""

from __future__ import annotations

from tests.e2e.conftest import PKI


def test_the_certificate_is_the_authoritys_and_lasts(node):
    assert "OK" in node.run(f"openssl verify -CAfile {PKI}/ca.crt {PKI}/host.crt")
    node.run(f"openssl x509 -in {PKI}/host.crt -noout -checkend {30 * 86400}")


def test_the_certificate_names_the_host_and_its_services(node):
    names = node.run(f"openssl x509 -in {PKI}/host.crt -noout -ext subjectAltName")
    wanted = [f"DNS:{node.name}", "DNS:localhost", f"IP Address:{node.address}"]
    wanted += [f"DNS:{name}.service.consul" for name in ("redis", "rabbitmq", "postgresql") if name in node.groups]
    assert [name for name in wanted if name not in names] == []
    if "consul_servers" not in node.groups:
        assert "DNS:server." not in names, "only Consul's servers may have the name that makes a server"


def test_the_key_fits_and_is_not_readable_to_others(node):
    key = node.host.file(f"{PKI}/host.key")
    assert (key.user, key.group, key.mode) == ("root", "sutazai-tls", 0o640)
    of_key = node.run(f"openssl pkey -in {PKI}/host.key -pubout")
    of_certificate = node.run(f"openssl x509 -in {PKI}/host.crt -noout -pubkey")
    assert of_key == of_certificate


def test_the_system_trusts_the_authority(node):
    assert "OK" in node.run(f"openssl verify {PKI}/host.crt")


def test_the_authoritys_key_is_on_no_host(node):
    assert node.run("grep -rlE 'BEGIN ENCRYPTED PRIVATE KEY' /etc /root /opt 2>/dev/null", check=False).strip() == ""
