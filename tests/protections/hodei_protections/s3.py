"""Protections of logs in S3; their tests need an S3 server."""

from __future__ import annotations

import functools

from hodei_protections.protection import Protection

UPLOADS = "logstore/hodei_logstore/s3/uploads.py"
BUCKET = "logstore/hodei_logstore/s3/bucket.py"
ERRORS = "logstore/hodei_logstore/s3/errors.py"
ARCHIVER = "server/hodei_server/loops/archive.py"
TESTS = "tests/integration/s3"
STORES = f"{TESTS}/test_store.py"
OUTAGES = f"{TESTS}/test_faults.py::test_jobs_go_on_while_s3_fails_and_it_catches_up"
OUTCOMES = f"{TESTS}/test_outcomes.py"

_Protection = functools.partial(Protection, needs="AWS_ENDPOINT_URL")

S3: tuple[Protection, ...] = (
    _Protection(
        "L17",
        "the last words of a worker that never came are in its job's log, wherever that is kept",
        "server/hodei_server/work/attempts.py",
        "            details = await self._fleet.diagnose(live.worker_id, live.provider)\n",
        "            details = ()\n",
        f"{OUTCOMES}::test_the_last_words_of_a_worker_that_never_came_are_archived_too",
        "the log in the bucket does not say why",
    ),
    _Protection(
        "L19",
        "what a job leaves goes to the bucket, whatever became of the job",
        "server/hodei_server/db/attempts.py",
        "    if log.open_segment is not None:\n        close_segment(tx, log.open_segment)",
        "    if log.open_segment is not None and state is JobState.SUCCEEDED:\n"
        "        close_segment(tx, log.open_segment)",
        f"{TESTS}/test_server.py::test_logs_go_to_the_bucket_whatever_became_of_their_jobs",
        "the logs of jobs that failed stay on the disk for ever",
    ),
    _Protection(
        "L20",
        "the disk's copy stays until S3 has reported the same size and checksum",
        UPLOADS,
        "        if reported is None or not self._same(name, reported, wanted):\n",
        "        if reported is None and wanted is None:\n",
        f"{STORES}::test_the_local_copy_stays_until_the_store_has_reported_size_and_checksum[another checksum]",
        "an object with another checksum counts as archived",
    ),
    _Protection(
        "L20",
        "where S3 reports no checksum the object is read back",
        UPLOADS,
        "        return (reported if reported.crc is not None else self._bucket.read_back(name)) == wanted\n",
        "        return reported.crc is None or reported == wanted\n",
        f"{STORES}::test_the_local_copy_stays_until_the_store_has_reported_size_and_checksum[nothing]",
        "other bytes of the same size count as archived",
    ),
    _Protection(
        "L20",
        "what is damaged on the disk does not go to the bucket",
        "logstore/hodei_logstore/sealed.py",
        "        if frame.offset != end or zlib.crc32(data) != frame.crc:\n",
        "        if frame.offset != end:\n",
        f"{STORES}::test_what_is_damaged_on_the_disk_is_not_archived",
        "the damaged segment is archived, and the disk's copy may go",
    ),
    _Protection(
        "L20",
        "an object that holds another segment of the same name is never replaced",
        UPLOADS,
        "            self._must_not_lose(index.info)\n",
        "",
        f"{STORES}::test_another_segment_of_the_same_name_is_never_replaced",
        "the other segment is gone",
    ),
    _Protection(
        "L20",
        "a bit that was flipped in the bucket is told, not served",
        "logstore/hodei_logstore/sealed.py",
        "    data = pread(frame.offset, frame.length)\n    if zlib.crc32(data) != frame.crc:\n",
        "    data = pread(frame.offset, frame.length)\n    if not data:\n",
        f"{STORES}::test_a_flipped_bit_in_the_bucket_is_told_not_served",
        "other bytes are served, or the decompressor's words",
    ),
    _Protection(
        "L20",
        "who is killed between two steps of a move does the last one again",
        ARCHIVER,
        "        moved = [each for each in waiting if each.place is not Place.DISK] + stored\n",
        "        moved = stored\n",
        f"{TESTS}/test_server.py::test_a_server_that_dies_while_it_moves_a_log_loses_and_doubles_nothing[note]",
        "what was noted before the server died stays on the disk for ever",
    ),
    _Protection(
        "L20",
        "that S3 fails is visible in health checks",
        ARCHIVER,
        "            await self._told(False)  # noqa: FBT003 - the shape of what is told\n",
        "            pass\n",
        f"{OUTAGES}[503-SlowDown]",
        "health checks say that all is well",
    ),
    _Protection(
        "L20",
        "credentials that were refused are read again",
        ARCHIVER,
        "            await archiver.reconnect()\n",
        "",
        f"{OUTAGES}[wrong secret-refuses the credentials]",
        "the wrong ones are used for ever",
    ),
    _Protection(
        "L20",
        "clocks that are apart are told as that",
        ERRORS,
        '        if code == "RequestTimeTooSkewed":\n',
        "        if not code:\n",
        f"{OUTAGES}[skewed clock-clock]",
        "nobody can tell what to set",
    ),
    _Protection(
        "L20",
        "a bucket that is gone is told as that, and not as a segment that is",
        ERRORS,
        '        if code == "NoSuchBucket":\n',
        "        if not code:\n",
        f"{OUTAGES}[no bucket-there is no bucket]",
        "nobody can tell what to make",
    ),
    _Protection(
        "L20",
        "S3 that does not answer is given up after a while",
        BUCKET,
        "            read_timeout=config.read_timeout,\n",
        "            read_timeout=None,\n",
        f"{TESTS}/test_settings.py::test_an_answer_that_does_not_come_is_given_up",
        "the call waits for ever, and nobody is told",
    ),
    _Protection(
        "L20",
        "uploads that were begun by a server that died are removed",
        BUCKET,
        "            for left in self.unfinished(name):\n                self.abort(left)\n",
        "",
        f"{STORES}::test_a_large_segment_goes_in_parts_and_its_middle_is_read_without_the_rest",
        "the parts stay in the bucket, and cost",
    ),
    _Protection(
        "L20",
        "for a place in a log no more is fetched than its index tells",
        "logstore/hodei_logstore/s3/remote.py",
        "    while end < len(index.frames) and raw < wanted:\n",
        "    while end < len(index.frames):\n",
        f"{STORES}::test_a_large_segment_goes_in_parts_and_its_middle_is_read_without_the_rest",
        "the rest of the segment is fetched, too",
    ),
    _Protection(
        "L20",
        "what is read whole is fetched once",
        "logstore/hodei_logstore/s3/remote.py",
        "            if known is None or known.future is None:\n",
        "            if known is None or known.wanted:\n",
        f"{TESTS}/test_large_log.py::test_a_large_log_is_read_in_places_without_the_rest_verified_and_read_whole_once",
        "parts of it are fetched several times",
    ),
    _Protection(
        "L21",
        "a log leaves the bucket by its job's recorded end",
        "server/hodei_server/db/retention.py",
        "where(jobs.c.logs_expire_at <= tx.now)",
        "where(jobs.c.logs_expire_at.is_not(None))",
        f"{OUTCOMES}::test_how_old_an_object_is_says_nothing_about_its_log",
        "it goes before its time",
    ),
    _Protection(
        "L22",
        "a running job's log stays in the bucket while others go",
        "server/hodei_server/db/attempts.py",
        '            "started_at": None,\n',
        '            "started_at": None,\n            "logs_expire_at": tx.now,\n',
        f"{TESTS}/test_server.py::test_what_has_expired_leaves_the_disk_the_bucket_and_the_database",
        "the running job's log is gone",
    ),
)
