# SPDX-License-Identifier: GPL-3.0-or-later
"""The proofs: one package per kind, each of which can be entered alone."""
