from pathlib import Path

import pytest

from lab import settings
from lab.errors import LabError

CHECKOUT = Path("/checkout")


def test_defaults():
    lab = settings.load(CHECKOUT, {})
    assert (lab.name, str(lab.subnet), lab.strategy, lab.purge) == ("sutazai-lab", "10.203.0.0/24", "mitogen", False)
    assert lab.directory == CHECKOUT / ".lab"
    assert (lab.gateway, lab.mirror_address, lab.address(41)) == ("10.203.0.1", "10.203.0.2", "10.203.0.41")
    assert lab.container("redis-1") == "sutazai-lab-redis-1"


def test_what_the_environment_says():
    lab = settings.load(
        CHECKOUT,
        {"HOSTS": "a,b c", "LAB_NAME": "a-rather-long-lab-name", "LAB_CACHE": "/cache", "PURGE": "1", "LIMIT": "redis"},
    )
    assert lab.hosts == ("a", "b", "c")
    assert len(lab.bridge) <= 15
    assert (lab.cache, lab.purge, lab.limit) == (Path("/cache"), True, "redis")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"LAB_SUBNET": "10.77.0.1/24"}, "not a network"),
        ({"LAB_SUBNET": "nonsense"}, "not a network"),
        ({"LAB_SUBNET": "10.77.0.0/28"}, "can't hold the lab"),
        ({"LAB_SUBNET": "1.1.1.0/24"}, "can't hold the lab"),
        ({"LAB_NAME": "Lab_1"}, "LAB_NAME=Lab_1"),
        ({"LAB_STRATEGY": "fast"}, "LAB_STRATEGY=fast"),
        ({"LAB_ARTIFACTS": "magic"}, "LAB_ARTIFACTS=magic"),
        ({"LAB_RELEASE": "buster"}, "LAB_RELEASE=buster"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(environment, says):
    with pytest.raises(LabError, match=says) as caught:
        settings.load(CHECKOUT, environment)
    assert caught.value.way_out
