# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a service runs with the files that are there now: stamped, rebooted, restarted."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils import _agent as agent

SYNC = "amaranten-ha-sync.service"


class Node:
    """systemd's answers: every service runs, in a life that has a number."""

    def __init__(self):
        self.lives = dict.fromkeys(agent.NAMES, 1)

    def output(self, words):
        """What `systemctl show` prints; started a second after the boot."""
        life = self.lives[words[2]]
        return "ActiveState=active\nInvocationID=%d\nExecMainStartTimestampMonotonic=%d\n" % (
            life,
            1_000_000,
        )


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """The path of a file that was written just now, long after the services were started."""
    monkeypatch.setattr(agent, "STAMPS", str(tmp_path / "stamps.json"))
    path = tmp_path / "keys.toml"
    path.write_text("new")
    return str(path)


def outdated(services, keys, text="new"):
    """Names of the services that run with another content than this."""
    return sorted(dict(services.outdated({keys: agent.digest(text)})))


def test_without_a_stamp_the_times_of_file_and_service_tell(keys):
    assert outdated(agent.Services(Node()), keys) == sorted(agent.NAMES)


def test_what_was_taken_without_a_restart_is_remembered_also_without_a_stamp(keys):
    services = agent.Services(Node())
    services.stamp_again(keys, agent.digest("new"))
    assert outdated(services, keys) == []
    assert outdated(services, keys, "newer") == sorted(agent.NAMES)


def test_a_stamp_of_one_file_says_nothing_of_the_others(keys, tmp_path):
    services = agent.Services(Node())
    services.stamp_again(keys, agent.digest("new"))
    other = tmp_path / "agent.toml"
    other.write_text("x")
    assert outdated(services, str(other), "x") == sorted(agent.NAMES)


def test_the_other_files_of_a_stamp_stay(keys, tmp_path):
    services = agent.Services(Node())
    other = str(tmp_path / "agent.toml")
    services.stamp({keys: agent.digest("old"), other: agent.digest("x")})
    services.stamp_again(keys, agent.digest("new"))
    assert outdated(services, keys) == []
    assert outdated(services, other, "x") == []
    assert outdated(services, other, "y") == sorted(agent.NAMES)


def test_a_service_that_was_restarted_is_judged_by_the_files_again(keys):
    node = Node()
    services = agent.Services(node)
    services.stamp_again(keys, agent.digest("new"))
    node.lives[SYNC] = 2
    assert outdated(services, keys) == [SYNC]
    services.stamp_again(keys, agent.digest("new"))
    assert outdated(services, keys) == []
