"""Protections of logs once they have ended: sealed, kept for their time, removed."""

from __future__ import annotations

from hodei_protections.protection import Protection

SERVER = "tests/integration/server"
SWEEP = "tests/integration/s3/test_sweep.py"
CLOCK = "tests/integration/db/test_clock.py::test_what_is_under_way_is_moved_with_the_clock"

RETENTION: tuple[Protection, ...] = (
    Protection(
        "L19",
        "logs are archived in one way, whatever became of the job",
        "server/hodei_server/db/attempts.py",
        "    if log.open_segment is not None:\n        close_segment(tx, log.open_segment)",
        "    if log.open_segment is not None and state is JobState.SUCCEEDED:\n"
        "        close_segment(tx, log.open_segment)",
        f"{SERVER}/test_retention.py::test_logs_are_compressed_after_the_end_and_read_the_same",
        "the logs of jobs that failed are never compressed",
    ),
    Protection(
        "L20",
        "the open form goes only after the compressed one was read back and is the same",
        "logstore/hodei_logstore/segment_files.py",
        "        except CorruptSegmentError:\n"
        '            self._path(key, "sealed").unlink()\n'
        "            return False\n",
        "        except CorruptSegmentError:\n            pass\n",
        "tests/unit/logstore/test_stores.py::test_a_crash_while_sealing_loses_nothing",
        "the damaged form is kept and the whole one removed",
    ),
    Protection(
        "L20",
        "a log that is verified is looked at byte for byte, those of a file that no read needs included",
        "server/hodei_server/logs/verify.py",
        "    await store.examine(key)\n",
        "",
        "tests/unit/server/test_log_verify.py::test_every_byte_of_a_sealed_segment_is_looked_at[sealed-0]",
        "a file that does not begin as a segment is found to be whole",
    ),
    Protection(
        "L20",
        "segments that are damaged keep no others from being sealed, however many they are",
        "server/hodei_server/loops/sealing.py",
        "        limit = SEAL_BATCH + len(damaged)\n",
        "        limit = SEAL_BATCH\n",
        f"{SERVER}/test_damaged_store.py::test_a_thousand_damaged_logs_stand_in_no_healthy_ones_way_and_each_is_told",
        "a healthy log behind them stays as it is for ever",
    ),
    Protection(
        "L20",
        "an upload of a segment that is on the disk is left to whoever uploads it",
        "server/hodei_server/loops/sweep.py",
        "                if not _may_be_going_up(known.segments.get(keys[each.name])):\n",
        "                if each.upload_id:\n",
        f"{SWEEP}::test_uploads_that_nobody_ended_go_but_for_those_that_may_be_going_up",
        "an upload that is on its way is given up",
        needs="AWS_ENDPOINT_URL",
    ),
    Protection(
        "L20",
        "of what is on the disk only logs that no attempt has are taken for what a restored database does not know",
        "server/hodei_server/loops/leftovers.py",
        "            return set(uids) - set(tx.execute(query).scalars())\n",
        "            return set(uids) if query is not None else set()\n",
        "tests/integration/db/test_leftovers.py::test_logs_that_no_attempt_has_go_after_a_grace[sqlite-1000]",
        "the logs of a job that runs are removed",
    ),
    Protection(
        "L20",
        "what a restored database does not know and a manifest names is not taken for what a crash has left",
        "server/hodei_server/loops/sweep.py",
        "        left |= unknown - await self._named(uids)\n",
        "        left |= unknown\n",
        f"{SWEEP}::test_what_no_log_has_goes_and_the_rest_stays",
        "the only copy of a log is removed",
        needs="AWS_ENDPOINT_URL",
    ),
    Protection(
        "L21",
        "retention goes by the recorded end, never by a file's time",
        "server/hodei_server/db/retention.py",
        "where(jobs.c.logs_expire_at <= tx.now)",
        "where(jobs.c.logs_expire_at.is_not(None))",
        f"{SERVER}/test_retention.py::test_the_time_of_a_file_says_nothing_about_its_log",
        "the log goes before its time",
    ),
    Protection(
        "L21",
        "nothing expires by a clock that was moved while the server was down, until somebody confirms it",
        "server/hodei_server/db/clock.py",
        "        return int(known.clock_moved)\n",
        "        return 0\n",
        f"{CLOCK}[sqlite-2592000000000]",
        "logs go before their time",
    ),
    Protection(
        "L22",
        "retention never works on a running job's log",
        "server/hodei_server/db/attempts.py",
        '            "started_at": None,\n',
        '            "started_at": None,\n            "logs_expire_at": tx.now,\n',
        f"{SERVER}/test_retention.py::test_logs_go_when_their_time_has_passed_and_the_receipt_stays",
        "the running job's log is gone",
    ),
    Protection(
        "L22",
        "a turn of removals ends with its time budget, and others have theirs",
        "server/hodei_server/logs/retention.py",
        "            if time.monotonic() >= deadline:\n",
        "            if time.monotonic() < 0:\n",
        "tests/integration/db/test_sealing.py::test_logs_are_removed_a_few_at_a_time_and_others_have_their_turn[sqlite]",
        "all that has expired is removed in one turn",
    ),
    Protection(
        "L22",
        "logs are removed in small batches",
        "server/hodei_server/logs/retention.py",
        "        found = await self._database.read(lambda tx: expired_jobs(tx, EXPIRE_BATCH))\n",
        "        found = await self._database.read(lambda tx: expired_jobs(tx, 50 * EXPIRE_BATCH))\n",
        "tests/integration/db/test_sealing.py::test_logs_are_removed_a_few_at_a_time_and_others_have_their_turn[sqlite]",
        "one transaction takes all that has expired",
    ),
    Protection(
        "L22",
        "the bucket's listing is read a turn at a time, and gone on with",
        "server/hodei_server/loops/sweep.py",
        "            self._after = page[-1].name\n",
        '            self._after = ""\n',
        f"{SWEEP}::test_a_turn_goes_on_where_the_last_one_ended",
        "what stands behind the first page is never looked at",
        needs="AWS_ENDPOINT_URL",
    ),
)
