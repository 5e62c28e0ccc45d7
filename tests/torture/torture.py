"""Kill tests: a load of jobs with known output, and a hand that kills, stops and continues what runs them.

    python tests/torture/torture.py --seconds 120 --seed 7

The account is kept outside Hodei: each run of a job leaves marks in a folder of its own. At the end every job that
was acknowledged must have ended as it should, no attempt may have run twice nor two of a job at once, every
complete log must be byte for byte what the job wrote and every other one a prefix of it, followers must have seen
each sequence once and in order, and no worker may be left. A failing run prints its seed and its history.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, ClientSettings, HodeiError, LogPlace, UnavailableError
from hodei_client.client import read_settings

HODEI = str(Path(sys.executable).with_name("hodei"))
#: Prints known lines, slowly enough to be met by accidents; leaves its marks before and after.
JOB = r"""
marks=$1; lines=$2; code=$3; pause=$4
for pid in $(cat "$marks/pids" 2>/dev/null); do
    grep -qs '^State:.[^ZX]' "/proc/$pid/status" && echo "$HODEI_ATTEMPT_UID beside $pid" >> "$marks/overlaps"
done
echo $$ >> "$marks/pids"
echo "$HODEI_ATTEMPT_UID" >> "$marks/starts"
i=0
while [ $i -lt $lines ]; do
    echo "line $i of $lines"
    i=$((i + 1))
    [ $((i % 50)) -eq 0 ] && sleep $pause
