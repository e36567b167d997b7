# SPDX-License-Identifier: GPL-3.0-or-later
"""nf_tables' netlink messages, and nothing else: the gate's words to bytes, and bytes back.

Neither the nft tool nor its library is needed: the version in Debian 12 cannot say what the gate
needs (a table that persists), and heart must read the gate back in microseconds. Every encoder
writes all attributes that matter, so that what the kernel tells can be compared. What a decoder
does not know becomes `Strange`, which equals nothing of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from amaranten_ha.core.gate_compare import SET_EVAL, SET_TIMEOUT
from amaranten_ha.core.gate_rules import PRIORITY, TABLE
from amaranten_ha.core.nft_words import (
    Base,
    Chain,
    Change,
    Code,
    Compare,
    Expression,
    FoundChain,
    FoundSet,
    Lookup,
    Mask,
    Meta,
    MetaKey,
    Payload,
    Relation,
    Renew,
    Rule,
    Set,
    Strange,
    Verdict,
)
from amaranten_ha.core.tlv import attribute, nest, walk

NEW_TABLE, GET_TABLE, DEL_TABLE = 0, 1, 2
NEW_CHAIN, GET_CHAIN, DEL_CHAIN = 3, 4, 5
NEW_RULE, GET_RULE, DEL_RULE = 6, 7, 8
NEW_SET, GET_SET, DEL_SET = 9, 10, 11
NEW_ELEMENT, GET_ELEMENT = 12, 13
NEW_GENERATION, GET_GENERATION = 15, 16

FLAG_OWNER, FLAG_PERSIST = 2, 4
CREATE, APPEND, DUMP = 0x400, 0x800, 0x300

CONSTANT_KEY: Final = bytes(4)
"""What `meta mark & 0` yields for every packet: the one element of lease and voice."""
_DYNAMIC_SIZE = 128
_REGISTER = 1
_VERDICT_REGISTER = 0
_INT = struct.Struct(">I")
_LONG = struct.Struct(">Q")

Request = tuple[int, int, bytes]
"""Message type, flags besides REQUEST, body after the family header."""


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _INT.pack(value & 0xFFFFFFFF))


def _as_number(value: bytes | None) -> int:
    return int.from_bytes(value or b"")


def _as_signed(value: bytes | None) -> int:
    return int.from_bytes(value or b"", signed=True)


def _as_text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


# Requests: what the gate asks of the kernel.


def new_table(flags: int) -> Request:
    """Make the table, or change its flags (which is how an orphan is adopted)."""
    return NEW_TABLE, CREATE, _text(1, TABLE) + _number(2, flags)


def delete_table() -> Request:
    """Remove the table with everything in it."""
    return DEL_TABLE, 0, _text(1, TABLE)


def new_set(made: Set, number: int) -> Request:
    """Make a set without its elements; `number` is its id within the batch."""
    flags = 0 if made.lasting else SET_EVAL | SET_TIMEOUT
    size = len(made.elements) if made.lasting else _DYNAMIC_SIZE
    body = [
        _text(1, TABLE),
        _text(2, made.name),
        _number(3, flags),
        _number(4, made.key),
        _number(5, made.key.length),
        _number(10, number),
    ]
    if size:
        body.append(nest(9, _number(1, size)))
    return NEW_SET, CREATE, b"".join(body)


def new_elements(made: Set) -> Request:
    """Put all addresses into a set that was just made."""
    elements = (nest(1, nest(1, attribute(1, each))) for each in sorted(made.elements))
    return NEW_ELEMENT, CREATE, _text(1, TABLE) + _text(2, made.name) + nest(3, *elements)


def new_chain(made: Chain) -> Request:
    """Make a chain without its rules."""
    body = _text(1, TABLE) + _text(3, made.name)
    if made.hook is not None:
        hook = _number(1, made.hook) + _number(2, PRIORITY) + _text(3, made.device)
        body += nest(4, hook) + _number(5, Code.ACCEPT) + _text(7, "filter")
    return NEW_CHAIN, CREATE, body


def new_rule(chain: str, rule: Rule) -> Request:
    """Append a rule to a chain."""
    expressions = (nest(1, _expression(each)) for each in rule.expressions)
    body = _text(1, TABLE) + _text(2, chain) + nest(4, *expressions)
    if rule.comment:
        comment = rule.comment.encode() + b"\0"
        body += attribute(7, bytes((0, len(comment))) + comment)
    return NEW_RULE, CREATE | APPEND, body


def delete_rules() -> Request:
    """Remove the rules of all chains."""
    return DEL_RULE, 0, _text(1, TABLE)


def delete_chain(name: str) -> Request:
    """Remove an empty chain."""
    return DEL_CHAIN, 0, _text(1, TABLE) + _text(3, name)


def delete_set(name: str) -> Request:
    """Remove a set that no rule uses any more."""
    return DEL_SET, 0, _text(1, TABLE) + _text(2, name)


def get_table() -> Request:
    """Ask for the table's flags and owner."""
    return GET_TABLE, 0, _text(1, TABLE)


