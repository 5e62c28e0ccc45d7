"""The account at the end: what Hodei says of each job against what the job has left behind; and what is left over."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import gc
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hodei.checksum import add_checksums, chunk_checksum, decode_checksum
from hodei.v1 import types_pb2 as wire
from hodei_client import STDERR, STDOUT, Chunk, Client, Cut, HodeiError, LogEvent, LogPlace
from hodei_faults import connected_to, descriptors, worker_pids
from hodei_server.db.segments import SegmentState
from hodei_torture.load import Job
from hodei_torture.reading import Reading
from hodei_torture.site import Site

#: Seconds for everything to end once the hand rests, and for what is left to be cleared away.
PATIENCE = 240.0
CLEARING = 60.0
#: Descriptors of one kind (files of the database, for one) that an idle server may have.
MOST_DESCRIPTORS = 30


async def clears(site: Site, what: str, look: Callable[[], list[str]], seconds: float) -> None:
    """See that nothing of a kind is left within some time."""
    found: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            while found := await asyncio.to_thread(look):
                await asyncio.sleep(0.2)
    except TimeoutError:
        site.faults.append(f"left over: {what}: {found}")


@dataclasses.dataclass
class Tally:
    """What a log amounts to, by what a reader gets.

    :ivar checksum: begins as that of what was cut.
    :ivar others: bytes that are not the job's standard output.
    :ivar errors: what it wrote to the other one.
    """

    reading: Reading
    checksum: int
    chunks: int = 0
    size: int = 0
    lines: int = 0
    others: int = 0
    errors: bytes = b""

    def add(self, event: LogEvent) -> None:
        """Count what comes next."""
        if isinstance(event, Chunk):
            self.chunks += 1
            self.size += len(event.data)
            self.lines += event.data.count(b"\n")
            term = chunk_checksum(event.sequence, event.stream, event.data)
            self.checksum = add_checksums(self.checksum, term)
            if event.stream == STDOUT:
                self.reading.read(event.data)
            else:
                self.others += len(event.data)
                if event.stream == STDERR:
                    self.errors += event.data
        elif isinstance(event, Cut):
            self.chunks += event.last_sequence - event.first_sequence + 1
            self.size += event.bytes
            self.lines += event.lines
            self.reading.skip()


class Account:
    """Finds faults.

    :ivar complete: logs of processes that came to their end, all there.
    :ivar incomplete: logs that say that they are not whole, which is no fault where the worker was killed or lost.
    :ivar cut: logs that have outgrown their budget and say so.
    """

    def __init__(self, site: Site) -> None:
        self.complete = 0
        self.incomplete = 0
        self.cut = 0
        self._site = site

    def _fault(self, text: str) -> None:
        self._site.faults.append(text)

    async def of_jobs(self, client: Client, jobs: list[Job]) -> None:
        """Compare all jobs, a few at once."""
        turns = asyncio.Semaphore(8)

        async def compare(job: Job) -> None:
            async with turns:
                try:
                    await self._of_job(client, job)
                except HodeiError as error:
                    self._fault(f"{job.job_id}: can't be looked at: {error!r}")

        await asyncio.gather(*(compare(job) for job in jobs))

    async def _of_job(self, client: Client, job: Job) -> None:
        """Compare one job."""
        told = await client.get(job.job_id)
        outcome = told.outcome
        if (outcome.exit_code, outcome.state) != (
            job.code,
            wire.JOB_STATE_SUCCEEDED if job.code == 0 else wire.JOB_STATE_FAILED,
        ):
            self._fault(f"{job.job_id}: ended as {outcome}")
        started = job.marks / "starts"
        starts = started.read_text().split() if started.exists() else []
        if len(starts) != len(set(starts)):
            self._fault(f"{job.job_id}: an attempt ran twice: {starts}")
        if (job.marks / "overlaps").exists():
            self._fault(f"{job.job_id}: two at once: {(job.marks / 'overlaps').read_text()}")
        if not set(starts) <= {attempt.attempt_uid for attempt in told.attempts}:
            self._fault(f"{job.job_id}: ran attempts that nobody knows of")
        for attempt in told.attempts:
            await self._of_attempt(client, job, attempt, ran=attempt.attempt_uid in starts)

    async def _of_attempt(self, client: Client, job: Job, attempt: wire.Attempt, *, ran: bool) -> None:
        name = f"{job.job_id}: attempt {attempt.number}"
        reading = Reading(job.expected)
        tally = Tally(reading, self._cut_checksum(attempt.attempt_uid))
        async for event in client.logs(job.job_id, place=LogPlace(attempt=attempt.number), follow=False):
            tally.add(event)
        receipt = await client.receipt(job.job_id, attempt=attempt.number)
        if (receipt.chunks, receipt.bytes, receipt.lines) != (tally.chunks, tally.size, tally.lines):
            self._fault(f"{name}: the receipt does not agree with the bytes")
        if int.from_bytes(receipt.checksum) != tally.checksum:
            self._fault(f"{name}: the receipt's checksum is not that of the bytes")
        if reading.cut != receipt.truncated or (reading.cut and not job.may_be_cut):
            self._fault(f"{name}: its log is cut")
        ended = attempt.outcome.cause == wire.CAUSE_EXIT_CODE
        whole = ended and receipt.complete
        self.complete += whole
        # What was cut counts: nothing but the job's output can be in there.
        if whole and tally.size - tally.others != len(job.expected):
            self._fault(f"{name}: {tally.size - tally.others} bytes, where the job writes {len(job.expected)}")
        if not job.errors.startswith(tally.errors) or (whole and tally.errors != job.errors):
            self._fault(f"{name}: something else than the job writes to stderr: {tally.errors[-100:]!r}")
        self.incomplete += not receipt.complete
        # A worker that is killed with its result told and its log not yet durable leaves one that says so.
        if ended and not receipt.complete and attempt.worker_id not in self._site.killed_workers:
            self._fault(f"{name}: its log is incomplete, but nobody has killed its worker {attempt.worker_id}")
        # One that never ran may be: its launch met a full disk, and a server that died before it could write that down.
        lost = ran and attempt.outcome.cause == wire.CAUSE_WORKER_LOST
        if lost and attempt.worker_id not in self._site.killed_workers:
            self._fault(f"{name}: is lost, but nobody has killed its worker: {attempt.outcome.message}")
        self.cut += reading.cut
        if not receipt.ended:
            self._fault(f"{name}: its log has not ended")
        if reading.wrong is not None or (whole and reading.place != len(job.expected)):
            self._fault(f"{name}: a wrong log, at byte {reading.wrong}, to byte {reading.place}")
        for seen_by in (job.seen, *([job.streamed.seen] if job.streamed is not None else [])):
            seen = seen_by.get(attempt.number, Reading(job.expected))
            if seen.wrong is not None or seen.place != reading.place:
                self._fault(f"{name}: a follower saw something else, at byte {seen.wrong}, to byte {seen.place}")

    def _cut_checksum(self, attempt_uid: str) -> int:
        """Return the checksum of what was cut, which the worker's own for the whole log must agree with."""
        query = "SELECT checksum FROM log_segments WHERE attempt_uid = ? AND state = ?"
        with self._database() as database:
            rows = database.execute(query, (attempt_uid, int(SegmentState.CUT))).fetchall()
        return add_checksums(*(decode_checksum(checksum) for (checksum,) in rows))

    def _database(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(f"file:{self._site.data / 'hodei.db'}?mode=ro", uri=True))

    async def of_leftovers(self) -> None:
        """See that nothing is left of all the jobs: processes, folders, descriptors, rows that are not over."""
        await self._clears("processes", self._processes)
        await self._clears("workers' folders", self._folders)
        await self._clears("rows", self._rows)
        await self._clears("descriptors", self._descriptors)

    async def _clears(self, what: str, look: Callable[[], list[str]]) -> None:
        await clears(self._site, what, look, CLEARING)

    def _processes(self) -> list[str]:
        found = [f"worker {pid}" for pid in worker_pids(self._site.data)]
        mark = os.fsencode(self._site.folder / "marks")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in command:
                    found.append(f"job {entry.name}")
        return found

    def _folders(self) -> list[str]:
        """Spools, scratch, tokens: all of a worker's is in its folder."""
        return [str(path) for path in (self._site.data / "providers").glob("*/workers/*") if path.is_dir()]

    def _rows(self) -> list[str]:
        with self._database() as database:
            counts = {
                "jobs that are not over": "SELECT count(*) FROM jobs WHERE ended_at IS NULL",
                "attempts that are not over": "SELECT count(*) FROM attempts WHERE ended_at IS NULL",
                "segments that are not sealed": "SELECT count(*) FROM log_segments WHERE state NOT IN (3, 4, 5)",
                "workers that are not gone": "SELECT count(*) FROM workers WHERE gone_at IS NULL",
            }
            return [what for what, query in counts.items() if database.execute(query).fetchone()[0]]

    def _descriptors(self) -> list[str]:
        """What the server has open that belongs to jobs or connections: more than a server that has seen none."""
        assert self._site.server is not None
        # Calls that were given up here, in the middle of whatever happened, are none of the server's business.
        gc.collect()
        # What it keeps open to S3 is its own.
        archive = 0 if self._site.bucket is None else self._site.bucket.answers.port
        held = collections.Counter(descriptors(self._site.server.pid, but_to=archive))
        data = f"{self._site.data}/"
        files = [
            name for name in held if name.startswith(data) and not name.startswith((f"{data}hodei.db", f"{data}lock"))
        ]
        # All workers are gone and all clients closed: there is nobody left to be connected to.
        many = [
            f"{count} of {name}" for name, count in held.items() if count > MOST_DESCRIPTORS or "established" in name
        ]
        return files + many + (connected_to(self._site.server.pid) if many else [])
