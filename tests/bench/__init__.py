# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench: ours and keepalived + conntrackd on the same two nodes, in the same run, alternating.

People enter through ``make bench-failover``, ``make bench-sync`` and ``make bench``. What is
measured is measured from outside, by probes, on the wire and in the kernel; no contender is asked
what it thinks of itself. Every figure ends in a file below build/bench, one cell a file, so that a
run that was interrupted goes on where it was. No test asserts a duration.
"""
