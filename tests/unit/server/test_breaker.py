"""A provider that keeps failing is neither hammered nor given up (W28)."""

from __future__ import annotations

import pytest

from hodei_server.domain.blame import Blame, of_launch, of_loss
from hodei_server.domain.breaker import FIRST_SECONDS, MOST_ALONE_SECONDS, MOST_SECONDS, THRESHOLD, Breaker
from hodei_server.domain.states import Cause

#: Seconds that a probe has.
PROBE = 30.0


def failing(times: int) -> Breaker:
    """Return one that has seen so many failures at once, at 0 seconds."""
    breaker = Breaker()
    for _ in range(times):
        breaker.failed(0.0)
    return breaker


def test_few_failures_change_nothing() -> None:
    """One in a while is normal."""
    assert failing(THRESHOLD - 1).refusal(0.0) == ""


def test_the_pause_doubles_up_to_its_bound() -> None:
    """W28: with each trial that fails."""
    breaker, now = failing(THRESHOLD), 0.0
    for trial in range(20):
        pause = min(FIRST_SECONDS * 2**trial, MOST_SECONDS)
        assert breaker.refusal(now + 0.99 * pause)
        assert not breaker.refusal(now + pause)
        now += pause
        breaker.begin(now, PROBE)
        breaker.failed(now)


def test_launches_that_fail_together_are_one_failure() -> None:
    """Fifty that were on their way as it opened don't keep a provider that is back out for a minute."""
    breaker = failing(THRESHOLD + 50)
    assert breaker.refusal(FIRST_SECONDS * 0.99)
    assert not breaker.refusal(FIRST_SECONDS)


def test_a_success_between_failures_keeps_it_closed() -> None:
    """Only failures in a row open it; and after a success the pause is short again."""
    breaker = failing(THRESHOLD - 1)
    breaker.succeeded()
    breaker.failed(0.0)
    assert breaker.refusal(0.0) == ""
    breaker = failing(THRESHOLD)
    breaker.begin(FIRST_SECONDS, PROBE)
    breaker.failed(FIRST_SECONDS)
    breaker.succeeded()
    for _ in range(THRESHOLD):
        breaker.failed(100.0)
    assert not breaker.refusal(100.0 + FIRST_SECONDS)


def test_after_the_pause_one_tries_and_the_others_wait() -> None:
    """W28: half-open; whoever tries decides."""
    breaker = failing(THRESHOLD)
    assert breaker.half_open(FIRST_SECONDS)
    breaker.begin(FIRST_SECONDS, PROBE)
    assert "being tried" in breaker.refusal(FIRST_SECONDS)
    breaker.succeeded()
    assert not breaker.refusal(FIRST_SECONDS)
    assert breaker.failures == 0


def test_a_failed_trial_lengthens_the_pause() -> None:
    """It is left alone again at once."""
    breaker = failing(THRESHOLD)
    breaker.begin(FIRST_SECONDS, PROBE)
    breaker.failed(FIRST_SECONDS)
    assert breaker.refusal(FIRST_SECONDS + FIRST_SECONDS * 1.9)
    assert breaker.half_open(FIRST_SECONDS + FIRST_SECONDS * 2)


def test_who_never_comes_back_from_a_trial_blocks_nobody_for_ever() -> None:
    """W28: a launch that waits for an image says nothing of the provider."""
    breaker = failing(THRESHOLD)
    breaker.begin(FIRST_SECONDS, PROBE)
    assert breaker.refusal(FIRST_SECONDS + PROBE - 0.1)
    assert breaker.half_open(FIRST_SECONDS + PROBE)


def test_a_trial_that_shows_nothing_lets_the_next_one_try() -> None:
    """W28: a probe whose job has no such image, or is cancelled, tells nothing of its provider."""
    breaker = failing(THRESHOLD)
    breaker.begin(100.0, 300.0)
    assert breaker.refusal(101.0)
    breaker.undecided()
    assert breaker.refusal(101.0) == ""
    assert breaker.failures == THRESHOLD


def test_who_asks_to_be_left_alone_is_for_all_of_that_and_for_minutes_at_most() -> None:
    """W04, W28: whether it has failed before or not; and no launch is the probe meanwhile."""
    breaker = Breaker()
    breaker.asked(0.0, 30.0)
    breaker.asked(1.0, 10.0)
    breaker.succeeded()
    assert breaker.refusal(0.5) == "it has asked to be left alone for another 30 s"
    assert breaker.refusal(29.9) == "it has asked to be left alone for another 1 s"
    assert breaker.refusal(30.0) == ""
    breaker = failing(THRESHOLD)
    breaker.asked(0.0, 30.0)
    assert not breaker.half_open(29.9)
    assert breaker.half_open(30.0)
    breaker.asked(30.0, 1e9)
    assert breaker.refusal(30.0 + MOST_ALONE_SECONDS - 0.1)
    assert not breaker.refusal(30.0 + MOST_ALONE_SECONDS)


@pytest.mark.parametrize("cause", list(Cause))
@pytest.mark.parametrize("own_image", [True, False])
@pytest.mark.parametrize("connected", [True, False])
def test_what_a_job_does_opens_no_breaker(cause: Cause, own_image: bool, connected: bool) -> None:  # noqa: FBT001
    """W28: whatever an attempt ends with once its worker has it; its health suffers from lost workers alone."""
    blame = of_loss(cause, has_job=True, connected=connected, own_image=own_image)
    assert blame is (Blame.HEALTH if cause is Cause.WORKER_LOST else None)


@pytest.mark.parametrize("cause", list(Cause))
def test_only_workers_that_never_come_are_held_against_a_provider(cause: Cause) -> None:
    """W28: of its own image; of a job's it may be the image, and what else keeps a job from starting is the job's."""
    absent = cause in {Cause.WORKER_LOST, Cause.START_TIMEOUT}
    assert of_loss(cause, has_job=False, connected=False, own_image=False) is (
        Blame.PROVIDER if absent else Blame.NOTHING
    )
    assert of_loss(cause, has_job=False, connected=False, own_image=True) is Blame.NOTHING
    assert of_loss(cause, has_job=False, connected=True, own_image=False) is Blame.NOTHING


def test_a_launch_that_is_refused_for_what_the_job_asks_is_not_the_providers_fault() -> None:
    """W28: an image that is not there, resources that nobody has, a quota that is used up."""
    assert of_launch(retryable=True, by_job=False) is Blame.PROVIDER
    assert of_launch(retryable=True, by_job=True) is Blame.NOTHING
    assert of_launch(retryable=False, by_job=True) is Blame.NOTHING
    # What the provider can't do at all for this job shows in its health; others may fare better.
    assert of_launch(retryable=False, by_job=False) is Blame.HEALTH
