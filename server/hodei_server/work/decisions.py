"""What is written down of decisions, and when: each placement, and a waiting job's verdicts when they have changed."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

from hodei.v1 import job_pb2 as wire
from hodei.v1 import types_pb2 as types_wire
from hodei_server.domain.prices import Prices
from hodei_server.work.placing import Choice

#: Waiting jobs of which it is remembered what was written down last.
MOST_REMEMBERED = 50_000
#: Waiting jobs whose changed verdicts one look writes down; those of the others are by the next ones.
MOST_A_LOOK = 200

#: What a waiting job's verdicts amount to: they have changed when this has.
Gist = tuple[object, ...]


def gist_of(choice: Choice, reason: str) -> Gist:
    """Return what matters of a waiting job's verdicts: not how many workers a full provider holds."""
    return reason, choice.verdicts.standings


class Remembered:
    """What was written down last of waiting jobs. After a restart it is written down once more."""

    def __init__(self) -> None:
        self._gists: collections.OrderedDict[str, Gist] = collections.OrderedDict()

    def knows(self, job_id: str, gist: Gist) -> bool:
        """Whether just this was written down last."""
        return self._gists.get(job_id) == gist

    def keep(self, written: Mapping[str, Gist], placed: Iterable[str]) -> None:
        """Note what was written down, and forget jobs that wait no longer."""
        for job_id in placed:
            self._gists.pop(job_id, None)
        self._gists.update(written)
        while len(self._gists) > MOST_REMEMBERED:
            self._gists.popitem(last=False)


def encoded_decision(
    job_id: str,
    spec: types_wire.JobSpec,
    choice: Choice,
    prices: Mapping[str, Prices],
    *,
    attempt_number: int = 0,
    reason: str = "",
    avoid: frozenset[str] = frozenset(),
) -> bytes:
    """Return a decision as it is written down: an encoded `hodei.v1.Decision` without its time.

    :param reason: why the job waits, or was moved; made of the verdicts where it is empty.
    :param avoid: providers that have failed the job before.
    """
    ranked = choice.verdicts.avoiding(avoid)
    nearest = ranked[0] if ranked and ranked[0].eligible else None
    if not reason and nearest is None:
        reason = "no provider can run it"
    elif not reason and nearest is not None:
        reason = nearest.reason if choice.place is not None else f"{nearest.provider}: {nearest.reason}"
    decision = wire.Decision(job_id=job_id, attempt_number=attempt_number, strategy=choice.strategy, reason=reason)
    if choice.place is not None:
        decision.provider = choice.place.provider
        limit = prices[choice.place.provider].limit(spec) if choice.place.provider in prices else None
        if limit is not None:
            decision.cost_limit = limit
    if not avoid:
        return decision.SerializeToString() + choice.verdicts.encoded
    candidates = (each.as_avoided() if each.provider in avoid else each.encoded for each in ranked)
    return decision.SerializeToString() + b"".join(candidates)


def moved(failed: Mapping[str, int], provider: str) -> str:
    """Say that a job is moved to another provider; empty where it isn't.

    :param failed: the providers that failed it, with the newest such attempt's number.
    """
    if not failed or provider in failed:
        return ""
    name = max(failed, key=lambda each: failed[each])
    return f"moved from provider {name}, where attempt {failed[name]} failed"
