# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection entries as the kernel writes them, built by hand, and strategies that vary them."""

from __future__ import annotations

import ipaddress

from hypothesis import strategies as st

from amaranten_ha.core import flow, tlv


def packed(address: str) -> bytes:
    """Return an address as bytes."""
    return ipaddress.ip_address(address).packed


def direction(
    source: str, target: str, protocol: int, first: int | None = None, second: int | None = None
) -> bytes:
    """Return the payload of one tuple; the numbers are ports, or an ICMP type and id."""
    kind = 1 if ":" not in source else 3
    parts = [tlv.attribute(1, bytes([protocol]))]
    if protocol in (flow.ICMP, flow.ICMPV6):
        base = 4 if protocol == flow.ICMP else 7
        parts += [
            tlv.attribute(base, (second or 0).to_bytes(2, "big")),
            tlv.attribute(base + 1, bytes([first or 0])),
            tlv.attribute(base + 2, b"\0"),
        ]
    elif first is not None and second is not None:
        parts += [
            tlv.attribute(2, first.to_bytes(2, "big")),
            tlv.attribute(3, second.to_bytes(2, "big")),
        ]
    addresses = tlv.attribute(kind, packed(source)) + tlv.attribute(kind + 1, packed(target))
    return tlv.nest(1, addresses) + tlv.nest(2, *parts)


def tcp_info(state: int = 3, scales: tuple[int, int] = (7, 9), flags: int = 0x23) -> bytes:
    """Return protocol information of TCP, with flags that must not be copied."""
    info = (
        tlv.attribute(1, bytes([state]))
        + tlv.attribute(2, bytes([scales[0]]))
        + tlv.attribute(3, bytes([scales[1]]))
        + tlv.attribute(4, bytes([flags, 0]))
        + tlv.attribute(5, bytes([flags, 0]))
    )
    return tlv.nest(flow.PROTOINFO, tlv.nest(1, info))


def entry(
    orig: bytes, reply: bytes, *more: bytes, status: int | None = 0x18E, timeout: int | None = 300
) -> bytes:
    """Return the attributes of one entry, in the order of an event."""
    out = tlv.nest(flow.ORIG, orig) + tlv.nest(flow.REPLY, reply)
    out += tlv.attribute(flow.ID, b"\x12\x34\x56\x78")
    if status is not None:
        out += tlv.attribute(flow.STATUS, status.to_bytes(4, "big"))
    if timeout is not None:
        out += tlv.attribute(flow.TIMEOUT, timeout.to_bytes(4, "big"))
    return out + b"".join(more)


def tcp_entry(
    sport: int = 40000,
    state: int = 3,
    source: str = "10.1.0.9",
    *,
    port: int | None = None,
    status: int = 0x18E,
) -> bytes:
    """Return a TCP connection behind SNAT; `port` is the translated one."""
    orig = direction(source, "198.51.100.7", flow.TCP, sport, 443)
    reply = direction("198.51.100.7", "198.51.100.1", flow.TCP, 443, port or sport + 1)
    return entry(orig, reply, tcp_info(state), status=status)


def udp_entry(sport: int = 5000, timeout: int | None = 30, status: int = 0x188) -> bytes:
    """Return a UDP flow without translation."""
    orig = direction("10.1.0.9", "198.51.100.7", 17, sport, 53)
    reply = direction("198.51.100.7", "10.1.0.9", 17, 53, sport)
    return entry(orig, reply, status=status, timeout=timeout)


_v4 = st.integers(0x0B000001, 0x7E000000).map(lambda value: str(ipaddress.IPv4Address(value)))
_v6 = st.integers(1 << 125, (1 << 126) - 1).map(lambda value: str(ipaddress.IPv6Address(value)))
_port = st.integers(1, 65535)


@st.composite
def extras(draw: st.DrawFn, protocol: int) -> list[bytes]:
    """What few entries have: labels, a zone, and for TCP how a helper has moved its numbers."""
    found = []
    if draw(st.booleans()):
        labels = draw(st.binary(min_size=16, max_size=16).filter(any))
        found.append(tlv.attribute(flow.LABELS, labels))
    if draw(st.booleans()):
        found.append(tlv.attribute(flow.ZONE, draw(st.integers(1, 65535)).to_bytes(2, "big")))
    for kind in (flow.SEQ_ADJ_ORIG, flow.SEQ_ADJ_REPLY):
        if protocol == flow.TCP and draw(st.booleans()):
            moved = [draw(st.integers(1, 2**31 - 1)).to_bytes(4, "big") for _part in range(3)]
            parts = (tlv.attribute(part, value) for part, value in enumerate(moved, 1))
            found.append(tlv.nest(kind, *parts))
    return found


@st.composite
def entries(draw: st.DrawFn, *, rare: bool = False) -> bytes:
    """An entry of any protocol and family, translated or not; with what few have if `rare`."""
    four = draw(st.booleans())
    address = _v4 if four else _v6
    client, server, shared, inside = (draw(address) for _each in range(4))
    protocol = draw(
        st.sampled_from([flow.TCP, 17, flow.SCTP, flow.ICMP if four else flow.ICMPV6, flow.GRE, 50])
    )
    if protocol in (flow.ICMP, flow.ICMPV6):
        request, answer = (8, 0) if four else (128, 129)
        number = draw(_port)
        orig = direction(client, server, protocol, request, number)
        reply = direction(
            draw(st.sampled_from([server, inside])),
            draw(st.sampled_from([client, shared])),
            protocol,
            answer,
            draw(st.sampled_from([number, number ^ 1])),
        )
    else:
        sport, dport = (draw(_port), draw(_port)) if protocol != 50 else (None, None)
        orig = direction(client, server, protocol, sport, dport)
        moved = sport
        if sport is not None and protocol != flow.GRE:
            # Without a master (PPTP) the kernel leaves the keys of GRE alone.
            moved = draw(st.sampled_from([sport, sport ^ 1 or 2]))
        reply = direction(
            draw(st.sampled_from([server, inside])),
            draw(st.sampled_from([client, shared])),
            protocol,
            dport,
            moved,
        )
    more = []
    if protocol == flow.TCP:
        more.append(tcp_info(draw(st.integers(3, 8))))
    if protocol == flow.SCTP:
        tags = [draw(st.binary(min_size=4, max_size=4)) for _item in range(2)]
        info = tlv.attribute(1, b"\x04") + tlv.attribute(2, tags[0]) + tlv.attribute(3, tags[1])
        more.append(tlv.nest(flow.PROTOINFO, tlv.nest(3, info)))
    if draw(st.booleans()):
        more.append(tlv.attribute(flow.MARK, draw(st.integers(1, 2**32 - 1)).to_bytes(4, "big")))
    more += draw(extras(protocol)) if rare else []
    timeout = draw(st.none() | st.integers(1, 432_000))
    return entry(orig, reply, *more, status=draw(st.sampled_from([0x8, 0xE, 0x18E, 0x1B0A])),
                 timeout=timeout)  # fmt: skip
