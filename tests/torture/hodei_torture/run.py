"""One run: load and harm, then rest, then the account."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hodei_client import Client, HodeiError
from hodei_torture.account import PATIENCE, Account
from hodei_torture.archive import ArchiveAccount
from hodei_torture.bucket import TorturedBucket
from hodei_torture.hand import Hand
from hodei_torture.load import Load
from hodei_torture.site import Site

#: What is printed of the server's own log after a failed run, in characters.
SERVER_LOG = 20_000
#: A run of so many seconds has killed something.
KILLS_EXPECTED_AFTER = 20.0


def run(seed: int, seconds: float, *, kills: int = 0, s3: bool = False) -> list[str]:
    """Run once; print what happened, whatever happened.

    :param seed: the same jobs and kinds of accidents are drawn again; when they meet is up to the machine.
    :param seconds: how long harm is done.
    :param kills: at least so many processes are killed, however long that takes.
    :param s3: sealed logs go to the S3 server that AWS_ENDPOINT_URL names, and harm is done to that, too.
    :return: what was wrong.
    """
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="hodei-torture-") as folder:
        site = Site(Path(folder), s3=s3)
        hand, load, account = Hand(site, seed), Load(site, seed), Account(site)
        began = time.monotonic()
        try:
            asyncio.run(_run(site, hand, load, account, seconds, kills=kills))
        except Exception as error:  # noqa: BLE001 - a fault as any other, to be told with its history
            site.faults.append("".join(traceback.format_exception(error)))
        finally:
            site.faults += proved_nothing(
                jobs=len(load.jobs), complete=account.complete, kills=hand.kills, seconds=seconds, disk=site.disk
            )
            accidents = ", ".join(f"{count} {kind}" for kind, count in sorted(hand.accidents.items()))
            sys.stdout.write(
                f"seed {seed}: {len(load.jobs)} jobs, {hand.kills} kills, {account.complete} logs complete, "
                f"{account.incomplete} marked incomplete, {account.cut} cut, "
                f"{load.streams} streams of second followers, "
                f"{len(site.faults)} faults in {time.monotonic() - began:.0f} s ({accidents})\n"
            )
            if site.faults:
                sys.stdout.write("\n".join([*site.history, "", *site.faults, ""]))
                log = Path(folder) / "server.log"
                sys.stdout.write(log.read_text(errors="replace")[-SERVER_LOG:] if log.exists() else "")
            sys.stdout.flush()
        return site.faults


def proved_nothing(*, jobs: int, complete: int, kills: int, seconds: float, disk: object | None) -> list[str]:
    """Return why a run without faults would be no proof."""
    found = []
    if not jobs:
        found.append("no job was acknowledged")
    if not complete:
        found.append("no log was complete")
    if not kills and seconds >= KILLS_EXPECTED_AFTER:
        found.append("nothing was killed")
    if disk is None and os.environ.get("CI"):
        found.append("there was no small disk to fill up")
    return found


async def _run(site: Site, hand: Hand, load: Load, account: Account, seconds: float, *, kills: int) -> None:
    async with site:
        await site.server_answers()
        async with Client(settings=site.settings) as client:
            hurting = asyncio.create_task(hand.work())
            loading = asyncio.create_task(load.work(client))
            deadline = time.monotonic() + seconds
            while (time.monotonic() < deadline or hand.kills < kills) and not hurting.done():
                await asyncio.sleep(0.2)
            site.faults += await _stop(hurting, loading)
        site.heal()
        if site.bucket is not None and site.bucket.may_be_killed:
            await site.bucket.start()
        site.note("the hand rests")
        # The hand may have been stopped between a kill and what follows it, or a server have met a full disk.
        keeping = asyncio.create_task(site.keep_server())
        try:
            await _take_account(site, load, account)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


async def _stop(*tasks: asyncio.Task[None]) -> list[str]:
    """Cancel tasks; return what they had failed with before."""
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return [repr(each) for each in outcomes if not isinstance(each, asyncio.CancelledError)]


async def _take_account(site: Site, load: Load, account: Account) -> None:
    try:
        async with asyncio.timeout(PATIENCE), Client(settings=site.settings) as client:
            await site.server_answers()
            # All that was submitted ends, and each follower sees its end, before anything is compared.
            for job in load.jobs:
                try:
                    await client.wait(job.job_id)
                except HodeiError as error:
                    site.faults.append(f"{job.job_id}: was acknowledged, and can't be waited for: {error!r}")
            followed = await asyncio.gather(*load.followers, return_exceptions=True)
            site.faults += [f"a follower failed: {each!r}" for each in followed if each is not None]
    except TimeoutError:
        site.faults.append("not everything has ended, or the server does not answer")
    try:
        async with asyncio.timeout(PATIENCE), Client(settings=site.direct) as client:
            await account.of_jobs(client, load.jobs)
    except TimeoutError:
        site.faults.append("the account could not be taken in time")
    await account.of_leftovers()
    if site.bucket is not None:
        await _take_account_of_archive(site, site.bucket, load)


async def _take_account_of_archive(site: Site, bucket: TorturedBucket, load: Load) -> None:
    """See that all is in S3 in the end, and nothing else; and read all of it once more."""
    await ArchiveAccount(site, bucket).of_all()
    try:
        async with asyncio.timeout(PATIENCE), Client(settings=site.direct) as client:
            await Account(site).of_jobs(client, load.jobs)
    except TimeoutError:
        site.faults.append("the account of what is in S3 could not be taken in time")
