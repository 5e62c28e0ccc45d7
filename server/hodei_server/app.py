"""The composition root: what a server is made of, in which order it comes up and goes down."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from types import TracebackType
from typing import Self

# gRPC must not meddle with the forks that start workers (W23); it reads this when it is first imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import structlog

from hodei.address import Address, parse_address
from hodei.v1 import job_pb2_grpc, provider_pb2_grpc, worker_pb2_grpc
from hodei_logstore.contract import LogStore
from hodei_logstore.file import FileLogStore
from hodei_providers.registry import ProviderSetupError
from hodei_server.data_folder import DataFolder, DataFolderError
from hodei_server.database_lock import DatabaseHeldError, DatabaseLock
from hodei_server.db.database import Database, DatabaseUnavailableError
from hodei_server.db.engine import DatabaseAddressError, DatabaseEncodingError, open_engine
from hodei_server.db.schema_version import SchemaVersionError, require_newest, upgrade
from hodei_server.installation import identify
from hodei_server.instruments import LOG_COMMIT
from hodei_server.log_loops import run_log_loops
from hodei_server.logs.book import LogBook
from hodei_server.logs.retention import Retention
from hodei_server.loops.clocks import clock_loop
from hodei_server.loops.database_lock import database_lock_loop
from hodei_server.loops.dispatch import dispatch_loop
from hodei_server.loops.generation import generation_loop
from hodei_server.loops.health import health_loop
from hodei_server.loops.lag import lag_loop
from hodei_server.loops.leases import Leases, lease_loop, ping_loop, watch_loop
from hodei_server.loops.pool import pool_loop
from hodei_server.loops.presence import Presence, presence_loop
from hodei_server.loops.runner import LoopRunner
from hodei_server.loops.strays import Strays, stray_loop
from hodei_server.loops.unheld import unheld_loop
from hodei_server.metrics.collector import Parts, gather
from hodei_server.metrics.listener import serve_metrics
from hodei_server.opening import open_archive, open_providers
from hodei_server.part_settings import (
    attempt_settings,
    fleet_settings,
    log_settings,
    make_listeners,
    scheduler_settings,
)
from hodei_server.rpc.job_service import JobService, WatchLimits
from hodei_server.rpc.job_submission import Submissions
from hodei_server.rpc.listener import Listener, ListenerError, ListenerTls
from hodei_server.rpc.log_lookup import LogLookup
from hodei_server.rpc.log_service import FollowLimits, LogService
from hodei_server.rpc.provider_service import ProviderService
from hodei_server.rpc.worker_service import WorkerService
from hodei_server.secrets.opening import open_secrets
from hodei_server.settings import Settings, SettingsError
from hodei_server.strategy_registry import StrategyError
from hodei_server.work.attempts import Attempts
from hodei_server.work.fleet import Fleet
from hodei_server.work.planning import Planner
from hodei_server.work.pools import Pools
from hodei_server.work.recovery import recover
from hodei_server.work.reports import Reports
from hodei_server.work.scheduler import Scheduler
from hodei_server.work.sessions import Sessions
from hodei_server.worker_listeners import open_worker_listener

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

#: What keeps a server from starting, each with a message for people.
STARTUP_ERRORS = (
    DatabaseAddressError,
    DatabaseEncodingError,
    DatabaseHeldError,
    DatabaseUnavailableError,
    DataFolderError,
    ListenerError,
    ProviderSetupError,
    SchemaVersionError,
    SettingsError,
    StrategyError,
)


class Server:
    """A running server. An asynchronous context manager; leaving it drains.

    :param ephemeral: no server will follow this one: its workers are removed at the end.
    :param ending: set by whoever runs the server when it is to end: one that waits for another's end stops then.
    :ivar address: where clients connect, known once entered.
    :ivar health_address: where probes do, if anywhere.
    :ivar metrics_address: where scrapes do, if anywhere.
    :ivar sessions: the workers' connections, and how often one was refused.
    :ivar failed: set when a loop has died; whoever runs the server ends it then.
    """

    def __init__(self, settings: Settings, *, ephemeral: bool = False, ending: asyncio.Event | None = None) -> None:
        self.settings = settings
        self._ephemeral = ephemeral
        self._ending = ending
        self.address = Address("", 0)
        self.worker_address = Address("", 0)
        self.health_address = Address("", 0)
        self.metrics_address = Address("", 0)
        self._loops = LoopRunner()
        self.failed = self._loops.failed
        self.sessions = Sessions()
        self._presence = Presence()
        self._accepting = True
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Come up: everything is recovered before anybody is let in.

        :raise AskedToEndError: it is to end, and waits for another server's end.
        :raise Exception: one of STARTUP_ERRORS.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go down: say so, let calls end, stop the loops, close what is open. Workers go on."""
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, enter, pool_settings = self.settings, self._stack.enter_async_context, self.settings.pools
        folder = self._stack.enter_context(DataFolder(settings.data_dir))
        database, lock = await self._open_database()
        installation = await identify(database, folder)
        installation_id, server_id = installation.installation_id, installation.server_id
        disk = FileLogStore(settings.data_dir / "logs", durability=settings.durability, committed=LOG_COMMIT.observe)
        archive = await open_archive(disk, settings, installation_id, database)
        store: LogStore = await enter(archive or disk)
        providers = await open_providers(settings, self._stack)
        # The listeners take their ports before anything that names them is made, and serve only once all is recovered.
        clients, workers, probes = make_listeners(settings)
        for listener in (clients, workers, probes):
            self._stack.push_async_callback(listener.server.stop, 0)
        self._bind(clients, probes)
        self.worker_address, reach = open_worker_listener(workers, settings, providers)

        sessions = self.sessions
        fleet = Fleet(providers, database, sessions, fleet_settings(settings, installation_id, reach))
        book = LogBook(store, database, server_id, log_settings(settings), disk=disk, restored=installation.restored)
        secrets = await open_secrets(settings, database)
        attempts = Attempts(database, book, sessions, fleet, attempt_settings(settings, providers), secrets=secrets)
        scheduler = Scheduler(database, fleet, sessions, attempts, scheduler_settings(settings, server_id))
        self._stack.push_async_callback(book.close)
        if self._ephemeral:
            self._stack.push_async_callback(fleet.remove_all)
        self._stack.push_async_callback(fleet.close)

        worker_service = WorkerService(
            database,
            sessions,
            fleet,
            attempts,
            Reports(database, fleet, attempts),
            server_id=server_id,
            ping_interval=settings.ping_interval,
            orphan_after=settings.orphan_after,
        )
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(worker_service, workers.server)
        submissions = Submissions(
            database, secrets, scheduler, max_queued=settings.max_queued_jobs, accepting=lambda: self._accepting
        )
        job_service = JobService(
            database,
            attempts,
            scheduler,
            Planner(database, scheduler, sessions),
            submissions,
            limits=WatchLimits(settings.max_watches, settings.max_watches_per_client),
        )
        job_pb2_grpc.add_JobServiceServicer_to_server(job_service, clients.server)
        retention = Retention(disk, database, server_id, job_ttl=settings.job_ttl, archive=archive)
        log_service = LogService(
            LogLookup(database, book, attempts.moves.changed),
            retention,
            FollowLimits(settings.max_follows, settings.max_follows_per_job, settings.max_follows_per_client),
            compress=settings.log_compression,
        )
        clients.server.add_generic_rpc_handlers((log_service.handlers(),))
        provider_pb2_grpc.add_ProviderServiceServicer_to_server(
            ProviderService(database, scheduler, sessions, attempts), clients.server
        )

        await recover(database, attempts, fleet, scheduler, installation)
        pools = Pools(
            database,
            fleet,
            scheduler,
            pool_settings,
            max_jobs=settings.worker_max_jobs,
            start_timeout=settings.start_timeout,
        )
        leases = Leases(
            attempts,
            fleet,
            sessions,
            database,
            lease=settings.lease,
            orphan_after=settings.orphan_after,
            pools=pools,
            presence=self._presence,
        )
        self._stack.push_async_callback(self._loops.stop)
        run = self._loops.run
        run("presence", lambda: presence_loop(self._presence))
        run("dispatch", lambda: dispatch_loop(scheduler, database))
        run("unheld", lambda: unheld_loop(database, attempts, scheduler))
        if pools.wanted:
            run("pool", lambda: pool_loop(pools, scheduler))
        run("clocks", lambda: clock_loop(attempts, sessions, database, self._presence, patience=settings.lease))
        run("pings", lambda: ping_loop(worker_service, self._presence, settings.ping_interval))
        run("leases", lambda: lease_loop(leases, sessions, database, settings.ping_interval))
        run("database lock", lambda: database_lock_loop(lock))
        run("generation", lambda: generation_loop(installation))
        run("health", lambda: health_loop(fleet))
        strays = Strays(fleet, database, installation_id, settings.stray_grace)
        run("strays", lambda: stray_loop(strays, settings.stray_grace))
        await run_log_loops(
            self._loops,
            settings,
            database,
            installation,
            book=book,
            retention=retention,
            disk=disk,
            archive=archive,
            listeners=(clients, probes),
        )
        for name in providers:
            run(f"watch {name}", partial(watch_loop, name, fleet, leases, sessions, installation_id))

        await self._serve_metrics(Parts(database, scheduler, sessions, pools, book, log_service, settings.data_dir))
        await self._let_in(clients, workers, probes)
        _log.info(
            "server.started",
            listen=str(self.address),
            worker_listen=str(self.worker_address),
            data=str(settings.data_dir),
            database=database.engine.url.render_as_string(hide_password=True),
            durability=settings.durability,
            providers=sorted(providers),
        )

    async def _open_database(self) -> tuple[Database, DatabaseLock]:
        settings = self.settings
        engine = open_engine(settings.resolved_database_url, settings.durability)
        self._stack.callback(engine.dispose)
        if settings.embedded_database:
            await asyncio.to_thread(upgrade, engine)
        await asyncio.to_thread(require_newest, engine)
        lock = await self._stack.enter_async_context(DatabaseLock(engine, ending=self._ending))
        return await self._stack.enter_async_context(Database(engine, queue_limit=settings.database_queue)), lock

    async def _let_in(self, clients: Listener, workers: Listener, probes: Listener) -> None:
        await workers.server.start()
        for listener in (clients, probes):
            await listener.server.start()
        self._stack.push_async_callback(self._drain, clients, workers, probes)
        for listener in (clients, probes):
            await listener.set_serving(serving=True)

    def _bind(self, clients: Listener, probes: Listener) -> None:
        settings = self.settings
        self.address = clients.bind(
            settings.address,
            ListenerTls(settings.tls_cert, settings.tls_key, settings.tls_client_ca),
            variable="HODEI_LISTEN",
            allow_plaintext=settings.allow_plaintext,
        )
        if settings.health_listen:
            # In plain text anywhere: it says nothing else, and probes hold no certificates.
            place = parse_address(settings.health_listen)
            self.health_address = probes.bind(
                place, ListenerTls(), variable="HODEI_HEALTH_LISTEN", allow_plaintext=True
            )

    async def _serve_metrics(self, parts: Parts) -> None:
        if self.settings.metrics_listen:
            place = parse_address(self.settings.metrics_listen)
            serving = serve_metrics(place, partial(gather, parts))
            self.metrics_address = await self._stack.enter_async_context(serving)
            self._loops.run("lag", lag_loop)

    async def _drain(self, clients: Listener, workers: Listener, probes: Listener) -> None:
        self._accepting = False
        for listener in (clients, probes):
            await listener.set_serving(serving=False)
        _log.info("server.ending")
        await clients.server.stop(self.settings.drain_timeout if not self.failed.is_set() else 0)
        # Workers notice at once and come back to the next server by themselves.
        await workers.server.stop(0)
