# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks: in each module, every function ``check_*`` is one test on each kernel.

They run inside a guest, each in a process and a network namespace of its own; the modules are
imported there only. What a check returns is a sentence for the record.
"""
