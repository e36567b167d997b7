# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure decisions: no clock, socket, thread, random number, log or file lives here.

Time is an argument (`now_ns`, integer nanoseconds of a monotonic clock), bytes come in and values
go out. `core` imports only `core`.
"""
