# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's files: read whole, or refused with file, key, value and expectation."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from amaranten_ha.__main__ import main
from amaranten_ha.core.errors import ConfigurationError
from amaranten_ha.settings import load, load_digests

CONFIG = """
[cluster]
id = 7
name = "edge"
profile = "virtual"
[node]
name = "fw-a"
number = 1
[peer]
name = "fw-b"
number = 2
[[interface]]
name = "lan"
link = 1
role = "service"
device = "enp1s0"
own = ["10.20.1.2/24", "fd20:1::2/64"]
peer_own = ["10.20.1.3/24"]
shared = ["10.20.1.1/24", "fe80::1/64"]
[[interface]]
name = "sync"
link = 2
role = "sync"
device = "enp4s0"
own = ["10.20.4.2/24"]
peer_own = ["10.20.4.3/24"]
shared = []
[replication]
port = 6780
[network]
gateways = ["10.20.1.254"]
"""
SECRET = base64.b64encode(bytes(range(32))).decode()
KEYS = f'send_key = 1\n[keys]\n1 = "{SECRET}"\n'


def write(folder: Path, config: str = CONFIG, keys: str = KEYS) -> tuple[Path, Path]:
    """Write both files and return their paths."""
    (folder / "agent.toml").write_text(config)
    (folder / "keys.toml").write_text(keys)
    return folder / "agent.toml", folder / "keys.toml"


def test_everything_is_read(tmp_path: Path) -> None:
    settings = load(*write(tmp_path))
    lan, sync = settings.interfaces
    assert (settings.cluster.id, settings.node.name, settings.peer.number) == (7, "fw-a", 2)
    assert str(lan.shared[0]) == "10.20.1.1/24"
    assert sync.role == "sync"
    assert settings.timing.dead_ms == 250
    assert settings.keys.keys[1] == bytes(range(32))
    assert [str(each) for each in settings.gateways] == ["10.20.1.254"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("id = 7", "id = 70000", "cluster.id is 70000: expected a number from 1 to 65535"),
        ('"virtual"', '"quick"', "cluster.profile is 'quick': expected one of metal, fast"),
        ("number = 2", "number = 1", "expected another node than fw-a"),
        ('device = "enp1s0"', "", "interface[0].device is missing: expected a text"),
        ('["10.20.1.3/24"]', '["10.20.1.300/24"]', "expected a list of addresses with prefix"),
        ("link = 2", "link = 1", "expected a link number of its own for each interface"),
        ("port = 6780", 'port = "x"', "replication.port is 'x': expected a number from 1"),
        ("port = 6780", 'port = 1\nsets = "x"', "replication.sets is 'x': expected a list of"),
        ("port = 6780", 'port = 1\nsets = ["a b"]', "names of sets: 'a b': expected a family"),
        ("[cluster]", "[cluster", "is not TOML"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    config, keys = write(tmp_path, CONFIG.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        load(config, keys)
    assert str(config) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["c2hvcnQ=", "not base64!"])
def test_a_bad_key_is_named_by_its_id_and_never_shown(tmp_path: Path, value: str) -> None:
    config, keys = write(tmp_path, keys=KEYS.replace(SECRET, value))
    with pytest.raises(ConfigurationError) as caught:
        load(config, keys)
    assert str(keys) in str(caught.value)
    assert value not in str(caught.value)


def test_no_service_starts_by_an_operators_slip(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["hart"]) == 2
    assert "expected one of: gate, stage, heart, sync, operator" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["operator", "heart"])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["operator", "--help"])
    assert caught.value.code == 0


def test_fingerprints_are_read_apart_and_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "digests.toml"
    path.write_text('config = "0123456789abcdef"\nruleset = "fedcba9876543210"\n')
    digests = load_digests(path)
    assert digests.config.hex() == "0123456789abcdef"
    assert digests.ruleset.hex() == "fedcba9876543210"
    path.write_text('config = "0123"\nruleset = "fedcba9876543210"\n')
    with pytest.raises(ConfigurationError, match="config is '0123': expected 16 hexadecimal"):
        load_digests(path)


def test_a_service_without_its_files_ends_with_code_2_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["stage", "--config", "absent.toml", "--keys", "absent.toml"])
    assert code == 2
    assert capsys.readouterr().err == "absent.toml: cannot be read: No such file or directory\n"


def test_durations_of_the_operators_own(tmp_path: Path) -> None:
    timers = "[timers]\nbeat_ms = 10\ndead_ms = {dead}\nlease_ms = 100\n"
    config = CONFIG.replace('profile = "virtual"', 'profile = "timers"')
    timing = load(*write(tmp_path, config + timers.format(dead=30))).timing
    assert (timing.beat_ms, timing.dead_ms, timing.lease_ms) == (10, 30, 100)
    for dead, words in (
        (23, "agent.toml: timers are beat 10, dead 23, lease 100 ms: expected dead >= 2 beats"),
        (3001, "agent.toml: timers.dead_ms is 3001: expected a number from 6 to 3000"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            load(*write(tmp_path, config + timers.format(dead=dead)))
        assert words in str(caught.value)
    with pytest.raises(ConfigurationError, match="timers is missing"):
        load(*write(tmp_path, config))
