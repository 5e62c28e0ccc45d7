"""How many waiting jobs one look at the queue sees, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodei_server.domain.fairness import FairQueue, Limits, Pull, Usage

#: Waiting jobs read at once.
PAGE = 200
#: Waiting jobs looked at in one transaction: of each tenant the same share, which is never smaller than the other.
MOST_LOOKED_AT = 5000
LEAST_SHARE = 2
#: Waiting jobs of each tenant looked at while there is room nowhere, so that it is written down why they wait.
FULL_PAGE = 20


def queue_of(
    tenants: Sequence[str],
    usage: dict[str, Usage],
    limits: Mapping[str, Limits],
    pull: Pull,
    *,
    free: int,
    left_off: Mapping[str, Mapping[Any, Any]],
) -> tuple[FairQueue, int]:
    """Return waiting jobs in the order in which one look sees them; the other parameters are as of `FairQueue`.

    :param free: how many jobs could find a place at most.
    :return: and how many jobs of each tenant are looked at where there is no room.
    """
    share = max(MOST_LOOKED_AT // max(len(tenants), 1), LEAST_SHARE)
    full_page = min(FULL_PAGE, share)
    queue = FairQueue(
        tenants,
        usage,
        limits,
        pull,
        # No more than can find a place is read, where each does.
        first=min(free, PAGE) or full_page,
        page=PAGE,
        most=share if free else full_page,
        left_off=left_off if free else None,
    )
    return queue, full_page