done
exit $code
"""


@dataclasses.dataclass
class Job:
    """What one job must have come to."""

    job_id: str
    marks: Path
    lines: int
    code: int
    seen: dict[int, bytes] = dataclasses.field(default_factory=dict)

    @property
    def expected(self) -> bytes:
        """What it writes."""
        return b"".join(b"line %d of %d\n" % (number, self.lines) for number in range(self.lines))


class Torture:
    """One run."""

    def __init__(self, folder: Path, seed: int, seconds: float) -> None:
        self.folder = folder
        self.random = random.Random(seed)  # noqa: S311 - the same accidents again, not a secret
        self.seconds = seconds
        self.jobs: list[Job] = []
        self.history: list[str] = []
        self.kills = 0
        self.incomplete = 0
        self.faults: list[str] = []
        self.server: asyncio.subprocess.Process | None = None
        ports = [free_port(), free_port()]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")} | {
            "HODEI_LISTEN": f"127.0.0.1:{ports[0]}",
            "HODEI_WORKER_LISTEN": f"127.0.0.1:{ports[1]}",
            "HODEI_DATA_DIR": str(folder / "data"),
            "HODEI_LOG_SEGMENT": "64Ki",
            "HODEI_LEASE": "2s",
            "HODEI_PING_INTERVAL": "500ms",
            "HODEI_ORPHAN_AFTER": "20s",
            "HODEI_LOG_LEVEL": "warn",
        }
        settings = read_settings(f"127.0.0.1:{ports[0]}")
        self.settings: ClientSettings = dataclasses.replace(settings, patience=120.0)
        self.began = time.monotonic()

    def note(self, text: str) -> None:
        """Write a step down."""
        self.history.append(f"{time.monotonic() - self.began:8.2f} {text}")

    async def start_server(self) -> None:
        """Start the server."""
        with (self.folder / "server.log").open("ab") as log:
            self.server = await asyncio.create_subprocess_exec(
                HODEI, "server", env=self.environment, stdout=log, stderr=log
            )

    async def run(self) -> None:
        """Load, hurt, wait, account."""
        await self.start_server()
        async with Client(settings=self.settings) as client:
            hand = asyncio.create_task(self.hurt())
            followers: list[asyncio.Task[None]] = []
            while time.monotonic() - self.began < self.seconds:
                job = await self.submit(client)
                if job is not None:
                    self.jobs.append(job)
                    followers.append(asyncio.create_task(self.follow(job)))
                await asyncio.sleep(self.random.uniform(0.05, 0.5))
            hand.cancel()
            await asyncio.gather(hand, return_exceptions=True)
            for pid in self.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            assert self.server is not None
            if self.server.returncode is not None:
                await self.start_server()
            self.note("the hand rests")
            try:
                async with asyncio.timeout(180):
                    for job in self.jobs:
                        await self.account(client, job)
                    await asyncio.gather(*followers)
                    while self.workers():
                        await asyncio.sleep(0.1)
            except TimeoutError:
                self.faults.append(f"not everything has ended: workers {self.workers()}")
        assert self.server is not None
        self.server.terminate()
        await self.server.wait()

    async def submit(self, client: Client) -> Job | None:
        """Submit a job; None when the submission was not acknowledged."""
        marks = self.folder / "marks" / str(len(self.jobs)) / os.urandom(4).hex()
        marks.mkdir(parents=True)
        lines, code = self.random.randint(0, 3000), self.random.choice([0, 0, 3])
        pause = f"{self.random.uniform(0.0, 0.05):.3f}"
        spec = wire.JobSpec(
            argv=["sh", "-c", JOB, "job", str(marks), str(lines), str(code), pause],
            retry=wire.RetryPolicy(max_infrastructure_retries=100),
        )
        spec.retry.initial_backoff.FromMilliseconds(50)
        try:
            return Job(await client.submit(spec), marks, lines, code)
        except HodeiError as error:
            self.note(f"not acknowledged: {error}")
            return None

    async def follow(self, job: Job) -> None:
        """Read a job's log live, over whatever happens."""
        expected = 0
        attempt = 1
        async with Client(settings=self.settings) as client:
            try:
                async for event in client.logs(job.job_id, place=LogPlace(attempt=1)):
                    if isinstance(event, Chunk):
                        if event.attempt_number != attempt:
                            attempt, expected = event.attempt_number, 0
                        if event.sequence != expected:
                            self.faults.append(f"{job.job_id}: a follower saw {event.sequence}, not {expected}")
                        expected = event.sequence + 1
                        if event.stream == STDOUT:
                            job.seen[attempt] = job.seen.get(attempt, b"") + event.data
            except UnavailableError as error:
                # A follow that begins while there is no server says so at once; one that has begun goes on by itself.
                if expected or attempt > 1:
                    self.faults.append(f"{job.job_id}: a follower gave up: {error}")
                    return
            except HodeiError as error:
                self.faults.append(f"{job.job_id}: a follower failed: {error}")
                return
            else:
                return
        await asyncio.sleep(0.2)
        await self.follow(job)

    def workers(self) -> list[int]:
        """Return the pids of this run's workers."""
        found = []
        mark = os.fsencode(self.folder / "data")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if b"hodei_worker" in (entry / "cmdline").read_bytes() and os.fsencode(
                        (entry / "cwd").readlink()
                    ).startswith(mark):
                        found.append(int(entry.name))
        return found

    async def hurt(self) -> None:
        """Kill the server, kill workers, stop and continue them, at random moments."""
        while True:
            await asyncio.sleep(self.random.uniform(0.2, 2.0))
            choice = self.random.choice(["server", "worker", "stop"])
            assert self.server is not None
            if choice == "server":
                self.note("kill -9 server")
                self.server.kill()
                await self.server.wait()
                self.kills += 1
                await asyncio.sleep(self.random.uniform(0.0, 1.0))
                await self.start_server()
                continue
            pids = self.workers()
            if not pids:
                continue
            pid = self.random.choice(pids)
            with contextlib.suppress(ProcessLookupError):
                if choice == "worker":
                    self.note(f"kill -9 worker {pid}")
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1
                else:
                    self.note(f"stop worker {pid}")
                    os.kill(pid, signal.SIGSTOP)
                    await asyncio.sleep(self.random.uniform(0.1, 3.0))
                    os.kill(pid, signal.SIGCONT)

    async def account(self, client: Client, job: Job) -> None:
        """Compare what Hodei says of a job with what the job has left behind."""
        outcome = await client.wait(job.job_id)
        told = await client.get(job.job_id)
        if (outcome.exit_code, outcome.state) != (
            job.code,
            wire.JOB_STATE_SUCCEEDED if job.code == 0 else wire.JOB_STATE_FAILED,
        ):
            self.faults.append(f"{job.job_id}: ended as {outcome}")
        starts = (job.marks / "starts").read_text().split()
        if len(starts) != len(set(starts)):
            self.faults.append(f"{job.job_id}: an attempt ran twice: {starts}")
        if (job.marks / "overlaps").exists():
            self.faults.append(f"{job.job_id}: two at once: {(job.marks / 'overlaps').read_text()}")
        if not set(starts) <= {attempt.attempt_uid for attempt in told.attempts}:
            self.faults.append(f"{job.job_id}: ran attempts that nobody knows of")
        for attempt in told.attempts:
            data = b""
            async for event in client.logs(job.job_id, place=LogPlace(attempt=attempt.number), follow=False):
                if isinstance(event, Chunk) and event.stream == STDOUT:
                    data += event.data
            receipt = await client.receipt(job.job_id, attempt=attempt.number)
            # A worker that is killed with its result told and its log not yet durable leaves one that says so.
            whole = attempt.outcome.cause == wire.CAUSE_EXIT_CODE and receipt.complete
            self.incomplete += not receipt.complete
            if not receipt.ended:
                self.faults.append(f"{job.job_id}: attempt {attempt.number} has an unfinished log")
            if (whole and data != job.expected) or not job.expected.startswith(data):
                self.faults.append(f"{job.job_id}: attempt {attempt.number} has a wrong log of {len(data)} bytes")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def run(seed: int, seconds: float) -> list[str]:
    """Run once; print what happened; return what was wrong."""
    with tempfile.TemporaryDirectory(prefix="hodei-torture-") as folder:
        torture = Torture(Path(folder), seed, seconds)
        asyncio.run(torture.run())
        counts = f"{torture.kills} kills, {torture.incomplete} logs marked incomplete, {len(torture.faults)} faults"
        sys.stdout.write(f"seed {seed}: {len(torture.jobs)} jobs, {counts}\n")
        if torture.faults:
            sys.stdout.write("\n".join([*torture.history, "", *torture.faults, ""]))
            sys.stdout.write((Path(folder) / "server.log").read_text()[-20000:])
        return torture.faults


def main() -> int:
    """Run from the command line; return 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    return 1 if run(options.seed, options.seconds) else 0


if __name__ == "__main__":
    sys.exit(main())
