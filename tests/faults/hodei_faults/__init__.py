"""What several tests have in common.

Accidents: proxies that break connections, a disk that fills up, values that make no sense, processes to kill and to
stop. Models of what must hold whatever happens, and machines that make it happen in any order.
"""

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
