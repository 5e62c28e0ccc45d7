"""`hodei bundle`: all that is known of a job in one archive, to be looked at elsewhere. Secrets are left out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import io
import json
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import click

import hodei
from hodei.v1 import types_pb2 as wire
from hodei_cli.display import as_json
from hodei_cli.session import make_settings, run_interruptible
from hodei_client.client import Client
from hodei_client.errors import HodeiError, NotFoundError
from hodei_client.logs import STDERR, STDOUT, SYSTEM, Chunk, LogPlace

FORMAT = "hodei-bundle-1"
#: Lines of the end of each attempt's output.
LAST_LINES = 1000
LEFT_OUT = "(left out)"
#: Names of variables whose values are nobody else's business.
SECRET_NAME = re.compile(r"pass|secret|token|key|credential|auth|cookie|private|dsn|_url$|^url", re.IGNORECASE)
#: Seconds without progress before a log is taken for one that can't be had.
PATIENCE = 5.0
#: Bytes of a log that are held in memory before they go to a temporary file.
MEMORY = 8 << 20
_STREAMS: Mapping[int, str] = {STDOUT: "stdout.log", STDERR: "stderr.log", SYSTEM: "system.log"}


@click.command("bundle")
@click.argument("job")
@click.option("--file", metavar="PATH", help="Where to [hodei-JOB.tar.gz]; - is stdout. A file that is there stays.")
@click.option("--logs", is_flag=True, help="With the whole log of each attempt, too, not its end alone.")
@click.pass_context
def bundle_command(ctx: click.Context, /, job: str, file: str | None, *, logs: bool) -> int:
    """Put all that is known of a job into one archive: to be attached to a report, or kept.

    Spec, attempts, history, decisions, explanation, and of each attempt its receipt, usage, what Hodei and the provider
    said of it, and its last output. Works for jobs that run or wait, too. Left out: secrets, stdin, and the values of
    variables whose names speak of secrets. Exits with 1 when a part could not be had; the archive says which.
    """
    path = Path(file or f"hodei-{job}.tar.gz")
    with _target(None if file == "-" else path) as target, Bundle(target, f"hodei-{job}") as bundle:
        run_interruptible(_fill(ctx, bundle, job, whole=logs))
    if file != "-":
        click.echo(path)
    for name, reason in bundle.missing.items():
        click.echo(f"hodei: {name} is missing: {reason}", err=True)
    return 1 if bundle.missing else 0


async def _fill(ctx: click.Context, bundle: Bundle, job: str, *, whole: bool) -> None:
    settings = dataclasses.replace(make_settings(ctx), patience=PATIENCE)
    async with Client(settings=settings) as client:
        await bundle.fill(client, job, whole=whole)


@contextlib.contextmanager
def _target(path: Path | None) -> Iterator[IO[bytes]]:
    """Open where the archive goes: stdout, or a file that is there only once it is whole."""
    if path is None:
        yield sys.stdout.buffer
        return
    if path.exists():
        raise click.UsageError(f"{path} is there already: name another with --file")
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        # For its owner's eyes, as a job's output may be.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
            yield opened
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


class Bundle:
    """An archive that is being written, until it is left. A context manager.

    Of the same state of a job it has the same bytes, whenever it is made.

    :param target: takes the bytes.
    :param folder: what all its names begin with.
    :ivar missing: parts that could not be had, each with its reason.
    """

    def __init__(self, target: IO[bytes], folder: str) -> None:
        self.missing: dict[str, str] = {}
        self._folder = folder
        self._time = 0
        self._names: list[str] = []
        self._left_out: list[str] = []
        self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see `__exit__`

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say what is in it, unless something went wrong, and end it while its target is still open."""
        with self._gzip:
            if exc is None:
                self._say_what_is_in_it()
                self._tar.close()

    def _say_what_is_in_it(self) -> None:
        about = {
            "format": FORMAT,
            "hodei": hodei.__version__,
            "files": sorted(self._names),
            "left_out": sorted(self._left_out),
            "missing": self.missing,
        }
        self._json("bundle.json", about)

    async def fill(self, client: Client, job_id: str, *, whole: bool) -> None:
        """Ask a server for everything.

        :param whole: with whole logs.
        :raise NotFoundError: there is no such job.
        """
        job = await client.get(job_id)
        self._time = job.submit_time.seconds
        spec = self._without_secrets(job.spec)
        job.ClearField("spec")
        self._json("spec.json", as_json(spec))
        self._json("job.json", as_json(job))
        with self._part("explain.json"):
            explained = await client.explain(job_id)
            self._json("history.json", [as_json(event) for event in explained.events])
            for field in ("events", "decisions"):
                explained.ClearField(field)
            self._json("explain.json", as_json(explained))
        with self._part("decisions.json"):
            decisions = [decision async for decision in client.decisions(job_id=job_id)]
            for decision in decisions:
                decision.ClearField("spec")  # it has a file of its own, without what is nobody else's business
            self._json("decisions.json", [as_json(decision) for decision in reversed(decisions)])
        self._json("usage.json", [_usage(attempt) for attempt in job.attempts])
        for attempt in job.attempts:
            await self._add_attempt(client, job_id, attempt.number, whole=whole)

    async def _add_attempt(self, client: Client, job_id: str, number: int, *, whole: bool) -> None:
        folder = f"attempts/{number}"
        with self._part(f"{folder}/receipt.json"):
            self._json(f"{folder}/receipt.json", as_json(await client.receipt(job_id, attempt=number)))
        with self._part(f"{folder}/last-output.log"):
            last = LogPlace(attempt=number, tail=LAST_LINES)
            await self._add_log(client, job_id, last, dict.fromkeys((STDOUT, STDERR), f"{folder}/last-output.log"))
        streams = _STREAMS if whole else {SYSTEM: _STREAMS[SYSTEM]}
        with self._part(f"{folder}/log"):
            names: Mapping[int, str] = {stream: f"{folder}/{name}" for stream, name in streams.items()}
            await self._add_log(client, job_id, LogPlace(attempt=number), names)

    async def _add_log(self, client: Client, job_id: str, place: LogPlace, names: Mapping[int, str]) -> None:
        """Add what there is of a log now: each stream to the file that it is given.

        What is not kept any more is told by the receipt.
        """
        with contextlib.ExitStack() as stack:
            files: dict[str, IO[bytes]] = {
                name: stack.enter_context(tempfile.SpooledTemporaryFile(MEMORY)) for name in sorted(set(names.values()))
            }
            reading = client.logs(job_id, place=place, follow=False, streams=sorted(names), verify=False)
            async for event in reading:
                if isinstance(event, Chunk):
                    files[names[event.stream]].write(event.data)
            for name, file in files.items():
                size = file.tell()
                file.seek(0)
                # In a thread: packing a large log takes a while, in which Ctrl-C is heeded.
                await asyncio.to_thread(self._add, name, file, size)

    def _without_secrets(self, spec: wire.JobSpec) -> wire.JobSpec:
        """Return a spec in which nothing is that is nobody else's business; note what was left out."""
        kept = wire.JobSpec()
        kept.CopyFrom(spec)
        for name in sorted(kept.environment):
            if SECRET_NAME.search(name):
                kept.environment[name] = LEFT_OUT
                self._left_out.append(f"environment.{name}")
        for secret in kept.secrets:
            secret.ClearField("value")
            self._left_out.append(f"secrets.{secret.name}")
        if kept.HasField("stdin"):
            kept.ClearField("stdin")
            self._left_out.append("stdin")
        return kept

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Note why a part can't be had, and go on."""
        try:
            yield
        except NotFoundError:
            raise  # the job has gone meanwhile
        except HodeiError as error:
            self.missing[name] = str(error)

    def _json(self, name: str, value: Any) -> None:
        data = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"
        self._add(name, io.BytesIO(data), len(data))

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(f"{self._folder}/{name}")
        entry.size, entry.mtime, entry.mode = size, self._time, 0o600
        self._tar.addfile(entry, file)
        self._names.append(name)


def _usage(attempt: wire.Attempt) -> dict[str, Any]:
    """Return what an attempt has used, as far as it is known."""
    outcome = attempt.outcome
    ran = None
    if attempt.HasField("start_time") and attempt.HasField("end_time"):
        ran = (attempt.end_time.ToNanoseconds() - attempt.start_time.ToNanoseconds()) / 1e9
    return {
        "attempt": attempt.number,
        "ran_seconds": ran,
        "cpu_seconds": outcome.cpu_time.ToNanoseconds() / 1e9 if outcome.HasField("cpu_time") else None,
        "peak_memory_bytes": outcome.peak_memory_bytes or None,
        "cost": attempt.cost if attempt.HasField("cost") else None,
    }
