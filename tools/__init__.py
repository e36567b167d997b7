# SPDX-License-Identifier: GPL-3.0-or-later
"""The workshop: what the make targets call. Tests share its parts, and none is
installed anywhere.
"""
