"""Accidents for tests: a proxy that breaks connections, a disk that fills up, workers to kill and to stop."""

from hodei_faults.disk import SmallDisk, small_disks
from hodei_faults.processes import connected_to, descriptors, recorded_pids, recorded_workers, worker_pids
from hodei_faults.proxy import FaultyProxy

__all__ = [
    "FaultyProxy",
    "SmallDisk",
    "connected_to",
    "descriptors",
    "recorded_pids",
    "recorded_workers",
    "small_disks",
    "worker_pids",
]
