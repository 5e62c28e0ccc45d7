"""A provider as the scheduler sees it: what it can hold, what of that is free, and what was measured of it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from hodei.v1 import types_pb2 as wire
from hodei_server.domain.measures import Estimate
from hodei_server.domain.prices import Prices

RefusedNames = Callable[[Mapping[str, str], Mapping[str, str]], Mapping[str, str]]
#: What of a job's resources an engine runs out of.
SHARED = ("cpu_millis", "memory_bytes", "disk_bytes", "gpu_count")


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A provider.

    :param max_resources: the most one worker can be given; 0 in a field is no limit.
    :param refused_resources: what it can't honour of them all the same, with the reason.
    :param held: workers there now, those that are starting or being removed included.
    :param free: what the engine has left beside the workers held; a resource that is not named has no known bound.
    :param elastic: what is left bounds nothing: more may wait there.
    :param architectures: of its processors; empty where it doesn't say.
    :param start: how long a launch with an image is expected to take.
    :param health: from 0 to 1, over the last minutes.
    :param annotations: keys under which a job's annotations are compared with its labels.
    :param refused_names: told a job's own labels and annotations, which of them it can't honour, by field, and why.
    :param closed: why it takes nothing though it is well, in words; empty where it takes jobs.
    """

    name: str
    enabled: bool
    healthy: bool
    held: int
    max_workers: int
    images: bool = False
    resource_limits: bool = False
    refused_resources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_resources: wire.Resources = dataclasses.field(default_factory=wire.Resources)
    gpu_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    prices: Prices = dataclasses.field(default_factory=Prices)
    start: Callable[[str], Estimate] = lambda _image: Estimate(1.0)
    regions: tuple[str, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: tuple[str, ...] = ()
    refused_names: RefusedNames = lambda _labels, _annotations: {}
    health_message: str = ""
    health: float = 1.0
    free: Mapping[str, int] = dataclasses.field(default_factory=dict)
    elastic: bool = False
    closed: str = "it is not enabled"

    @property
    def room(self) -> int:
        """How many more workers it can hold, whatever they ask."""
        return max(self.max_workers - self.held, 0)

    def fits(self, asked: wire.Resources) -> int:
        """Return how many more workers it can hold that ask for these resources each."""
        most = self.room
        for name, left in self.free.items():
            wanted = getattr(asked, name)
            if wanted:
                most = min(most, max(left, 0) // wanted)
        return most

    def with_another(self, asked: wire.Resources) -> Candidate:
        """Return it with one more worker, which asks for these resources."""
        free = {name: left - getattr(asked, name) for name, left in self.free.items()}
        return dataclasses.replace(self, held=self.held + 1, free=free)
