"""Protections of jobs: their clocks, their moves, where they run, what becomes of their end."""

from __future__ import annotations

from hodei_protections.protection import Protection

SERVER = "tests/integration/server"
MOVES = "tests/integration/db/test_moves.py"

JOBS: tuple[Protection, ...] = (
    Protection(
        "W04",
        "a quota that is used up is waited for, and counts as no failure",
        "server/hodei_server/domain/retry.py",
        '        if cause is Cause.QUOTA and not policy.HasField("max_infrastructure_retries"):\n',
        '        if cause is Cause.QUOTA and policy.HasField("max_infrastructure_retries"):\n',
        "tests/unit/server/test_states.py::test_a_quota_that_is_used_up_counts_as_no_failure",
        "the job fails after three more attempts",
    ),
    Protection(
        "W05",
        "waiting, starting and running have a clock each: one stands still while another runs",
        "server/hodei_server/db/attempts.py",
        '_queue_deadline = jobs.c.queue_deadline + bindparam("attempt_took")\n',
        '_queue_deadline = jobs.c.queue_deadline + 0 * bindparam("attempt_took")\n',
        f"{MOVES}::test_the_queues_clock_stands_still_while_there_is_an_attempt",
        "the time the attempt took counts as waiting, and the job has waited too long",
    ),
    Protection(
        "W05",
        "deadlines of what is under way are moved with a clock that was moved while the server was down",
        "server/hodei_server/db/clock.py",
        "        tx.execute(update(table).where(over.is_(None)).values(moved))\n",
        "        tx.execute(update(table).where(over.is_(None), over.is_not(None)).values(moved))\n",
        f"{SERVER}/test_clock.py::test_a_clock_that_was_moved_across_a_restart_ends_no_job_and_removes_no_log[2592000]",
        "the job that runs has run too long, and the one that waits has waited too long",
    ),
    Protection(
        "W07",
        "a signal is told apart from an exit code",
        "worker/hodei_worker/process.py",
        "        return os.WEXITSTATUS(self.status) if self.status is not None and os.WIFEXITED(self.status) else None",
        "        return None if self.status is None else os.waitstatus_to_exitcode(self.status) & 0xFF",
        f"{SERVER}/test_jobs.py::test_a_signal_is_no_exit_code",
        "a killed process has an exit code, and the server calls that a lie",
    ),
    Protection(
        "W14",
        "an attempt is written down before its job is given out, by a move that only one can make",
        "server/hodei_server/db/events.py",
        "        .where(*conditions, one_of(jobs.c.state, sources), *shape.only_if)\n",
        "        .where(*conditions, *shape.only_if)\n",
        f"{MOVES}::test_a_job_is_given_out_once",
        "the job is given out ten times",
    ),
    Protection(
        "W14",
        "what a fenced worker says does not count",
        "server/hodei_server/db/attempts.py",
        "        one_of(attempts.c.state, (JobState.STARTING, JobState.RUNNING)),\n"
        "    )\n"
        "    .values(\n"
        "        state=int(JobState.FINISHING),\n"
        '        result=bindparam("to_result"),\n'
        '        log_next_sequence=bindparam("to_log_next_sequence"),\n'
        "    )\n"
        ")\n"
        '_KEEP_RESULT = prepared(_ended.where(attempts.c.epoch == bindparam("of_epoch")))\n',
        "    )\n"
        "    .values(\n"
        "        state=int(JobState.FINISHING),\n"
        '        result=bindparam("to_result"),\n'
        '        log_next_sequence=bindparam("to_log_next_sequence"),\n'
        "    )\n"
        ")\n"
        "_KEEP_RESULT = prepared(_ended)\n",
        f"{MOVES}::test_a_fenced_worker_is_not_heard",
        "the lost attempt's result is kept after all",
    ),
    Protection(
        "W15",
        "what a cluster has left counts a worker's pod once, though the server counts its job as well",
        "providers/hodei_providers/kubernetes/survey.py",
        "        bounds = [capacity.add(capacity.subtract(allocatable, asked), *jobs)] if nodes is not None else []\n",
        "        bounds = [capacity.subtract(allocatable, asked)] if nodes is not None else []\n",
        "tests/unit/providers/test_kubernetes_capacity.py"
        "::test_what_is_left_is_without_what_others_ask_and_with_what_the_server_counts_itself",
        "each job is taken off twice",
    ),
    Protection(
        "W15",
        "capacity is counted from rows and reserved in the transaction that gives a job out",
        "server/hodei_server/work/placing.py",
        "        self._take(best.provider, spec.resources)\n",
        "",
        f"{SERVER}/test_pressure.py::test_many_jobs_at_once_each_have_their_own_log",
        "more workers are launched than the provider may hold",
    ),
    Protection(
        "W16",
        "a job that is cancelled before it runs is never run, and its pending worker is removed",
        "server/hodei_server/work/attempts.py",
        "            return\n        self.lose_cancelled(live)\n",
        "            return\n",
        f"{SERVER}/test_worker_sessions.py::test_a_job_cancelled_while_its_worker_starts_is_never_run",
        "the cancelled job waits for its worker, which could still run it",
    ),
    Protection(
        "W30",
        "the command ends with the job's own code once its state is final",
        "cli/hodei_cli/display.py",
        "        return 128 + outcome.signal",
        "        return 0",
        "tests/e2e/test_run.py::test_codes_are_those_of_a_shell",
        "a killed job looks like success",
    ),
    Protection(
        "W31",
        "a cancel reaches the process and is confirmed",
        "worker/hodei_worker/agent.py",
        "            attempt.stop(cancel.cause or types_wire.CAUSE_CANCELLED, grace)\n",
        "            del grace\n",
        "tests/integration/worker/test_worker.py::test_a_cancel_reaches_the_process",
        "the process goes on, and the test waits in vain",
    ),
    Protection(
        "W32",
        "late, early and repeated messages are legal moves, or harmless",
        "server/hodei_server/domain/states.py",
        "    JobState.STARTING: frozenset({JobState.RUNNING, JobState.FINISHING, JobState.QUEUED}),",
        "    JobState.STARTING: frozenset({JobState.RUNNING, JobState.QUEUED}),",
        f"{MOVES}::test_a_result_that_comes_twice_or_late_changes_nothing",
        "a result that comes before its start is dropped, and the job stays where it was",
    ),
    Protection(
        "W36",
        "a provider that a job names is waited for, and nothing takes its place in silence",
        "server/hodei_server/domain/strategies.py",
        "    if spec.providers and candidate.name not in spec.providers:\n",
        "    if spec.providers and candidate.name not in spec.providers and not spec.providers:\n",
        f"{SERVER}/test_decisions.py::test_a_job_that_names_a_provider_waits_for_it",
        "the job runs at once, elsewhere",
    ),
    Protection(
        "W38",
        "every field is honoured, or refused by its name",
        "server/hodei_server/domain/spec.py",
        '    found = [*unknown_fields(spec, "spec")]\n',
        "    found: list[Violation] = []\n",
        "tests/unit/server/test_spec.py::test_an_unknown_field_is_refused_by_its_number",
        "a field that the server does not know is taken and dropped",
    ),
    Protection(
        "W36",
        "a job that is moved to another provider says so",
        "server/hodei_server/work/decisions.py",
        '    return f"moved from provider {name}, where attempt {failed[name]} failed"\n',
        '    return ""\n',
        f"{SERVER}/test_decisions.py::test_a_failed_attempt_moves_to_another_provider_and_says_so",
        "neither its history nor its decision tells why it runs elsewhere",
    ),
    Protection(
        "W38",
        "every strategy that can be named has a score, and none is taken for another in silence",
        "server/hodei_server/domain/strategies.py",
        '    wire.STRATEGY_LABELS: "by-labels",\n',
        "",
        "tests/unit/server/test_strategies.py::test_every_strategy_of_the_wire_has_a_score",
        "a job that names it is placed by the server's own strategy",
    ),
    Protection(
        "W38",
        "a strategy or provider that there is none of is refused by its field's name",
        "server/hodei_server/rpc/job_submission.py",
        "        if spec.custom_strategy and spec.custom_strategy not in self._scheduler.strategies:\n",
        "        if spec.custom_strategy and not self._scheduler.strategies:\n",
        f"{SERVER}/test_decisions.py::test_names_that_there_are_none_of_are_refused",
        "the job is taken, and waits for ever",
    ),
    Protection(
        "W38",
        "a worker that is newer than the server is refused by the versions of both",
        "server/hodei_server/rpc/worker_words.py",
        "    if not OLDEST_PROTOCOL_VERSION <= version <= PROTOCOL_VERSION:\n",
        "    if not OLDEST_PROTOCOL_VERSION <= version:\n",
        "tests/integration/server/test_versions.py::test_a_newer_worker_ends_and_its_job_tells_both_versions",
        "the newer worker runs the job, for as long as it says nothing that is new",
    ),
    Protection(
        "W40",
        "durations are exact to the microsecond, and what is positive is never nothing",
        "server/hodei_server/db/jobs.py",
        "    micros = duration.seconds * 1_000_000 + duration.nanos // 1000\n",
        "    micros = duration.seconds * 1_000_000\n",
        f"{MOVES}::test_durations_are_kept_to_the_microsecond",
        "a second and a half is one second",
    ),
    Protection(
        "W44",
        "what is starting, or being removed, counts as there",
        "server/hodei_server/db/workers.py",
        '        func.count().label("count"),\n    )\n    .where(_THERE)\n',
        '        func.count().label("count"),\n    )\n    .where(_state.in_([2, 3]))\n',
        f"{SERVER}/test_pressure.py::test_many_jobs_at_once_each_have_their_own_log",
        "each look at the queue launches more, and more than the provider may hold",
    ),
    Protection(
        "W45",
        "a cancelled job is never queued again",
        "server/hodei_server/db/attempts.py",
        '    if attempt["cancel_requested_at"] is None:\n',
        "    if attempt is not None:\n",
        f"{MOVES}::test_a_cancelled_job_is_neither_given_out_nor_queued_again",
        "the retry policy queues the cancelled job again",
    ),
)
