"""What a job costs at a provider, before and after it ran. Pure; prices are in the installation's own unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hodei.v1 import types_pb2 as wire

GIB = float(1 << 30)
#: A job's type of GPU counts as a label under this key, so that prices may depend on it.
GPU_TYPE_LABEL = "gpu-type"


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """One price, and what it is for jobs with certain labels.

    :param where: prices by label (a key and its value); the first that the job has counts.
    """

    amount: float = 0.0
    where: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)

    def of(self, spec: wire.JobSpec) -> float:
        """Return the price for a job: by its type of GPU, the labels it requires of its provider, its own labels."""
        for (key, value), amount in self.where.items():
            if key == GPU_TYPE_LABEL and spec.resources.gpu_type == value:
                return amount
            if spec.required_labels.get(key) == value or spec.labels.get(key) == value:
                return amount
        return self.amount


@dataclasses.dataclass(frozen=True, slots=True)
class Prices:
    """What a provider takes an hour, for a worker, a processor, a GiB of memory, a GPU."""

    worker: Rate = dataclasses.field(default_factory=Rate)
    cpu: Rate = dataclasses.field(default_factory=Rate)
    gib: Rate = dataclasses.field(default_factory=Rate)
    gpu: Rate = dataclasses.field(default_factory=Rate)

    @property
    def known(self) -> bool:
        """Whether there is any price."""
        return any(rate.amount or rate.where for rate in (self.worker, self.cpu, self.gib, self.gpu))

    def per_hour(self, spec: wire.JobSpec, *, processors: float = 0.0, memory_bytes: float = 0.0) -> float:
        """Return what a job costs an hour: for what it asks, which is kept for it whether it uses it or not.

        :param processors: used, where it asked for none.
        :param memory_bytes: used, where it asked for none.
        """
        asked = spec.resources
        return (
            self.worker.of(spec)
            + self.cpu.of(spec) * (asked.cpu_millis / 1000 or processors)
            + self.gib.of(spec) * ((asked.memory_bytes or memory_bytes) / GIB)
            + self.gpu.of(spec) * asked.gpu_count
        )

    def limit(self, spec: wire.JobSpec) -> float | None:
        """Return what an attempt of a job costs at most; None where that is not known: no prices, no run timeout."""
        if not self.known or not spec.HasField("run_timeout"):
            return None
        return self.per_hour(spec) * spec.run_timeout.ToNanoseconds() / 3.6e12

    def of_run(self, spec: wire.JobSpec, seconds: float, outcome: wire.Outcome) -> float | None:
        """Return what an attempt has cost.

        :param seconds: from its process's start to its end.
        :param outcome: says what it used.
        :return: None where there are no prices.
        """
        if not self.known:
            return None
        processors = outcome.cpu_time.ToNanoseconds() / 1e9 / seconds if seconds > 0 else 0.0
        hourly = self.per_hour(spec, processors=processors, memory_bytes=outcome.peak_memory_bytes)
        return hourly * seconds / 3600