def get_generation() -> Request:
    """Ask how often any ruleset of this network namespace was changed."""
    return GET_GENERATION, 0, b""


def get_element(name: str) -> Request:
    """Ask for the one element of lease or voice."""
    element = nest(1, nest(1, attribute(1, CONSTANT_KEY)))
    return GET_ELEMENT, 0, _text(1, TABLE) + _text(2, name) + nest(3, element)


def dump_chains() -> Request:
    """Ask for all chains of a family; the kernel has no filter by table here."""
    return GET_CHAIN, DUMP, b""


def dump_rules() -> Request:
    """Ask for the rules of our table only: a user may have tens of thousands."""
    return GET_RULE, DUMP, _text(1, TABLE)


def dump_sets() -> Request:
    """Ask for the sets of our table."""
    return GET_SET, DUMP, _text(1, TABLE)


def dump_elements(name: str) -> Request:
    """Ask for the elements of one set."""
    return GET_ELEMENT, DUMP, _text(1, TABLE) + _text(2, name)


def _expression(made: Expression) -> bytes:
    match made:
        case Meta(key):
            return _named("meta", _number(1, _REGISTER), _number(2, key))
        case Payload(base, offset, length):
            where = (_number(2, base), _number(3, offset), _number(4, length))
            return _named("payload", _number(1, _REGISTER), *where)
        case Mask(mask):
            registers = (_number(1, _REGISTER), _number(2, _REGISTER), _number(3, len(mask)))
            bits = (nest(4, attribute(1, mask)), nest(5, attribute(1, bytes(len(mask)))))
            return _named("bitwise", *registers, *bits)
        case Compare(relation, data):
            value = nest(3, attribute(1, data))
            return _named("cmp", _number(1, _REGISTER), _number(2, relation), value)
        case Lookup(name):
            return _named("lookup", _text(1, name), _number(2, _REGISTER), _number(5, 0))
        case Renew(name, change, timeout_ms):
            parts = [_text(1, name), _number(3, change), _number(4, _REGISTER)]
            if timeout_ms:
                parts.append(attribute(6, _LONG.pack(timeout_ms)))
            return _named("dynset", *parts)
        case Verdict(code, chain):
            verdict = _number(1, code) + (_text(2, chain) if chain else b"")
            value = nest(2, nest(2, verdict))
            return _named("immediate", _number(1, _VERDICT_REGISTER), value)
        case Strange(name, raw):
            return _text(1, name) + nest(2, raw)


def _named(name: str, *parts: bytes) -> bytes:
    return _text(1, name) + nest(2, *parts)


# Answers: what the kernel tells, as the same words.


def in_our_table(body: bytes) -> bool:
    """Every message names its table first."""
    return _as_text(dict(walk(body)).get(1)) == TABLE


def decode_table(body: bytes) -> tuple[int, int]:
    """Flags and the owner's netlink port (0: nobody)."""
    values = dict(walk(body))
    return _as_number(values.get(2)), _as_number(values.get(7))


def decode_generation(body: bytes) -> int:
    """The generation of all rulesets."""
    return _as_number(dict(walk(body)).get(1))


def decode_set(body: bytes) -> FoundSet:
    """A set's kind."""
    values = dict(walk(body))
    kind, length = _as_number(values.get(4)), _as_number(values.get(5))
    return FoundSet(_as_text(values.get(2)), kind, length, _as_number(values.get(3)))


