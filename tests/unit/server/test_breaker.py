"""A provider that keeps failing is neither hammered nor given up (W28)."""

from __future__ import annotations

from hodei_server.domain.breaker import FIRST_SECONDS, MOST_SECONDS, THRESHOLD, Breaker

#: Seconds that a probe has.
PROBE = 30.0


def failing(times: int, now: float = 0.0) -> Breaker:
    """Return one that has seen so many failures."""
    breaker = Breaker()
    for _ in range(times):
        breaker.failed(now)
    return breaker


def test_few_failures_change_nothing() -> None:
    """One in a while is normal."""
    assert failing(THRESHOLD - 1).refusal(0.0) == ""


def test_the_pause_doubles_up_to_its_bound() -> None:
    """W28: with each failure in a row."""
    assert failing(THRESHOLD).refusal(FIRST_SECONDS / 2)
    assert not failing(THRESHOLD).refusal(FIRST_SECONDS)
    assert failing(THRESHOLD + 2).refusal(FIRST_SECONDS * 3.9)
    assert not failing(THRESHOLD + 2).refusal(FIRST_SECONDS * 4)
    assert failing(THRESHOLD + 50).refusal(MOST_SECONDS - 0.1)
    assert not failing(THRESHOLD + 50).refusal(MOST_SECONDS)


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
