"""What models of jobs have in common: a scheduler on a real database, driven step by step by hypothesis."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, TypeVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from sqlalchemy import Engine, delete

from hodei.v1 import types_pb2 as wire
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import metadata
from hodei_server.db.schema_version import upgrade
from hodei_server.db.transaction import Transaction
from hodei_server.work.scheduler import Scheduler
from hodei_server.work.scheduler_settings import SchedulerSettings
from hodei_server.work.sessions import Sessions

T = TypeVar("T")


class SchedulerMachine(RuleBasedStateMachine):
    """Has a database that is empty at first, and sessions of workers.

    :ivar given: what the scheduler has given out: job, attempt, provider, worker.
    :ivar now: the database's time in microseconds; its own clock's where it is None.
    """

    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        self.now: int | None = None
        self.given: list[tuple[str, str, str, str]] = []
        self.sessions = Sessions()
        with self.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

    def scheduler_of(self, fleet: object, options: SchedulerSettings) -> Scheduler:
        """Return a scheduler that starts nothing.

        :param fleet: stands for the providers.
        """
        return Scheduler(
            cast("Any", types.SimpleNamespace(write=self._write)),
            cast("Any", fleet),
            self.sessions,
            cast("Any", types.SimpleNamespace(begin=self._begin, run_on=lambda _session, _live: None)),
            options,
        )

    async def _write(self, function: Callable[[Transaction], T]) -> T:
        return self.do(function)

    def _begin(self, row: Any, uid: str, provider: str, worker_id: str) -> Any:
        self.given.append((row["job_id"], uid, provider, worker_id))
        return types.SimpleNamespace(worker_id=worker_id, provider=provider, spec=wire.JobSpec.FromString(row["spec"]))

    def do(self, function: Callable[[Transaction], T]) -> T:
        """Run something in a transaction."""
        with self.engine.connect() as plain:
            connection = plain.execution_options(hodei_writer=True)
            with connection.begin():
                transaction = Transaction(connection)
                transaction._now = self.now
                result = function(transaction)
                transaction.flush()
                return result


def run_machine(machine: type[SchedulerMachine], database_url: str, *, examples: int, steps: int) -> None:
    """Run a machine's rules in any order on a database."""
    engine = open_engine(database_url, "process")
    upgrade(engine)
    try:
        run_state_machine_as_test(
            type(machine.__name__, (machine,), {"engine": engine}),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                print_blob=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
            ),
        )
    finally:
        engine.dispose()


def pick(data: st.DataObject, values: Iterable[T]) -> T:
    """Draw one of some values, by its place: that is quickly told."""
    choices = list(values)
    return choices[data.draw(st.integers(0, len(choices) - 1))]


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("it waits")
