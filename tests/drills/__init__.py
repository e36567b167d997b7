# SPDX-License-Identifier: GPL-3.0-or-later
"""Every drill, many times, disturbed in every way, and measured by somebody else.

Nothing in here is part of the product, and nothing of the product's arithmetic is used here.
"""
