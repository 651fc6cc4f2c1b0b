import json

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import registry


def test_the_login_for_an_address_is_found():
    logins = json.dumps({"auths": {"127.0.0.1:5001": {"auth": "cmVhZGVyOng="}}})
    assert registry.authorization(logins, "127.0.0.1:5001") == "Basic cmVhZGVyOng="
    for wrong in ("", "[]", "{}", '{"auths": {}}', '{"auths": {"127.0.0.1:5001": {}}}'):
        with pytest.raises(registry.WrongAnswer, match="none for 127.0.0.1:5001"):
            registry.authorization(wrong, "127.0.0.1:5001")


def test_a_manifest_says_which_image_it_is_of():
    assert registry.image_of('{"config": {"digest": "sha256:1"}, "layers": []}') == "sha256:1"
    for wrong in ("<html>", "[]", '{"manifests": []}', '{"config": null}'):
        with pytest.raises(registry.WrongAnswer, match="no manifest"):
            registry.image_of(wrong)
