"""Protections of logs while they grow and are read."""

from __future__ import annotations

from hodei_protections.protection import Protection

SERVER = "tests/integration/server"
WORKER = "tests/integration/worker/test_worker.py"

LOGS: tuple[Protection, ...] = (
    Protection(
        "L01",
        "pipes are drained to EOF; the job ends after its log is durable, or marked incomplete after a bounded wait",
        "worker/hodei_worker/attempt.py",
        "        whole = await self.output.drain(self._settings.drain_timeout)\n"
        "        await process.kill_rest()\n"
        "        await self.output.take_rest()\n"
        "        return not whole",
        "        return False",
        f"{WORKER}::test_what_comes_after_the_end_of_the_leader_is_read_to_the_end",
        "what a child writes after the leader's end is missing",
    ),
    Protection(
        "L02",
        "a follower starts at 0 unless told otherwise",
        "server/hodei_server/rpc/log_reading.py",
        "    if place is None or not log.attempt_uid:\n        return 0, 0",
        "    if place is None:\n        return await find_tail(lookup.book, log.attempt_uid, 10, streams)",
        f"{SERVER}/test_jobs.py::test_a_follower_that_joins_late_or_twice_sees_the_same",
        "the late follower has the last lines only",
    ),
    Protection(
        "L03",
        "the output of jobs that live for milliseconds is complete",
        "worker/hodei_worker/attempt.py",
        "        whole = await self.output.drain(self._settings.drain_timeout)\n"
        "        await process.kill_rest()\n"
        "        await self.output.take_rest()\n"
        "        return not whole",
        "        return False",
        f"{WORKER}::test_a_job_that_is_over_before_anybody_looks_has_all_of_its_output",
        "only what one look at the pipe found is there",
    ),
    Protection(
        "L04",
        "one sequence for history and live; a place is exclusive",
        "server/hodei_server/rpc/log_reading.py",
        "        return request.after_sequence + 1, 0",
        "        return request.after_sequence, 0",
        "tests/integration/server/test_places.py::test_a_place_in_a_log_is_exclusive",
        "the chunk at the place comes a second time",
    ),
    Protection(
        "L05",
        "repeats are known by (attempt, sequence), never by their text",
        "client/hodei_client/logs.py",
        "        if chunk.sequence < expected:\n            return None\n",
        "",
        "tests/unit/client/test_logs.py::test_what_a_server_sends_twice_is_read_once",
        "what was sent twice is read twice",
    ),
    Protection(
        "L06",
        "a log ends with an explicit end; without it the client resumes",
        "client/hodei_client/logs.py",
        '                failure: HodeiError = UnavailableError("the log stream broke off without its end")',
        "                return",
        "tests/unit/client/test_logs.py::test_a_break_anywhere_neither_repeats_nor_skips",
        "the rest after the break is missing",
    ),
    Protection(
        "L07",
        "messages stay far below what gRPC takes",
        "worker/hodei_worker/outbox.py",
        "BLOCK_BYTES = 512 << 10",
        "BLOCK_BYTES = 6 << 20",
        "tests/unit/worker/test_outbox.py::test_blocks_stay_small_however_much_has_waited",
        "blocks are larger than the server takes",
    ),
    Protection(
        "L07",
        "a worker's frame over the limit is refused and counted, and its session ends with a reason",
        "server/hodei_server/rpc/interceptors.py",
        "        if len(data) > MAX_MESSAGE_BYTES:\n",
        "        if not MAX_MESSAGE_BYTES:\n",
        f"{SERVER}/test_lying_workers.py::test_a_liar_is_told_why_and_hurts_nobody[a frame over the limit]",
        "what the frame says is taken",
    ),
    Protection(
        "L07",
        "the server sees such a frame: gRPC, which would end the stream without a word, takes larger ones",
        "proto/hodei/transport.py",
        "MAX_FRAME_BYTES = 4 * MAX_MESSAGE_BYTES\n",
        "MAX_FRAME_BYTES = MAX_MESSAGE_BYTES\n",
        f"{SERVER}/test_lying_workers.py::test_a_liar_is_told_why_and_hurts_nobody[a frame over the limit]",
        "the stream breaks off without a reason",
    ),
    Protection(
        "L07",
        "frames beyond what gRPC takes end the session, too, after a few",
        "server/hodei_server/rpc/worker_service.py",
        "                if session.breaks >= MAX_BREAKS:\n",
        "                if session.breaks < 0:\n",
        f"{SERVER}/test_lying_workers.py::test_frames_beyond_what_is_seen_end_the_session_after_a_while",
        "the worker comes back for ever",
    ),
    Protection(
        "L09",
        "followers are cursors: a slow one costs the others nothing and misses nothing",
        "server/hodei_server/logs/open_log.py",
        "        if not self._recent or sequence < self._recent[0].first_sequence:",
        "        if not self._recent:",
        f"{SERVER}/test_pressure.py::test_a_burst_of_a_million_lines_is_whole_beside_a_reader_that_stops",
        "the slow reader misses what is no longer in memory",
    ),
    Protection(
        "L10",
        "a broken follow leaves nothing behind",
        "server/hodei_server/rpc/open_streams.py",
        "                self._open[key] -= 1\n",
        "",
        f"{SERVER}/test_pressure.py::test_thousands_of_broken_follows_leave_nothing_behind",
        "the broken ones use up the bound, and the next is refused",
    ),
    Protection(
        "L10",
        "a client that is closed leaves no connection, whoever keeps what its calls ended with",
        "client/hodei_client/connection.py",
        "    cancelled.__traceback__ = None\n",
        "    del cancelled\n",
        f"{SERVER}/test_closing.py::test_a_cancelled_call_that_somebody_keeps_does_not_keep_its_connection[follow]",
        "the task that was cancelled keeps the connection",
    ),
    Protection(
        "L11",
        "a line may have any length and no end",
        "worker/hodei_worker/output.py",
        "            self._outbox.add(self._open[descriptor], data, now)",
        '            data = data[: data.rfind(b"\\n") + 1]\n'
        "            self._outbox.add(self._open[descriptor], data, now)",
        f"{SERVER}/test_pressure.py::test_one_line_without_an_end_is_no_trouble",
        "the line is missing",
    ),
    Protection(
        "L12",
        "bytes end to end",
        "worker/hodei_worker/output.py",
        "            self._outbox.add(self._open[descriptor], data, now)",
        '            self._outbox.add(self._open[descriptor], data.decode(errors="replace").encode()[:65536], now)',
        f"{SERVER}/test_jobs.py::test_all_byte_values_come_through",
        "other bytes arrive",
    ),
    Protection(
        "L13",
        "log bytes never go to the database",
        "server/hodei_server/work/reports.py",
        "        repeated = block.next_sequence <= live.log.durable\n",
        "        await self._database.write(\n"
        "            lambda tx: tx.connection.exec_driver_sql(\n"
        '                "UPDATE jobs SET reason = ?", (message.block.decode(errors="replace"),)\n'
        "            )\n"
        "        )\n"
        "        repeated = block.next_sequence <= live.log.durable\n",
        f"{SERVER}/test_places.py::test_log_bytes_are_in_no_database",
        "the words of the log are found in the database's files",
    ),
    Protection(
        "L14",
        "a log has a byte budget, and the server's memory does not grow with it",
        "server/hodei_server/logs/open_log.py",
        "        while self._recent_held > self._recent_bytes and len(self._recent) > 1:",
        "        while False:",
        f"{SERVER}/test_pressure.py::test_one_line_without_an_end_is_no_trouble",
        "the server has grown by the size of the log",
    ),
    Protection(
        "L15",
        "what was cut is marked; head and tail are kept",
        "server/hodei_server/rpc/log_service.py",
        "                yield wire.StreamLogsResponse(cut=cut_message(piece))",
        "                continue",
        f"{SERVER}/test_jobs.py::test_the_budget_cuts_the_middle_and_says_so",
        "the client finds a gap that nobody told of",
    ),
    Protection(
        "L16",
        "order by sequence; each chunk keeps its stream",
        "worker/hodei_worker/attempt.py",
        "        self.output.follow(pipes[1][0], log_wire.LOG_STREAM_STDERR)",
        "        self.output.follow(pipes[1][0], log_wire.LOG_STREAM_STDOUT)",
        f"{SERVER}/test_jobs.py::test_a_job_runs_and_its_streams_are_kept_apart",
        "stderr is among stdout",
    ),
    Protection(
        "L18",
        "silence is no failure: the provider is asked, and only the lease decides",
        "server/hodei_server/loops/leases.py",
        "        gone = description.phase in {WorkerPhase.EXITED, WorkerPhase.MISSING} or description.permanent",
        "        gone = True",
        f"{SERVER}/test_faults.py::test_a_worker_that_is_stopped_for_many_leases_is_not_lost",
        "the job is lost while its worker is stopped",
    ),
    Protection(
        "L24",
        "stored raw; a terminal gets no dangerous escapes",
        "cli/hodei_cli/log_output.py",
        "        data = self._rest + data\n        unfinished",
        "        return data\n        unfinished",
        "tests/integration/cli/test_logs.py::test_a_terminal_is_spared_and_raw_is_not",
        "the escape reaches the terminal",
    ),
    Protection(
        "L25",
        "an unknown job is NOT_FOUND; a finished one has its full log",
        "server/hodei_server/rpc/log_lookup.py",
        '            if job is None:\n                raise NotFoundError("job", job_id)\n            if attempt',
        "            if job is None:\n                await wait_for(moved, None)\n                continue\n"
        "            if attempt",
        f"{SERVER}/test_places.py::test_an_unknown_job_has_no_log",
        "the follow waits for a job that may never come",
    ),
    Protection(
        "L26",
        "every terminal state ends the log",
        "server/hodei_server/rpc/log_lookup.py",
        "            if ended or not wait:\n                return",
        "            if not wait:\n                return",
        f"{SERVER}/test_jobs.py::test_a_job_that_never_ran_ends_its_log",
        "the follow never ends",
    ),
    Protection(
        "L27",
        "no channel between writer and reader: nothing to fill, nothing to wait for",
        "server/hodei_server/logs/open_log.py",
        "        if not self._recent or sequence < self._recent[0].first_sequence:\n            return None",
        "        if not self._recent or sequence < self._recent[0].first_sequence:\n"
        "            sequence = self._recent[0].first_sequence if self._recent else sequence",
        f"{SERVER}/test_pressure.py::test_a_burst_of_a_million_lines_is_whole_beside_a_reader_that_stops",
        "what is no longer in memory is missing for the reader that stopped",
    ),
    Protection(
        "L28",
        "what is not acknowledged survives the connection",
        "worker/hodei_worker/outbox.py",
        "        self._ready.extendleft(reversed(self._sent))\n",
        "",
        "tests/unit/worker/test_outbox.py::test_everything_that_was_written_arrives_in_order",
        "what was under way when the connection broke is never sent again",
    ),
)
