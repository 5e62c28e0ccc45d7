"""What it costs to take secrets out of a log: a job that has some beside the same job without."""

from __future__ import annotations

import base64
import secrets
import statistics
import time
from pathlib import Path

from hodei_bench.archive import write_log
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.logs import running_at
from hodei_client import STDOUT, AttemptEnd, Chunk, Client

MASK = b"***"
#: One line of so many holds a secret.
RARELY = 1000


def make_secrets(tokens: int) -> dict[str, str]:
    """Return values as services have them: tokens, and beside several of them a key of many lines."""
    found = {f"TOKEN_{number}": secrets.token_urlsafe(30) for number in range(tokens)}
    if tokens > 1:
        key = base64.encodebytes(secrets.token_bytes(1200)).decode()
        found["KEY"] = f"-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n"
    return found


def write_with(file: Path, log: Path, token: str) -> tuple[int, int]:
    """Write a log's lines, some of them with a secret; return how many there are, and how many of those."""
    lines = held = 0
    with log.open("rb") as given, file.open("wb") as out:
        for line in given:
            if lines % RARELY == 0:
                out.write(b"Authorization: Bearer %s\n" % token.encode())
                held += 1
            out.write(line)
            lines += 1
    return lines + held, held


async def print_file(client: Client, file: Path, values: dict[str, str], lines: int, held: int) -> float:
    """Have a job print a file to a follower; return seconds from RUNNING to the log's end.

    :param held: lines whose secret is to be masked.
    :raise RuntimeError: other lines came.
    """
    job_id = await client.submit(["cat", str(file)], secrets=values)
    came, masks, rest, receipt = 0, 0, b"", None
    async for event in client.logs(job_id):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            came += event.data.count(b"\n")
            masks += (rest + event.data).count(MASK)
            rest = event.data[1 - len(MASK) :]
        elif isinstance(event, AttemptEnd):
            receipt = event.receipt
    ended = time.time()
    if receipt is None or not receipt.complete or came != lines or masks != (held if values else 0):
        raise RuntimeError(f"{came} lines came of {lines}, {masks} were masked of {held}: {receipt}")
    return ended - await running_at(client, job_id)


@bench("redaction")
async def redaction(setup: Setup) -> list[Result]:
    """A job's secrets are taken out of what it prints, beside the same job without any; runs take turns."""
    size, times = (8 << 20, 2) if setup.short else (64 << 20, 5)
    log = write_log(setup.folder / "log", size)
    key = setup.folder / "key"
    key.write_bytes(base64.b64encode(secrets.token_bytes(32)) + b"\n")
    async with setup.server(worker_max_jobs="0", secrets_key_file=str(key)) as server, server.client() as client:
        await client.wait(await client.submit(["/bin/true"]))
        return [await beside_none(client, log, make_secrets(tokens), times) for tokens in (1, 10)]


async def beside_none(client: Client, log: Path, values: dict[str, str], times: int) -> Result:
    """Compare a job that has secrets with the same without."""
    file = log.with_name(f"with{len(values)}")
    lines, held = write_with(file, log, values["TOKEN_0"])
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(times):
        for redacted, each in took.items():
            each.append(await print_file(client, file, values if redacted else {}, lines, held))
    return Result(
        f"redaction.{len(values)}-secrets",
        lines / statistics.median(took[True]),
        "lines/s",
        more_is_better=True,
        peer=lines / statistics.median(took[False]),
        peer_name="the same job without secrets",
        note=f"{lines:,} lines of services, one of {RARELY:,} with a secret; from RUNNING to the end of its log",
    )
