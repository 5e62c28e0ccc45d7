"""What holds for every test."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest
from hypothesis import settings

# No test asserts on time: an example that is slow because the machine is busy is no finding.
settings.register_profile("hodei", deadline=None, print_blob=True)
settings.load_profile("hodei")

#: Seconds that a test which ran into its limit has to end what it has begun.
ENDING_SECONDS = 30.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that ran into its time limit end by itself before the event loop does.

    The limit's exception strikes the loop, and the test's task waits on. As it closes, the loop cancels all tasks at
    once, those of gRPC's servers among them; whoever then stops such a server has gRPC write into memory that is not
    its own any more, and the interpreter crashes, with all tests that were still to come.
    """
    try:
        return (yield)
    except pytest.fail.Exception:
        _end_task_of(item)
        raise


def _end_task_of(item: pytest.Item) -> None:
    if not isinstance(item, pytest.Function):
        return
    runner = item.funcargs.get("_function_scoped_runner")
    if not isinstance(runner, asyncio.Runner):
        return
    name = item.function.__qualname__
    tasks = asyncio.all_tasks(runner.get_loop())
    left = [task for task in tasks if getattr(task.get_coro(), "__qualname__", "") == name]
    for task in left:
        task.cancel()
    if left:
        runner.run(asyncio.wait(left, timeout=ENDING_SECONDS))
