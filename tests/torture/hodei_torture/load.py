"""The load: jobs whose output and exit code are known, each followed live."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from pathlib import Path

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, Cut, HodeiError, LogEvent, LogPlace, UnavailableError
from hodei_torture.reading import Reading, notes, output
from hodei_torture.site import Site
from hodei_torture.stream import Streamed

#: How many of the jobs have a log budget that most of them outgrow, and that budget in bytes.
CUT_SHARE = 0.15
CUT_BUDGET = 64 << 10
#: How many of the jobs have a second follower, one that asks the server itself.
STREAMED_SHARE = 0.3
#: One in so many of the jobs whose log is not cut writes to both streams.
NOTES_EVERY = 3
#: Prints known lines, slowly enough to be met by accidents; leaves its marks before. Its lock is held as long as any
#: of its processes lives, so that a second attempt beside it can't miss it, however close together they begin.
JOB = r"""
marks=$1; lines=$2; code=$3; pause=$4; notes=$5
exec 9>> "$marks/lock"
flock -n 9 || echo "$HODEI_ATTEMPT_UID began beside another" >> "$marks/overlaps"
echo "$HODEI_ATTEMPT_UID" >> "$marks/starts"
i=0
while [ $i -lt $lines ]; do
    echo "line $i of $lines"
    i=$((i + 1))
    [ $((i % 50)) -eq 0 ] || continue
    [ -z "$notes" ] || echo "note $i" >&2
    sleep $pause
done
exit $code
"""


@dataclasses.dataclass
class Job:
    """What one job must have come to.

    :ivar expected: what it writes to its standard output.
    :ivar errors: what it writes to the other one.
    :ivar may_be_cut: its log may outgrow its budget.
    :ivar seen: what its follower saw, by attempt.
    :ivar streamed: its second follower, where it has one.
    """

    job_id: str
    marks: Path
    expected: bytes
    code: int
    may_be_cut: bool
    errors: bytes = b""
    seen: dict[int, Reading] = dataclasses.field(default_factory=dict)
    streamed: Streamed | None = None


class Load:
    """Submits jobs and follows each.

    :ivar jobs: those whose submission was acknowledged.
    :ivar followers: one a job, or two.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.jobs: list[Job] = []
        self.followers: list[asyncio.Task[None]] = []
        self._site = site
        self._random = random.Random(f"load {seed}")  # noqa: S311 - the same jobs again, not a secret
        # Of its own: whether a submission is acknowledged must not change which jobs are drawn after it.
        self._streaming = random.Random(f"streams {seed}")  # noqa: S311 - the same
        self._submitted = 0

    @property
    def streams(self) -> int:
        """How many log streams the second followers have read."""
        return sum(job.streamed.streams for job in self.jobs if job.streamed is not None)

    async def work(self, client: Client) -> None:
        """Submit until cancelled."""
        while True:
            job = await self._submit(client)
            if job is not None:
                self.jobs.append(job)
                self.followers.append(asyncio.create_task(self._follow(job)))
                if self._streaming.random() < STREAMED_SHARE:
                    job.streamed = Streamed(self._site, job.job_id, job.expected, self._streaming.randrange(1 << 32))
                    self.followers.append(asyncio.create_task(job.streamed.follow()))
            await asyncio.sleep(self._random.uniform(0.02, 0.3))

    async def _submit(self, client: Client) -> Job | None:
        """Submit a job; None when the submission was not acknowledged."""
        marks = self._site.folder / "marks" / str(self._submitted)
        marks.mkdir(parents=True)
        self._submitted += 1
        lines, code = self._random.randint(0, 3000), self._random.choice([0, 0, 3])
        pause = f"{self._random.uniform(0.0, 0.05):.3f}"
        may_be_cut = self._random.random() < CUT_SHARE
        if may_be_cut:
            lines = self._random.randint(3000, 9000)
        # Of what is cut nobody can tell which stream it was of.
        errors = b"" if may_be_cut or lines % NOTES_EVERY else notes(lines)
        spec = wire.JobSpec(
            argv=["sh", "-c", JOB, "job", str(marks), str(lines), str(code), pause, "yes" if errors else ""],
            retry=wire.RetryPolicy(max_infrastructure_retries=100),
        )
        spec.retry.initial_backoff.FromMilliseconds(50)
        if may_be_cut:
            spec.log_budget_bytes = CUT_BUDGET
        # Known before: a submission whose answer is lost is asked for again under the same id.
        request_id = f"{os.getpid()}-{self._submitted}"
        try:
            async with asyncio.timeout(30):
                job_id = await client.submit(spec, request_id=request_id)
                return Job(job_id, marks, output(lines), code, may_be_cut, errors)
        except (HodeiError, TimeoutError) as error:
            self._site.note(f"not acknowledged: {error}")
            return None

    async def _follow(self, job: Job) -> None:
        """Read a job's log live, over whatever happens."""
        async with Client(settings=self._site.settings) as client:
            while not await self._follow_once(client, job):
                await asyncio.sleep(0.2)

    async def _follow_once(self, client: Client, job: Job) -> bool:
        """Return whether the log was followed to its end."""
        job.seen.clear()
        follow = Follow(job.expected, job.seen)
        faults = self._site.faults
        try:
            async for event in client.logs(job.job_id, place=LogPlace(attempt=1)):
                fault = follow.take(event)
                if fault:
                    faults.append(f"{job.job_id}: attempt {follow.attempt}: a follower {fault}")
        except UnavailableError as error:
            # A follow that begins while there is no server says so at once; one that has begun goes on by itself.
            if follow.begun:
                faults.append(f"{job.job_id}: a follower gave up: {error}")
                return True
            return False
        except HodeiError as error:
            faults.append(f"{job.job_id}: a follower failed: {error}")
        return True


class Follow:
    """What the Python client brings of one job's log: each sequence once and in order, or told to be cut.

    :param expected: what the job writes.
    :param seen: takes what came, by attempt.
    :ivar attempt: which one it is at.
    """

    def __init__(self, expected: bytes, seen: dict[int, Reading]) -> None:
        self.attempt = 1
        self._expected = expected
        self._seen = seen
        self._next = 0

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return self._next > 0 or self.attempt > 1

    def take(self, event: LogEvent) -> str:
        """Take what comes; return what is wrong with it, empty where nothing is."""
        if event.attempt_number != self.attempt:
            self.attempt, self._next = event.attempt_number, 0
        reading = self._seen.setdefault(self.attempt, Reading(self._expected))
        fault = ""
        if isinstance(event, Chunk):
            if event.sequence != self._next:
                fault = f"saw {event.sequence}, not {self._next}"
            self._next = event.sequence + 1
            if event.stream == STDOUT:
                reading.read(event.data)
        elif isinstance(event, Cut):
            # Who comes into the middle of what is cut is told of all of it.
            if not event.first_sequence <= self._next <= event.last_sequence:
                fault = f"was told of a cut from {event.first_sequence} to {event.last_sequence} at {self._next}"
            self._next = event.last_sequence + 1
            reading.skip()
        return fault
