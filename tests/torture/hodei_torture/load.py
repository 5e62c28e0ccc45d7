"""The load: jobs whose output and exit code are known, each followed live."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from pathlib import Path

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Chunk, Client, HodeiError, LogPlace, UnavailableError
from hodei_torture.site import Site

#: Prints known lines, slowly enough to be met by accidents; leaves its marks before.
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
    """What one job must have come to.

    :ivar seen: what its follower saw, by attempt.
    """

    job_id: str
    marks: Path
    lines: int
    code: int
    seen: dict[int, bytes] = dataclasses.field(default_factory=dict)

    @property
    def expected(self) -> bytes:
        """What it writes."""
        return b"".join(b"line %d of %d\n" % (number, self.lines) for number in range(self.lines))


class Load:
    """Submits jobs and follows each.

    :ivar jobs: those whose submission was acknowledged.
    :ivar followers: one a job.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.jobs: list[Job] = []
        self.followers: list[asyncio.Task[None]] = []
        self._site = site
        self._random = random.Random(f"load {seed}")  # noqa: S311 - the same jobs again, not a secret
        self._submitted = 0

    async def work(self, client: Client) -> None:
        """Submit until cancelled."""
        while True:
            job = await self._submit(client)
            if job is not None:
                self.jobs.append(job)
                self.followers.append(asyncio.create_task(self._follow(job)))
            await asyncio.sleep(self._random.uniform(0.02, 0.3))

    async def _submit(self, client: Client) -> Job | None:
        """Submit a job; None when the submission was not acknowledged."""
        marks = self._site.folder / "marks" / str(self._submitted)
        marks.mkdir(parents=True)
        self._submitted += 1
        lines, code = self._random.randint(0, 3000), self._random.choice([0, 0, 3])
        pause = f"{self._random.uniform(0.0, 0.05):.3f}"
        spec = wire.JobSpec(
            argv=["sh", "-c", JOB, "job", str(marks), str(lines), str(code), pause],
            retry=wire.RetryPolicy(max_infrastructure_retries=100),
        )
        spec.retry.initial_backoff.FromMilliseconds(50)
        # Known before: a submission whose answer is lost is asked for again under the same id.
        request_id = f"{os.getpid()}-{self._submitted}"
        try:
            async with asyncio.timeout(30):
                return Job(await client.submit(spec, request_id=request_id), marks, lines, code)
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
                        job.seen[attempt] = job.seen.get(attempt, b"") + event.data
        except UnavailableError as error:
            # A follow that begins while there is no server says so at once; one that has begun goes on by itself.
            if expected or attempt > 1:
                faults.append(f"{job.job_id}: a follower gave up: {error}")
                return True
            return False
        except HodeiError as error:
            faults.append(f"{job.job_id}: a follower failed: {error}")
        return True
