"""Protections of workers: found again, kept by their session, judged by their provider."""

from __future__ import annotations

from hodei_protections.protection import Protection

SERVER = "tests/integration/server"
SESSIONS = f"{SERVER}/test_worker_sessions.py"
PROVIDER = "tests/integration/providers/test_process.py"

WORKERS: tuple[Protection, ...] = (
    Protection(
        "W03",
        "what a watch has said of a worker that does not start is asked again before it counts",
        "server/hodei_server/loops/leases.py",
        "            leases.judge(newest, 0.0)\n",
        "            leases.judge(description, 0.0)\n",
        f"{SERVER}/test_failing_providers.py::test_a_worker_that_has_started_since_it_was_given_up_is_looked_at_again",
        "the worker that runs is removed",
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
        "pings come within a minute, and no more often than the other side takes",
        "proto/hodei/transport.py",
        "KEEPALIVE_SECONDS = 30\n",
        "KEEPALIVE_SECONDS = 300\n",
        "tests/unit/test_transport.py::test_no_client_is_sent_away_for_pinging_too_often",
        "what is idle is cut by a load balancer",
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
        "W29",
        "one writer, which takes its lock when it begins",
        "server/hodei_server/db/engine.py",
        '        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")',
        '        connection.exec_driver_sql("BEGIN" if writer else "BEGIN")',
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
