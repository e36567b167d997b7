# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole nodes in the lab: each file brings up what it needs and takes down what it made."""
