# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The wire probe's frames: read back as sent, and nothing that a heart could take for a beat."""

from __future__ import annotations

import socket
import struct

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils import _wire_frames as frames

MAC = b"\x02\0\0\0\1\2"
RUN = bytes(range(8))


def body(kind, size=0):
    """A body that says everything."""
    return frames.Body(7, 2, 3, RUN, kind, 99, size, True, {1: 5, 3: 63})


@pytest.mark.parametrize("kind", frames.KINDS)
def test_a_frame_is_read_back_as_it_was_sent(kind):
    found = frames.found(frames.wrap(kind, MAC, body(kind).pack(123)))
    assert (found.cluster, found.node, found.link, found.run) == (7, 2, 3, RUN)
    assert (found.kind, found.sequence, found.done, found.heard) == (kind, 99, True, {1: 5, 3: 63})
    assert found.wall_ns == 123


@pytest.mark.parametrize("kind", [frames.PROBE, frames.IP])
def test_a_full_size_frame_is_exactly_that(kind):
    frame = frames.wrap(kind, MAC, body(kind, 1500).pack(1), 1500)
    assert len(frame) == 14 + 1500
    if kind == frames.IP:
        assert struct.unpack(">H", frame[16:18]) == (1500,)
    assert frames.found(frame).size == 1500


@pytest.mark.parametrize("kind", frames.KINDS)
def test_no_frame_is_a_heartbeat(kind):
    frame = frames.wrap(kind, MAC, body(kind).pack(1))
    assert frames.heartbeat(frame) is None
    assert frame[14:18] != frames.HEARTBEAT_MAGIC


def test_a_heartbeat_is_seen_as_one_and_is_no_probe():
    beat = b"\x03AmHA\1" + MAC + b"\x88\xb5AmHA\1\0" + struct.pack(">HB", 7, 1) + bytes(60)
    assert frames.heartbeat(beat) == (7, 1)
    assert frames.found(beat) is None


@pytest.mark.parametrize("kind", frames.KINDS)
def test_a_frame_that_was_cut_anywhere_is_none(kind):
    frame = frames.wrap(kind, MAC, body(kind).pack(1))
    whole = frames.HEADERS[kind] + frames.HEAD.size + 2 * frames.HEARD.size
    for length in range(whole):
        assert frames.found(frame[:length]) is None


def test_a_kind_in_another_kinds_wrapping_is_none():
    assert frames.found(frames.wrap(frames.PROBE, MAC, body(frames.ARP).pack(1))) is None


def test_questions_and_answers():
    target = socket.inet_aton("10.20.1.100")
    question = frames.ask(MAC, None, target)
    assert question[28:32] == bytes(4)
    assert frames.answer(question) is None
    reply = question[:20] + b"\0\2" + b"\2\3\4\5\6\7" + target + question[32:]
    assert frames.answer(reply) == ("10.20.1.100", b"\2\3\4\5\6\7")
    asked = socket.inet_pton(socket.AF_INET6, "fd20:1::100")
    assert len(frames.ask(MAC, None, asked)) == 14 + 40 + 24
    assert len(frames.ask(MAC, asked, asked)) == 14 + 40 + 32


def test_a_question_for_an_ipv6_address_has_a_right_checksum():
    source = socket.inet_pton(socket.AF_INET6, "fe80::1:2")
    frame = frames.ask(MAC, source, socket.inet_pton(socket.AF_INET6, "fd20:1::100"))
    pseudo = frame[22:54] + struct.pack(">IxxxB", len(frame) - 54, 58)
    assert frames.checksum(pseudo + frame[54:]) == 0


def test_the_filter_is_whole_instructions_with_jumps_inside():
    program = frames.socket_filter()
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    for number, (code, yes, no, _value) in enumerate(lines):
        if code == frames.JEQ:
            assert number + 1 + max(yes, no) < len(lines)
