# SPDX-License-Identifier: GPL-3.0-or-later
"""Two shipped engines in virtual time, under plans of faults, watched by invariants.

Tests and `make sim` enter. The engines are those that are shipped; their kernels, wires, clocks and
supervisors are simulated. Nothing here touches a socket or a clock: docs/simulation.md explains.
"""
