"""The load: jobs whose output and exit code are known, each followed live."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from pathlib import Path

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, Cut, HodeiError, LogPlace, UnavailableError
from hodei_torture.reading import Reading, output
from hodei_torture.site import Site
from hodei_torture.stream import Streamed

#: How many of the jobs have a log budget that most of them outgrow, and that budget in bytes.
CUT_SHARE = 0.15
CUT_BUDGET = 64 << 10
#: How many of the jobs have a second follower, one that asks the server itself.
STREAMED_SHARE = 0.3
#: Prints known lines, slowly enough to be met by accidents; leaves its marks before. Its lock is held as long as any
#: of its processes lives, so that a second attempt beside it can't miss it, however close together they begin.
JOB = r"""
marks=$1; lines=$2; code=$3; pause=$4
exec 9>> "$marks/lock"
flock -n 9 || echo "$HODEI_ATTEMPT_UID began beside another" >> "$marks/overlaps"
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
    """What one job must have come to.

    :ivar expected: what it writes.
    :ivar may_be_cut: its log may outgrow its budget.
    :ivar seen: what its follower saw, by attempt.
    :ivar streamed: its second follower, where it has one.
    """

    job_id: str
    marks: Path
    expected: bytes
    code: int
    may_be_cut: bool
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
        spec = wire.JobSpec(
            argv=["sh", "-c", JOB, "job", str(marks), str(lines), str(code), pause],
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
                return Job(job_id, marks, output(lines), code, may_be_cut)
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
        expected, attempt = 0, 1
        job.seen.clear()
        faults = self._site.faults
        try:
            async for event in client.logs(job.job_id, place=LogPlace(attempt=1)):
                if isinstance(event, Chunk):
                    if event.attempt_number != attempt:
                        attempt, expected = event.attempt_number, 0
                    if event.sequence != expected:
                        faults.append(f"{job.job_id}: a follower saw {event.sequence}, not {expected}")
                    expected = event.sequence + 1
                    if event.stream == STDOUT:
                        job.seen.setdefault(attempt, Reading(job.expected)).read(event.data)
                elif isinstance(event, Cut):
                    if event.attempt_number != attempt:
                        attempt = event.attempt_number
                    expected = event.last_sequence + 1
                    job.seen.setdefault(attempt, Reading(job.expected)).skip()
        except UnavailableError as error:
            # A follow that begins while there is no server says so at once; one that has begun goes on by itself.
            if expected or attempt > 1:
                faults.append(f"{job.job_id}: a follower gave up: {error}")
                return True
            return False
        except HodeiError as error:
            faults.append(f"{job.job_id}: a follower failed: {error}")
        return True
