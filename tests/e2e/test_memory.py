"""What the server's process takes, as the kernel counts it, while a large log goes through it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import Any

import pytest

from hodei_faults.processes import memory

MIB = 1 << 20
#: `just large-log` sets it to more.
LOG_MIB = int(os.environ.get("HODEI_TEST_LOG_MIB", "256"))
#: A log that is large enough for all that is made ready once, and a fraction of the other.
SMALL_MIB = min(100, LOG_MIB // 4)
#: What the allocator's fragments may be, either way.
ALLOWED = 12 * MIB
#: What a stream at full speed takes beside the settings' bounds: gRPC's windows, blocks in the hands of threads.
ON_THE_WAY = 64 * MIB


def print_log(cli: Any, mib: int) -> None:
    """Run a job that prints so much, and follow it; what the follower was too slow for is cut, and told by segments."""
    script = f"yes 'a line of a log, and another, and another' | head -c {mib}M"
    process = cli.start("run", "-q", "--", "sh", "-c", script)
    counting = subprocess.run(["wc", "-c"], stdin=process.stdout, capture_output=True, check=True)
    _, notes = process.communicate()
    cut = sum(int(size) for size in re.findall(rb"\((\d+) bytes\) are not here", notes))
    assert process.returncode == 0
    assert int(counting.stdout) <= mib * MIB <= int(counting.stdout) + cut


def settled(cli: Any, wanted: int) -> int:
    """Return what the server has once its segments are compressed: at most `wanted`, or that of a minute later.

    :param wanted: bytes.
    """
    pid = cli.server.pid
    print_log(cli, 1)
    deadline = time.monotonic() + 60
    while memory(pid, "VmRSS") > wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return memory(pid, "VmRSS")


@pytest.mark.timeout(120 + LOG_MIB)
def test_a_server_that_has_seen_a_large_log_is_no_larger_than_one_that_has_not(offline: Any) -> None:
    """L09, L14: its peak keeps to the settings' bounds, and a log many times as large leaves no more behind."""
    offline.environment |= {
        "HODEI_LOG_PENDING": "2Mi",
        "HODEI_LOG_RECENT": "1Mi",
        "HODEI_LOG_SEGMENT": "8Mi",
        "HODEI_LOG_BUDGET": "64Mi",
    }
    offline.start_server()
    pid = offline.server.pid
    print_log(offline, 1)
    before, peak_before = memory(pid, "VmRSS"), memory(pid, "VmHWM")
    print_log(offline, SMALL_MIB)
    small = settled(offline, before + ALLOWED)
    print_log(offline, LOG_MIB)
    peak, after = memory(pid, "VmHWM"), settled(offline, small + ALLOWED)
    figures = {"before": before, f"after {SMALL_MIB} MiB": small, f"after {LOG_MIB} MiB": after, "peak": peak}
    print("; ".join(f"{name}: {size // MIB} MiB" for name, size in figures.items()))  # noqa: T201 - `just large-log` shows it
    assert peak - peak_before < 3 * MIB + ON_THE_WAY
    assert small <= before + ALLOWED
    assert after <= small + ALLOWED
