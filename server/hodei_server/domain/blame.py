"""What a failure says of its provider. What a job does, or its image, is never held against it. Pure."""

from __future__ import annotations

import enum

from hodei_server.domain.states import Cause


class Blame(enum.Enum):
    """What is made of a failure."""

    #: Nothing but the provider can have caused it: its breaker counts it, and its health.
    PROVIDER = "provider"
    #: It went wrong at the provider, which may do for others: its health counts it.
    HEALTH = "health"
    #: It shows nothing of the provider: where it was a probe, another may be made.
    NOTHING = "nothing"


def of_launch(*, retryable: bool, by_job: bool) -> Blame:
    """Judge a launch that the provider refused.

    :param retryable: the same launch may succeed later.
    :param by_job: for a reason that lies in what the job asks (its image, its resources, room that is used up), or
        because the job was given up meanwhile.
    """
    if by_job:
        return Blame.NOTHING
    return Blame.PROVIDER if retryable else Blame.HEALTH


def of_loss(cause: Cause, *, has_job: bool, connected: bool, own_image: bool) -> Blame | None:
    """Judge an attempt that was given up.

    :param has_job: its worker was told to run it, or runs it.
    :param connected: its worker is there.
    :param own_image: the worker was to start in an image of the job's, which may be what keeps it from that.
    :return: None where there is nothing to judge: the worker had its job, and not the provider ended it.
    """
    if cause is Cause.WORKER_LOST and has_job:
        return Blame.HEALTH
    if cause in {Cause.WORKER_LOST, Cause.START_TIMEOUT} and not has_job and not connected:
        return Blame.NOTHING if own_image else Blame.PROVIDER
    return None if has_job else Blame.NOTHING
