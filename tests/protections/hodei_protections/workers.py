"""Protections of workers: found again, kept by their session, judged by their provider."""

from __future__ import annotations

from hodei_protections.protection import Protection

SERVER = "tests/integration/server"
SESSIONS = f"{SERVER}/test_worker_sessions.py"
PROVIDER = "tests/integration/providers/test_process.py"
IDLE = (
    "tests/unit/test_transport.py"
    "::test_an_idle_connection_outlives_a_load_balancer_and_nobody_is_sent_away_for_its_pings"
)

WORKERS: tuple[Protection, ...] = (
    Protection(
        "W03",
        "what a watch has said of a worker that does not start is asked again before it counts",
        "server/hodei_server/loops/leases.py",
        "            await leases.heard(newest)\n",
        "            await leases.heard(description)\n",
        f"{SERVER}/test_failing_providers.py::test_a_worker_that_has_started_since_it_was_given_up_is_looked_at_again",
        "the worker that runs is removed",
    ),
    Protection(
        "W11",
        "why a worker ended that nobody was there to hear of is told by the server that comes after",
        "server/hodei_server/work/recovery.py",
        "        cause = cause_of_loss(description, started=live.started)\n",
        "        cause = Cause.WORKER_LOST\n",
        f"{SERVER}/test_failing_providers.py"
        "::test_why_a_worker_ended_before_it_connected_is_told_by_the_server_that_comes_after",
        "a worker that ran out of memory is merely lost",
    ),
    Protection(
        "W11",
        "on start what is there is adopted, and what nobody knows of is removed after a grace",
        "server/hodei_server/loops/strays.py",
        "            gone = await self._fleet.providers[name].destroy(handle)\n",
        "            gone = False\n",
        f"{SERVER}/test_restart.py::test_what_nobody_knows_of_is_removed_after_its_grace",
        "a worker that nobody knows of is left running",
    ),
    Protection(
        "W12",
        "workers of other installations are neither listed nor touched",
        "providers/hodei_providers/process/provider.py",
        "            records = [record for record in all_records(self._root)"
        " if record.installation_id == installation_id]\n",
        "            records = [record for record in all_records(self._root) if installation_id]\n",
        f"{PROVIDER}::TestProcessProvider::test_another_installations_workers_are_nobodys_business",
        "the other installation's worker is listed",
    ),
    Protection(
        "W13",
        "a launch that broke off is looked for by the worker's id before anything else is believed",
        "providers/hodei_providers/process/workers.py",
        "        return next((found for found in procfs.all_processes()"
        " if procfs.has_arguments(found.pid, mark)), None)",
        "        return next((found for found in procfs.all_processes() if not mark), None)",
        f"{PROVIDER}::test_a_launch_that_died_half_way_is_found",
        "the running worker is taken for missing",
    ),
    Protection(
        "W14",
        "a removal that was refused, as its worker is idle no more, stands for nobody else's",
        "server/hodei_server/work/removals.py",
        "            if await asyncio.shield(others) or idle:\n                return others.result()\n",
        "            return await asyncio.shield(others)\n",
        "tests/integration/db/test_removals.py"
        "::test_who_removes_a_worker_does_not_take_an_idle_ones_refused_removal_for_its_own[sqlite]",
        "the worker is there, and taken for gone",
    ),
    Protection(
        "W14",
        "a worker that its provider has lost sight of keeps its job until it must have ended it by itself",
        "server/hodei_server/loops/leases.py",
        "        if gone and unseen and silent <= self._orphan_after + ORPHAN_MARGIN:\n",
        "        if unseen and silent < 0:\n",
        "tests/unit/server/test_leases.py"
        "::test_a_worker_whose_end_nobody_has_seen_keeps_its_job_until_it_has_been_silent_for_long_enough",
        "another attempt begins beside it",
    ),
    Protection(
        "W14",
        "a job whose worker is removed, and out of sight, runs again only when that must have ended it",
        "server/hodei_server/loops/leases.py",
        "        elif worker_id in self._fleet.removals.out_of_reach and self._harmless(row):\n",
        "        elif worker_id in self._fleet.removals.out_of_reach:\n",
        "tests/unit/server/test_leases.py"
        "::test_a_job_whose_removed_worker_is_out_of_sight_waits_until_that_must_have_ended_it",
        "another attempt begins beside it",
    ),
    Protection(
        "W08",
        "a job of a lost node runs again, also where the server may not look at nodes",
        "providers/hodei_providers/kubernetes/nodes.py",
        '        return dataclasses.replace(said, message=message, unconfirmed=ending and lost != "")\n',
        "        return dataclasses.replace(said, message=message)\n",
        f"{SERVER}/test_lost_nodes.py"
        "::test_a_job_of_a_lost_node_runs_again_once_its_worker_must_have_ended_it[unreadable]",
        "the job waits until somebody takes the pod away",
    ),
    Protection(
        "W14",
        "a pod that was taken away by force has ended by its kubelet's word only",
        "providers/hodei_providers/kubernetes/removal.py",
        "        return await ends.is_over(worker_id)\n",
        "        return True\n",
        "tests/unit/providers/test_kubernetes_removal.py"
        "::test_a_worker_is_gone_once_its_kubelet_has_said_that_it_has_ended",
        "another attempt begins beside it",
    ),
    Protection(
        "W19",
        "a silent worker is lost only if its provider says so",
        "server/hodei_server/loops/leases.py",
        '        description = await self._fleet.describe(worker_id, row["provider"])\n',
        '        description = await self._fleet.describe(worker_id, row["provider"])\n'
        "        description = Description(description.handle, WorkerPhase.EXITED)\n",
        f"{SERVER}/test_faults.py::test_a_connection_that_is_as_good_as_dead_is_given_up_and_replaced",
        "the worker is lost while it runs its job",
    ),
    Protection(
        "W05",
        "a run's clock does not judge a worker that can't be heard: it may have ended its job in time",
        "server/hodei_server/loops/clocks.py",
        "            if session is None or session.heard_at < presence.since() + attempts.settings.run_margin:\n",
        "            if session is live:\n",
        f"{SERVER}/test_absent.py::test_what_ended_in_time_while_the_server_was_away_keeps_its_outcome[killed]",
        "the job that ended in time counts as timed out",
    ),
    Protection(
        "W05",
        "clocks that ran while the server was stopped or down give its workers time to be heard",
        "server/hodei_server/loops/clocks.py",
        '        if there < patience and row["created_at"] < now - int(there * 1e6):\n',
        "        if there < 0:\n",
        f"{SERVER}/test_absent.py::test_what_was_cancelled_before_the_server_went_away_has_its_last_words[stopped]",
        "the worker is removed with what its job has said last",
    ),
    Protection(
        "W05",
        "a worker that keeps its job's end, because the server has no room for the log, is not removed for that",
        "server/hodei_server/loops/clocks.py",
        "    if not live.log.writable_since:\n",
        "    if live.log.writable_since >= 0:\n",
        f"{SERVER}/test_clocks.py::test_a_job_whose_log_finds_no_room_keeps_its_outcome[timed-out]",
        "the job that has ended counts as timed out",
    ),
    Protection(
        "W20",
        "heartbeat and assignment are on one stream: a worker that came back without its attempt is given up",
        "server/hodei_server/rpc/worker_service.py",
        "        if live.started and not held and live.result is None:\n",
        "        if live.started and not held and live.result is not None:\n",
        f"{SESSIONS}::test_a_worker_that_pings_but_has_lost_its_attempt_is_given_up",
        "pings are answered for ever and the attempt never ends",
    ),
    Protection(
        "W21",
        "pings come within a minute, whether or not a call is under way",
        "proto/hodei/transport.py",
        "KEEPALIVE_SECONDS = 30\n",
        "KEEPALIVE_SECONDS = 300\n",
        f"{IDLE}[clients]",
        "what is idle is cut by a load balancer",
    ),
    Protection(
        "W21",
        "who pings as it is told to is not sent away for it",
        "proto/hodei/transport.py",
        '    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 1000 // 3),\n'
        '    ("grpc.http2.max_ping_strikes", 0),\n',
        "",
        f"{IDLE}[workers]",
        "the server ends the connection: too_many_pings",
    ),
    Protection(
        "W22",
        "workers come back with full jitter, and as late as the server has asked for",
        "worker/hodei_worker/backoff.py",
        "MAX_RETRY_AFTER_SECONDS) + uniform(0.0, min(bound(failures), most))",
        "MAX_RETRY_AFTER_SECONDS) + min(bound(failures), most)",
        "tests/unit/worker/test_backoff.py::test_waits_fill_the_whole_range_evenly",
        "all of them come back at once",
    ),
    Protection(
        "W25",
        "only the server's clock judges; a worker is told what to add to its own",
        "server/hodei_server/rpc/worker_service.py",
        "            clock_offset_nanos=steady_time_ns() - hello.time_unix_nanos if hello.time_unix_nanos else 0,\n",
        "",
        f"{SESSIONS}::test_a_worker_whose_clock_is_hours_off_is_let_in",
        "the worker is not told that its clock is off",
    ),
    Protection(
        "W26",
        "workers outlive the server and come back to the next one",
        "server/hodei_server/app.py",
        "        if self._ephemeral:\n",
        "        if self._stack:\n",
        f"{SERVER}/test_restart.py::test_a_job_outlives_its_server_and_its_log_is_whole",
        "the job ends with its server",
    ),
    Protection(
        "W26",
        "workers are in sessions of their own",
        "providers/hodei_providers/process/workers.py",
        "                start_new_session=True,\n",
        "",
        f"{PROVIDER}::test_a_worker_is_no_part_of_the_servers_session",
        "an interrupt at the server's terminal ends the workers, too",
    ),
    Protection(
        "W08",
        "a job that never started waits for nobody to confirm that, where its provider is out of reach",
        "server/hodei_server/loops/leases.py",
        "            live.given_up.set()\n",
        "            pass\n",
        f"{SERVER}/test_failing_providers.py::test_a_job_that_never_started_waits_for_no_provider_to_confirm_that",
        "the job waits until its provider is back",
    ),
    Protection(
        "W11",
        "an attempt whose worker is gone from the database is found, and so is what is left of the worker",
        "server/hodei_server/loops/leases.py",
        "                await self._check_unknown(live)\n",
        "                continue\n",
        f"{SERVER}/test_removed_workers.py::test_an_attempt_whose_worker_somebody_removes_ends_as_lost[deleted-True]",
        "the attempt never ends",
    ),
    Protection(
        "W28",
        "a provider that keeps failing is left alone, for longer each time",
        "server/hodei_server/domain/breaker.py",
        "        if self.failures >= THRESHOLD and now >= self._open_until:\n",
        "        if self.failures < 0:\n",
        "tests/unit/server/test_breaker.py::test_the_pause_doubles_up_to_its_bound",
        "it is asked again at once, as often as there are jobs",
    ),
    Protection(
        "W28",
        "one launch at a time tries whether it is back",
        "server/hodei_server/domain/breaker.py",
        "            self._probe_until = now + seconds\n",
        "            self._probe_until = 0.0\n",
        "tests/unit/server/test_breaker.py::test_after_the_pause_one_tries_and_the_others_wait",
        "all jobs that wait try at once",
    ),
    Protection(
        "W28",
        "what a job does, or its image, is never held against its provider",
        "server/hodei_server/domain/blame.py",
        "        return Blame.NOTHING if own_image else Blame.PROVIDER\n",
        "        return Blame.PROVIDER\n",
        "tests/unit/server/test_breaker.py::test_only_workers_that_never_come_are_held_against_a_provider",
        "three jobs with a broken image keep everybody from their provider",
    ),
    Protection(
        "W29",
        "one writer, which takes its lock when it begins",
        "server/hodei_server/db/engine.py",
        '        begin = "BEGIN IMMEDIATE" if connection',
        '        begin = "BEGIN" if connection',
        "tests/integration/db/test_locks.py::test_writes_and_reads_at_once_never_find_the_database_locked",
        "a write that began with a read is told that the database is locked",
    ),
    Protection(
        "W33",
        "a worker is ready when its stream has said hello, not when it has registered",
        "server/hodei_server/db/workers.py",
        "_BURN_OTP = _update(\n",
        "_BURN_OTP = _update(\n    state=int(WorkerState.BUSY),\n",
        f"{SESSIONS}::test_what_is_dispatched_before_the_hello_comes_after_it",
        "a worker that has not said hello counts as busy with what it never got",
    ),
    Protection(
        "W34",
        "the end of an old stream leaves the new connection alone",
        "server/hodei_server/work/sessions.py",
        "        if self._by_worker.get(session.worker_id) is session:\n",
        "        if session.worker_id in self._by_worker:\n",
        f"{SESSIONS}::test_the_end_of_an_old_stream_leaves_the_new_connection_alone",
        "the connected worker counts as gone",
    ),
    Protection(
        "W35",
        "sessions outlive the server, and a worker that is refused ends itself",
        "worker/hodei_worker/registration.py",
        "        except aio.AioRpcError as error:\n"
        "            if error.code() in REFUSALS:\n"
        "                raise SessionOverError(error.details() or error.code().name) from None\n"
        "            _log.warning(",
        "        except aio.AioRpcError as error:\n            _log.warning(",
        "tests/integration/worker/test_worker.py::test_a_refused_worker_ends_itself",
        "the worker registers again and again",
    ),
    Protection(
        "W35",
        "a worker whose session the server does not know any more ends itself and its job",
        "worker/hodei_worker/agent.py",
        "                if error.code() in REFUSALS:\n"
        "                    raise SessionOverError(error.details() or error.code().name) from None\n"
        "                failure = error\n",
        "                failure = error\n",
        f"{SERVER}/test_restored.py::test_a_worker_that_nobody_finds_is_refused_and_ends_with_its_job",
        "the worker comes back again and again, and its job runs on",
    ),
)
