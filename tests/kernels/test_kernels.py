# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of ``checks/`` on every kernel of ``recipe``: one boot per kernel, one test each.

Only the checks that this run selected are run in the guests, so ``-k ctnetlink`` is quick. A
guest that cannot be had fails its tests with the reason; nothing is ever skipped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tools.aptroot import HostError

from . import boot, image, recipe
from .recipe import Guest

CASES = [
    pytest.param(guest, check, id=f"{guest.name}-{check}")
    for guest in recipe.GUESTS
    for check in boot.functions(boot.CHECKS.folder)
]


@pytest.fixture(scope="session")
def sessions(request: pytest.FixtureRequest) -> dict[str, boot.Session | HostError]:
    """Both guests, booted side by side, with exactly the checks that were selected."""
    chosen: dict[str, list[str]] = {}
    for item in request.session.items:
        if item.path.samefile(__file__):
            guest, check = item.callspec.params["guest"], item.callspec.params["check"]
            chosen.setdefault(guest.name, []).append(check)
    say = _speaker(request)
    answers: dict[str, boot.Session | HostError] = {}

    def one(guest: Guest) -> None:
        try:
            image.need_emulator(say)
            made = image.image_of(guest, say)
        except HostError as error:
            answers[guest.name] = error
            return
        work = recipe.ROOT / "build" / "kernels" / guest.name
        answers[guest.name] = boot.boot(made, chosen[guest.name], work)

    threads = [
        threading.Thread(target=one, args=(guest,))
        for guest in recipe.GUESTS
        if guest.name in chosen
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _speaker(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Progress goes past pytest's capture: the first build takes a minute."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"kernels: {line}", flush=True)

    return say


@pytest.mark.parametrize(("guest", "check"), CASES)
def test_kernel(
    guest: Guest,
    check: str,
    sessions: dict[str, boot.Session | HostError],
    record_property: Callable[[str, object], None],
) -> None:
    session = sessions[guest.name]
    if isinstance(session, HostError):
        pytest.fail(f"no guest {guest.name}: {session}", pytrace=False)
    result = session.result(check)
    record_property("kernel", session.kernel)
    record_property("spent_ms", result.spent_ms)
    if not result.passed:
        pytest.fail(f"{check} on {session.kernel or guest.kernel}:\n{result.text}", pytrace=False)
    if result.text:
        print(result.text)
