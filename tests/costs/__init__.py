# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate and heart cost: forwarding rate, processor, memory, a flood, the start."""
