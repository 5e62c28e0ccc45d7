"""The state machine and what follows an ended attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.retry import decide_retry
from hodei_server.domain.states import (
    INFRASTRUCTURE_CAUSES,
    MOVES,
    TERMINAL_STATES,
    Cause,
    JobState,
    ended_as,
    sources_of,
)


def test_every_state_and_cause_of_the_wire_is_known() -> None:
    """The domain's numbers are the wire's, all of them."""
    assert {int(state) for state in JobState} == set(wire.JobState.values()) - {0}
    assert {int(cause) for cause in Cause} == set(wire.Cause.values())
    assert set(MOVES) == set(JobState)


def test_nothing_follows_a_terminal_state() -> None:
    """W45: no move leads out of an end, so nothing resurrects an ended job."""
    for state in TERMINAL_STATES:
        assert not MOVES[state]
        assert state.terminal


def test_every_state_is_reached_from_the_queue() -> None:
    """No state stands in the table in vain."""
    reached, waiting = {JobState.QUEUED}, [JobState.QUEUED]
    while waiting:
        for target in MOVES[waiting.pop()] - reached:
            reached.add(target)
            waiting.append(target)
    assert reached == set(JobState)


def test_only_finishing_leads_from_a_process_to_an_end() -> None:
    """L26: a job that has had an attempt ends only after its log has."""
    for target in TERMINAL_STATES:
        assert set(sources_of(target)) <= {JobState.QUEUED, JobState.FINISHING}


@pytest.mark.parametrize(
    ("cause", "exit_code", "state"),
    [
        (Cause.EXIT_CODE, 0, JobState.SUCCEEDED),
        (Cause.EXIT_CODE, 1, JobState.FAILED),
        (Cause.SIGNAL, None, JobState.FAILED),
        (Cause.OUT_OF_MEMORY, 0, JobState.FAILED),
        (Cause.RUN_TIMEOUT, None, JobState.TIMED_OUT),
        (Cause.QUEUE_TIMEOUT, None, JobState.TIMED_OUT),
        (Cause.CANCELLED, 0, JobState.CANCELLED),
        (Cause.WORKER_LOST, None, JobState.FAILED),
    ],
)
def test_a_cause_leads_to_its_end(cause: Cause, exit_code: int | None, state: JobState) -> None:
    """Each cause has one terminal state."""
    assert ended_as(cause, exit_code) is state


def test_a_success_is_never_retried() -> None:
    """Whatever the policy says."""
    policy = wire.RetryPolicy(max_attempts=10)
    assert decide_retry(policy, Cause.EXIT_CODE, 0, 0, 0) is None


def test_infrastructure_failures_are_counted_apart() -> None:
    """A lost worker costs none of the user's attempts, and has a bound of its own."""
    policy = wire.RetryPolicy(max_attempts=1)
    retry = decide_retry(policy, Cause.WORKER_LOST, None, 5, 0)
    assert retry is not None
    assert retry.infrastructure
    assert decide_retry(policy, Cause.WORKER_LOST, None, 0, 3) is None
    assert decide_retry(policy, Cause.EXIT_CODE, 1, 0, 0) is None


def test_a_quota_that_is_used_up_counts_as_no_failure() -> None:
    """W04: it is waited for without a bound, more and more seldom, unless the policy has a bound of its own."""
    policy = wire.RetryPolicy(max_attempts=1)
    for attempts, most in [(1, 1), (3, 4), (50, 30)]:
        retry = decide_retry(policy, Cause.QUOTA, None, 0, 3, attempts=attempts)
        assert retry is not None
        assert not retry.counted
        assert most / 2 <= retry.delay <= most
    policy.max_infrastructure_retries = 2
    retry = decide_retry(policy, Cause.QUOTA, None, 0, 1, attempts=2)
    assert retry is not None
    assert retry.counted
    assert decide_retry(policy, Cause.QUOTA, None, 0, 2, attempts=3) is None


def test_what_the_infrastructure_will_never_do_is_not_asked_for_again() -> None:
    """W04: a policy allows retries of what may heal; of the user's own causes it decides as always."""
    policy = wire.RetryPolicy(max_attempts=2, max_infrastructure_retries=100, on_causes=[wire.CAUSE_IMAGE])
    for cause in INFRASTRUCTURE_CAUSES:
        assert decide_retry(policy, cause, None, 0, 0) is not None
        assert decide_retry(policy, cause, None, 0, 0, final=True) is None
    assert decide_retry(policy, Cause.IMAGE, None, 0, 0, final=True) is not None


def test_a_policy_may_name_codes_and_causes() -> None:
    """W38: only what it names is retried; codes without causes are exit codes only."""
    for causes in ([wire.CAUSE_EXIT_CODE], []):
        policy = wire.RetryPolicy(max_attempts=3, on_exit_codes=[75], on_causes=causes)
        assert decide_retry(policy, Cause.EXIT_CODE, 75, 0, 0) is not None
        assert decide_retry(policy, Cause.EXIT_CODE, 1, 0, 0) is None
        assert decide_retry(policy, Cause.SIGNAL, None, 0, 0) is None
        assert decide_retry(policy, Cause.OUT_OF_MEMORY, 75, 0, 0) is None
    policy.on_causes[:] = [wire.CAUSE_EXIT_CODE, wire.CAUSE_SIGNAL]
    assert decide_retry(policy, Cause.SIGNAL, None, 0, 0) is not None
    assert decide_retry(policy, Cause.EXIT_CODE, 1, 0, 0) is None


def test_a_policy_that_would_be_refused_today_is_still_followed() -> None:
    """W38: a job that was submitted before goes on; of what its policy names, what can happen is retried."""
    policy = wire.RetryPolicy(max_attempts=3, on_exit_codes=[3], on_causes=[wire.CAUSE_OUT_OF_MEMORY])
    assert decide_retry(policy, Cause.OUT_OF_MEMORY, None, 0, 0) is not None
    assert decide_retry(policy, Cause.EXIT_CODE, 3, 0, 0) is None


@given(cause=st.sampled_from(list(Cause)), failures=st.integers(0, 200), infrastructure=st.integers(0, 200))
def test_retries_end(cause: Cause, failures: int, infrastructure: int) -> None:
    """No policy retries without end, and no delay exceeds its bound; a quota is only waited for."""
    policy = wire.RetryPolicy(max_attempts=100)
    retry = decide_retry(policy, cause, 1, failures, infrastructure)
    if failures >= 99 and infrastructure >= 3 and cause is not Cause.QUOTA:
        assert retry is None
    if retry is not None:
        assert 0 <= retry.delay <= 300
        assert retry.infrastructure == (cause in INFRASTRUCTURE_CAUSES)
