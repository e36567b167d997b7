# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands and ears: sockets, kernel objects, timers. Nothing in here decides about a role."""
