"""What an acknowledgement waits for, as the kernel sees it: a power cut can't be shown, the order of the calls can."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI") and shutil.which("strace") is None, reason="there is no strace here"
)
#: What the job prints; its arguments hold it in two parts, so that no message but its log has the whole.
MARK = "the-line-that-is-durable"
SCRIPT = "printf '%s-%s\\n' the-line that-is-durable; exec sleep 0.2"
TRACED = "openat,pwrite64,pwritev,pwritev2,fdatasync,fsync,sendmsg"
LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")


@dataclasses.dataclass
class Call:
    """A system call: where in the trace it began and where it ended."""

    thread: int
    name: str
    text: str
    began: int
    ended: int

    @property
    def descriptor(self) -> str:
        """The number it works on."""
        return self.text.partition(",")[0].partition(")")[0].strip()

    @property
    def result(self) -> str:
        """What it returned."""
        return self.text.rpartition(" = ")[2].split()[0]


def calls_in(trace: Path, threads: set[int]) -> list[Call]:
    """Return the calls that ended, of some threads."""
    running: dict[int, Call] = {}
    calls = []
    for place, line in enumerate(trace.read_text(errors="replace").splitlines()):
        match = LINE.fullmatch(line)
        if match is None or int(match[1]) not in threads:
            continue
        thread, resumed, name, text = int(match[1]), match[2], match[3], match[4]
        call = running.pop(thread, None) if resumed else Call(thread, name, "", place, place)
        if call is None:  # it was under way when the trace began
            continue
        call.text += text.removesuffix("<unfinished ...>")
        call.ended = place
        if text.endswith("<unfinished ...>"):
            running[thread] = call
        else:
            calls.append(call)
    return calls


@pytest.fixture(params=["power", "process"])
def traced(request: pytest.FixtureRequest, offline: Any) -> tuple[str, Any, list[Call], str]:
    """Run one job under strace; return the durability, the command line, the server's calls and the job's id."""
    offline.environment["HODEI_DURABILITY"] = request.param
    offline.start_server()
    pid, trace = offline.server.pid, offline.folder / "trace"
    command = ["strace", "-f", "-s", "65536", "-e", f"trace={TRACED}", "-o", str(trace), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
        assert strace.stderr is not None
        assert b"attached" in strace.stderr.readline()
        job = offline.run("submit", "--", "sh", "-c", SCRIPT, check=0).stdout.decode().strip()
        assert offline.run("logs", "-f", job, check=0).stdout.decode() == f"{MARK}\n"
        offline.run("wait", job, check=0)
        threads = {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}
        strace.send_signal(signal.SIGINT)
        strace.communicate()
    return request.param, offline, calls_in(trace, threads), job


def syncs(calls: list[Call], descriptor: str, after: int) -> list[Call]:
    """Return the successful syncs of a descriptor that began after a place in the trace."""
    return [
        call
        for call in calls
        if call.name in {"fdatasync", "fsync"}
        and (call.descriptor, call.result) == (descriptor, "0")
        and call.began > after
    ]


def test_nothing_is_told_before_it_is_durable(traced: tuple[str, Any, list[Call], str]) -> None:
    """write, fdatasync, then the acknowledgement and the followers; commit, fdatasync, then the answer to a submission.

    With `process`, the log is written and told without a sync.
    """
    durability, cli, calls, job = traced
    uid = next(path.name for path in (cli.folder / "data/logs").glob("*/*")).partition("-")[0]
    sends = [call for call in calls if call.name == "sendmsg"]
    write = next(call for call in calls if call.name.startswith("pwritev") and MARK in call.text)
    synced = syncs(calls, write.descriptor, write.ended)
    told_followers = [call for call in sends if MARK in call.text]
    run = next(call for call in sends if uid in call.text and "%s-%s" in call.text)
    told_worker = [
        call for call in sends if call.descriptor == run.descriptor and uid in call.text and call.began > write.began
    ]
    assert told_followers
    assert told_worker
    first_told = min(call.began for call in (*told_followers, *told_worker))
    committed = [call for call in calls if call.name == "pwrite64" and job in call.text]
    answered = min(call.began for call in sends if job in call.text)
    if durability == "process":
        assert write.ended < first_told
        assert not [call for call in synced if call.ended < first_told]
        assert committed[0].ended < answered
        return
    assert synced[0].ended < first_told
    # The folder of the new file, too.
    folder = next(
        call
        for call in calls
        if call.name == "openat" and f'/logs/{uid[:2]}"' in call.text and "O_DIRECTORY" in call.text
    )
    assert syncs(calls, folder.result, folder.ended)[0].ended < first_told
    assert syncs(calls, committed[0].descriptor, committed[0].ended)[0].ended < answered
