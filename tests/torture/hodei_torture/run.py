"""One run: load and harm, then rest, then the account."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from hodei_client import Client
from hodei_torture.account import PATIENCE, Account
from hodei_torture.hand import Hand
from hodei_torture.load import Load
from hodei_torture.site import Site

#: What is printed of the server's own log after a failed run, in characters.
SERVER_LOG = 20_000


def run(seed: int, seconds: float, *, kills: int = 0) -> list[str]:
    """Run once; print what happened.

    :param seed: the same accidents again; when they meet which job is up to the machine.
    :param seconds: how long harm is done.
    :param kills: at least so many processes are killed, however long that takes.
    :return: what was wrong.
    """
    with tempfile.TemporaryDirectory(prefix="hodei-torture-") as folder:
        site = Site(Path(folder))
        hand, load, account = Hand(site, seed), Load(site, seed), Account(site)
        began = time.monotonic()
        asyncio.run(_run(site, hand, load, account, seconds, kills=kills))
        accidents = ", ".join(f"{count} {kind}" for kind, count in sorted(hand.accidents.items()))
        sys.stdout.write(
            f"seed {seed}: {len(load.jobs)} jobs, {hand.kills} kills, {account.incomplete} logs marked incomplete, "
            f"{account.cut} cut, "
            f"{len(site.faults)} faults in {time.monotonic() - began:.0f} s ({accidents})\n"
        )
        if site.faults:
            sys.stdout.write("\n".join([*site.history, "", *site.faults, ""]))
            sys.stdout.write((Path(folder) / "server.log").read_text()[-SERVER_LOG:])
        return site.faults


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
                await client.wait(job.job_id)
            await asyncio.gather(*load.followers)
    except TimeoutError:
        site.faults.append("not everything has ended")
    async with Client(settings=site.direct) as client:
        await account.of_jobs(client, load.jobs)
    await account.of_leftovers()