def decode_elements(body: bytes) -> tuple[str, list[tuple[bytes, int]]]:
    """The set's name; key and milliseconds left (0 without a timeout) of each element."""
    values = dict(walk(body))
    found = []
    for _kind, element in walk(values.get(3, b"")):
        parts = dict(walk(element))
        key = dict(walk(parts.get(1, b""))).get(1, b"")
        found.append((key, _as_number(parts.get(5))))
    return _as_text(values.get(2)), found


def decode_chain(body: bytes) -> FoundChain:
    """A chain and where it hangs."""
    values = dict(walk(body))
    name = _as_text(values.get(3))
    if 4 not in values:
        return FoundChain(name, None, 0, 0, ())
    hook = dict(walk(values[4]))
    devices = tuple(_as_text(each) for _kind, each in walk(hook.get(4, b"")))
    number, priority = _as_number(hook.get(1)), _as_signed(hook.get(2))
    return FoundChain(name, number, priority, _as_number(values.get(5)), devices)


def decode_rule(body: bytes) -> tuple[str, Rule]:
    """The chain's name, and the rule."""
    values = dict(walk(body))
    expressions = tuple(_decode_expression(each) for _kind, each in walk(values.get(4, b"")))
    return _as_text(values.get(2)), Rule(expressions, _comment(values.get(7, b"")))


def _comment(data: bytes) -> str:
    if len(data) > 2 and data[0] == 0 and data[1] <= len(data) - 2:
        return _as_text(data[2 : 2 + data[1]])
    return ""


def _decode_expression(data: bytes) -> Expression:
    outer = dict(walk(data))
    name, raw = _as_text(outer.get(1)), outer.get(2, b"")
    values = dict(walk(raw))
    decode = _DECODERS.get(name)
    if decode is None:
        return Strange(name, raw)
    try:
        known, found = decode(values)
    except ValueError:
        return Strange(name, raw)
    # An attribute that we never write changes the meaning unless it is zero (a default told back).
    if any(any(value) for kind, value in values.items() if kind not in known):
        return Strange(name, raw)
    return found


Values = dict[int, bytes]
Decoded = tuple[Iterable[int], Expression]


def _value(data: bytes | None) -> bytes:
    return dict(walk(data or b"")).get(1, b"")


def _registers(values: Values, *kinds: int) -> None:
    if any(_as_number(values.get(kind)) != _REGISTER for kind in kinds):
        raise ValueError


def _decode_meta(values: Values) -> Decoded:
    _registers(values, 1)
    return (1, 2), Meta(MetaKey(_as_number(values.get(2))))


def _decode_payload(values: Values) -> Decoded:
    _registers(values, 1)
    base, offset, length = (_as_number(values.get(kind)) for kind in (2, 3, 4))
    return (1, 2, 3, 4), Payload(Base(base), offset, length)


def _decode_bitwise(values: Values) -> Decoded:
    _registers(values, 1, 2)
    mask = _value(values.get(4))
    if any(_value(values.get(5))) or _as_number(values.get(3)) != len(mask):
        raise ValueError
    return (1, 2, 3, 4, 5), Mask(mask)


def _decode_cmp(values: Values) -> Decoded:
    _registers(values, 1)
    return (1, 2, 3), Compare(Relation(_as_number(values.get(2))), _value(values.get(3)))


def _decode_lookup(values: Values) -> Decoded:
    _registers(values, 2)
    return (1, 2), Lookup(_as_text(values.get(1)))


def _decode_dynset(values: Values) -> Decoded:
    _registers(values, 4)
    change, timeout_ms = Change(_as_number(values.get(3))), _as_number(values.get(6))
    return (1, 3, 4, 6), Renew(_as_text(values.get(1)), change, timeout_ms)


def _decode_immediate(values: Values) -> Decoded:
    if _as_number(values.get(1)) != _VERDICT_REGISTER:
        raise ValueError
    verdict = dict(walk(dict(walk(values.get(2, b""))).get(2, b"")))
    return (1, 2), Verdict(Code(_as_signed(verdict.get(1))), _as_text(verdict.get(2)))


_DECODERS: dict[str, Callable[[Values], Decoded]] = {
    "meta": _decode_meta,
    "payload": _decode_payload,
    "bitwise": _decode_bitwise,
    "cmp": _decode_cmp,
    "lookup": _decode_lookup,
    "dynset": _decode_dynset,
    "immediate": _decode_immediate,
}
