# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes: small programs that make traffic through the pair and say what became of it.

Each is one file of the standard library, started by its path in a host's namespace, bounded in
count and time, and speaks JSON, one object per line. All of them stamp with the monotonic clock,
which every namespace of one machine shares.
"""
