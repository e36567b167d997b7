# SPDX-License-Identifier: GPL-3.0-or-later
"""New hardware in the place of a dead node, and a node that is as it was before the deployment.

One bare node is worth both: it is deployed beside the survivor, which forwards throughout, and then
the product is taken off it again. At the end the pair is deployed anew, for the tests that follow.
"""

from __future__ import annotations

from difflib import unified_diff

from tests.integration import steps
from tests.integration.conftest import converged
from tests.integration.deployment import deploy, play
from tests.lab import Lab
from tests.lab.plan import NODES

# Everything but the linker's list of libraries.
SNAPSHOT = r"""
find /etc /usr/sbin /usr/lib/amaranten-ha /var/lib/amaranten-ha /run/amaranten-ha* -xdev \
    -not -name ld.so.cache -printf '%y %m %p %l\n' 2>/dev/null | sort
find /etc -xdev -type f -not -name ld.so.cache -not -name 'machine-id' -exec sha256sum {} + | sort
systemctl list-unit-files --no-legend --no-pager
systemctl list-units --all --no-legend --no-pager --plain 'amaranten*' 'nftables*' \
    'systemd-networkd*' |
    awk '{print $1, $2, $3}'
ip -o link show | sed -e 's/@[^:]*//' | awk '{print $2, $3, $5}'
ip -o address show | sed 's/ tentative//; s/valid_lft.*//' | grep -v 'inet6 fe80'
ip route show; ip -6 route show | grep -v fe80
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'
apt-mark showauto | sort
sysctl net.ipv4.conf net.ipv4.ip_forward net.ipv6.conf net.netfilter 2>/dev/null |
    grep -v -e _count -e _secret -e buckets
"""
# dpkg is killed, once, when it comes to the first library: what needed it is gone by then.
KILLER = r"""
set -e
cat >/var/lib/dpkg/info/libnftables1:amd64.prerm <<'end'
#!/bin/sh
rm "$0"
kill -9 $PPID
sleep 1
end
chmod 755 /var/lib/dpkg/info/libnftables1:amd64.prerm
"""


def snapshot(lab: Lab, node: str) -> list[str]:
    """One node, without what changes by itself."""
    return lab.node(node).run(["sh", "-c", SNAPSHOT]).stdout.splitlines()


def test_a_dead_node_is_replaced_and_taken_off_again_and_the_survivor_forwards(pair: Lab) -> None:
    survivor = converged(pair)
    fresh = steps.other(survivor)
    pair.power_off(fresh)
    down = play(pair, "status")
    assert down.code == 2, down.end()
    assert f"{fresh} is NOT REACHED" in down.output
    assert f"- {fresh} does not answer" in down.output
    new_disk(pair, fresh)
    pair.boot(fresh)
    pair.node(fresh).run(["systemctl", "is-system-running", "--wait"])
    epoch, began = steps.epoch(pair), steps.status(pair, survivor)["heart_s"]
    bare = snapshot(pair, fresh)
    with steps.traffic(pair) as probing:
        run = deploy(pair, "--limit", fresh)
        assert run.code == 0, run.end()
        assert list(run.changed) == [fresh]
        assert converged(pair) == survivor
        assert snapshot(pair, fresh) != bare
        refused = play(pair, "remove")
        assert (refused.code, refused.changed_on_nodes) == (2, 0)
        assert "-e remove=edge" in refused.output
        words = ("-e", "remove=edge", "-e", f"keep={survivor}", "-e", "remove_packages=true")
        checked = play(pair, "remove", "--check", *words)
        assert (checked.code, checked.changed) == (0, {fresh: 1, survivor: 0}), checked.end()
        assert converged(pair) == survivor
        assert pair.node(fresh).run(["sh", "-c", KILLER]).returncode == 0
        killed = play(pair, "remove", *words)
        assert killed.code == 2, killed.end()
        assert "purge" in killed.output and "failed: " in killed.output, killed.end()
        left = pair.node(fresh).run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "nftables"])
        assert not left.stdout.startswith("ii")
        run = play(pair, "remove", "--diff", *words)
        assert (run.code, run.changed) == (0, {fresh: 1, survivor: 0}), run.end()
    assert list(unified_diff(bare, snapshot(pair, fresh), lineterm="", n=0)) == []
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 100
    assert steps.active(pair) == survivor
    assert steps.epoch(pair) == epoch
    assert steps.status(pair, survivor)["heart_s"] > began
    again = play(pair, "remove", *words)
    assert (again.code, again.changed_on_nodes) == (0, 0), again.end()

    last = play(pair, "remove", "-e", "remove=edge")
    assert (last.code, last.changed) == (0, {fresh: 0, survivor: 1}), last.end()
    node = pair.node(survivor)
    assert node.run(["nft", "list", "ruleset"]).stdout == ""
    assert node.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "0"
    listed = node.run(["ip", "-o", "-4", "address", "show"]).stdout
    assert [line.split()[1] for line in listed.splitlines()] == [
        "lo",
        pair.device(survivor, "mgmt"),
    ]
    assert deploy(pair).code == 0
    assert converged(pair) in NODES


def new_disk(lab: Lab, name: str) -> None:
    """Another machine under the same name: nothing of the old one's disk but its SSH host key."""
    node = lab.node(name)
    keys = node.disk / "upper/root/.ssh/authorized_keys"
    login = keys.read_text().strip()
    node.remove_disk()
    node.make_disk(lab.plan.build / f"host_key_{name}", login)
