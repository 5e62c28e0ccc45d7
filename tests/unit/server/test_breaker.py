"""A provider that keeps failing is neither hammered nor given up (W28)."""

from __future__ import annotations

from hodei_server.domain.breaker import FIRST_SECONDS, MOST_SECONDS, THRESHOLD, Breaker

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
