"""The hand that does harm at random moments: kills, stops, breaks connections, fills the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable

from hodei_faults import recorded_pids, recorded_workers
from hodei_torture.bucket import TorturedBucket
from hodei_torture.site import LEASE, Site


class Hand:
    """Hurts a site.

    :ivar kills: processes killed with SIGKILL.
    :ivar accidents: how often each kind of harm was done.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.kills = 0
        self.accidents: dict[str, int] = {}
        self._site = site
        self._random = random.Random(f"hand {seed}")  # noqa: S311 - the same accidents again, not a secret
        self._kinds = {
            "kill server": (4, self._kill_server),
            "kill worker": (6, self._kill_worker),
            "kill all workers": (1, self._kill_all_workers),
            "stop worker": (2, self._stop_worker),
            "stop server": (3, self._stop_server),
            "break connections": (2, self._break_connections),
            "cut network": (1, self._cut_network),
            "stall network": (1, self._stall_network),
        }
        if site.disk is not None:
            self._kinds["fill disk"] = (1, self._fill_disk)
        if site.bucket is not None:
            self._kinds |= {
                "S3 is cut off": (2, self._cut_s3),
                "S3 is silent": (1, self._silence_s3),
                "S3 is slow": (2, self._slow_s3),
                "S3 fails": (2, self._fail_s3),
                "S3's answers are lost": (2, self._lose_answers_of_s3),
            }
            if site.bucket.may_be_killed:
                self._kinds["kill S3"] = (2, self._kill_s3)

    async def work(self) -> None:
        """Do harm until cancelled."""
        weights = [weight for weight, _ in self._kinds.values()]
        while True:
            await self._pause(0.1, 1.2)
            (kind,) = self._random.choices(list(self._kinds), weights)
            if await self._kinds[kind][1]():
                self.accidents[kind] = self.accidents.get(kind, 0) + 1

    async def _pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self._random.uniform(least, most))

    async def _kill_server(self) -> bool:
        self._site.note("kill server")
        await self._site.kill_server()
        self.kills += 1
        await self._pause(0.0, 1.0)
        await self._site.start_server()
        return True

    async def _kill_worker(self) -> bool:
        workers = recorded_workers(self._site.data)
        if workers:
            pid = self._random.choice(list(workers))
            self._kill(pid, workers[pid])
        return bool(workers)

    async def _kill_all_workers(self) -> bool:
        workers = recorded_workers(self._site.data)
        for pid, worker_id in workers.items():
            self._kill(pid, worker_id)
        return bool(workers)

    def _kill(self, pid: int, worker_id: str) -> None:
        self._site.note(f"kill worker {pid}, {worker_id}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills += 1
            self._site.killed_workers.add(worker_id)

    async def _stop_worker(self) -> bool:
        pids = recorded_pids(self._site.data)
        if not pids:
            return False
        pid = self._random.choice(pids)
        self._site.note(f"stop worker {pid}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            await self._pause(0.1, 3.0)
            os.kill(pid, signal.SIGCONT)
        return True

    async def _stop_server(self) -> bool:
        """Stop the server for longer than a lease, or for a moment; sometimes a worker ends meanwhile."""
        seconds = self._random.choice([self._random.uniform(0.1, LEASE), self._random.uniform(LEASE, 4 * LEASE)])
        self._site.note(f"stop the server for {seconds:.1f} s")
        self._site.signal_server(signal.SIGSTOP)
        await asyncio.sleep(seconds / 2)
        if self._random.random() < 0.3:
            await self._kill_worker()
        await asyncio.sleep(seconds / 2)
        self._site.signal_server(signal.SIGCONT)
        return True

    async def _break_connections(self) -> bool:
        proxy = self._random.choice([self._site.clients, self._site.workers])
        self._site.note(f"break connections to {proxy.target[1]}")
        proxy.reset()
        return True

    async def _cut_network(self) -> bool:
        proxy = self._random.choice([self._site.clients, self._site.workers])
        self._site.note(f"cut {proxy.target[1]} off")
        proxy.cut()
        await self._pause(0.1, 4.0)
        proxy.heal()
        return True

    async def _stall_network(self) -> bool:
        proxy = self._random.choice([self._site.clients, self._site.workers])
        self._site.note(f"stall {proxy.target[1]}")
        proxy.stall()
        await self._pause(0.1, 4.0)
        proxy.heal()
        return True

    async def _fill_disk(self) -> bool:
        assert self._site.disk is not None
        self._site.note("fill the disk")
        self._site.disk.fill()
        if self._random.random() < 0.5:
            # A server that starts on a full disk may say so and end; whoever watches over it starts it again.
            await self._kill_server()
        await self._pause(0.1, 3.0)
        self._site.disk.free()
        self._site.note("the disk has room")
        if not self._site.server_is_up():
            await self._site.start_server()
        return True

    async def _harm_s3(self, text: str, begin: Callable[[TorturedBucket], None]) -> bool:
        """Do something to S3, and undo it after a while."""
        assert self._site.bucket is not None
        self._site.note(text)
        begin(self._site.bucket)
        await self._pause(0.1, 4.0)
        self._site.bucket.heal()
        return True

    async def _cut_s3(self) -> bool:
        return await self._harm_s3("cut S3 off", lambda bucket: bucket.network.cut())

    async def _silence_s3(self) -> bool:
        return await self._harm_s3("stall S3", lambda bucket: bucket.network.stall())

    async def _slow_s3(self) -> bool:
        delay = self._random.uniform(0.1, 2.0)

        def begin(bucket: TorturedBucket) -> None:
            bucket.answers.delay = delay

        return await self._harm_s3(f"S3 takes {delay:.1f} s for each call", begin)

    async def _fail_s3(self) -> bool:
        error = self._random.choice([("SlowDown", 503), ("InternalError", 500), ("AccessDenied", 403)])

        def begin(bucket: TorturedBucket) -> None:
            bucket.answers.error = error

        return await self._harm_s3(f"S3 answers {error[0]}", begin)

    async def _lose_answers_of_s3(self) -> bool:
        def begin(bucket: TorturedBucket) -> None:
            bucket.answers.lossy = True

        return await self._harm_s3("S3's answers are lost", begin)

    async def _kill_s3(self) -> bool:
        assert self._site.bucket is not None
        self._site.note("kill S3")
        await self._site.bucket.kill()
        self.kills += 1
        await self._pause(0.0, 4.0)
        await self._site.bucket.start()
        return True
