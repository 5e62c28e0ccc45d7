"""One attempt on a worker: its process, its clock, its log, its result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from hodei.checksum import decode_checksum, encode_checksum
from hodei.clock import steady_time_ns
from hodei.v1 import log_pb2 as log_wire
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2 as wire
from hodei_worker.leavings import Leavings
from hodei_worker.oom import OomCounter, own_counter_file
from hodei_worker.outbox import Outbox, Spool
from hodei_worker.output import Output, open_pipe
from hodei_worker.process import ExecError, JobProcess, feed
from hodei_worker.redaction import Redaction
from hodei_worker.secret_files import SecretFiles
from hodei_worker.settings import WorkerSettings

_log = logging.getLogger("hodei.worker")

DEFAULT_GRACE = 10.0
#: What a job says first waits for so long for what comes next.
HOLD_SECONDS = 0.005


class Attempt:
    """Runs one attempt.

    :param leavings: removes what the job leaves on disk.
    :param changed: called when there is something to send.
    :param offset: nanoseconds between this clock and the server's.
    :ivar started: what to tell the server of the process's start.
    :ivar result: what to tell it of the end, once there is one.
    """

    def __init__(
        self,
        run: wire.RunAttempt,
        settings: WorkerSettings,
        leavings: Leavings,
        *,
        changed: Callable[[], None],
        offset: Callable[[], int],
    ) -> None:
        self.uid = run.attempt_uid
        self.epoch = run.epoch
        self.job_id = run.job_id
        trace_id = run.traceparent.split("-")[1] if run.traceparent.count("-") == 3 else ""
        #: What stands in every log line about the attempt.
        self.names = {"job_id": run.job_id, "attempt_uid": run.attempt_uid, "trace_id": trace_id}
        self.started: wire.AttemptStarted | None = None
        self.result: wire.AttemptResult | None = None
        self.abandoned = False
        self._run = run
        self._settings = settings
        self._leavings = leavings
        self._changed = changed
        self._scratch = settings.directory / f"scratch-{run.attempt_uid}"
        self.outbox = Outbox(
            run.first_sequence,
            Spool(settings.directory / f"spool-{run.attempt_uid}", settings.spool_limit),
            memory_limit=settings.log_memory,
            checksum=decode_checksum(run.log_checksum) if run.log_checksum else 0,
        )
        values = [secret.value for secret in run.secrets]
        self.output = Output(self.outbox, changed, offset, Redaction(values) if values else None)
        self._secret_files = SecretFiles(run, settings)
        self._offset = offset
        self._process: JobProcess | None = None
        self._stop_cause: types_wire.Cause.ValueType | None = None
        self._stop_sent = False
        self._started_at = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    async def run(self) -> None:
        """Run the attempt to its end; `result` is set then, unless it was abandoned."""
        oom = OomCounter(own_counter_file())
        error: ExecError | None = None
        left_open = False
        try:
            try:
                self._start()
            except ExecError as failure:
                error = failure
            else:
                left_open = await self._wait()
        except OSError as failure:
            error = ExecError(f"the worker can't prepare the job: {failure}", 126)
        finally:
            for timer in self._timers:
                timer.cancel()
            self.output.close()
            self._secret_files.remove()
            await self._leavings.remove(self._scratch)
        if error is not None and self._stop_cause is None:
            self.output.say(f"hodei: {error}")
        self.result = self._make_result(error, left_open=left_open, oom=oom.grown())
        self._changed()

    def _start(self) -> None:
        if self._stop_cause is not None:
            raise ExecError("stopped before it was started", 126)
        spec = self._run.spec
        self._scratch.mkdir(parents=True, mode=0o700)
        self._secret_files.write()
        argv = list(spec.argv)
        if spec.HasField("script"):
            script = self._scratch / ".hodei-script"
            script.write_bytes(spec.script.text.encode())  # whatever the locale
            script.chmod(0o700)
            argv = [*(spec.script.interpreter or ["/bin/sh"]), str(script)]
        feeding: int | None = None
        stdin = subprocess.DEVNULL
        if spec.HasField("stdin"):
            stdin, feeding = os.pipe2(os.O_CLOEXEC)
        pipes = [open_pipe(), open_pipe()]
        try:
            self._process = JobProcess(
                argv,
                environment=self._environment(),
                directory=self._directory(),
                descriptors=(stdin, pipes[0][1], pipes[1][1]),
            )
        except ExecError:
            for reading, _ in pipes:
                os.close(reading)
            if feeding is not None:
                os.close(feeding)
            raise
        finally:
            for _, writing in pipes:
                os.close(writing)
            if feeding is not None:
                os.close(stdin)
        self._started_at = time.monotonic()
        self.output.follow(pipes[0][0], log_wire.LOG_STREAM_STDOUT)
        self.output.follow(pipes[1][0], log_wire.LOG_STREAM_STDERR)
        if feeding is not None:
            feed(feeding, spec.stdin)
        if spec.HasField("run_timeout"):
            seconds = spec.run_timeout.ToTimedelta().total_seconds()
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(seconds, self.stop, types_wire.CAUSE_RUN_TIMEOUT, self._grace()))
        self.started = wire.AttemptStarted(
            attempt_uid=self.uid,
            epoch=self.epoch,
            pid=self._process.pid,
            time_unix_nanos=steady_time_ns() + self._offset(),
        )
        _log.info("job started", extra={**self.names, "pid": self._process.pid})
        self._changed()

    def _directory(self) -> Path:
        if self._run.spec.working_directory:
            return Path(self._run.spec.working_directory)
        return self._settings.job_directory or self._scratch

    @property
    def held_back(self) -> float:
        """Seconds for which nothing of the attempt is sent: a job that ends at once is told of in one message."""
        if self._process is None or self.result is not None:
            return 0.0
        return max(0.0, self._started_at + HOLD_SECONDS - time.monotonic())

    def _environment(self) -> dict[str, str]:
        run = self._run
        secrets = {secret.variable: os.fsdecode(secret.value) for secret in run.secrets if secret.HasField("variable")}
        given = {**self._settings.job_environment, **run.spec.environment, **secrets, **self._secret_files.environment}
        return given | {
            "HODEI_JOB_ID": run.job_id,
            "HODEI_ATTEMPT": str(run.attempt_number),
            "HODEI_ATTEMPT_UID": run.attempt_uid,
            "HODEI_WORKER_ID": self._settings.worker_id,
            "TRACEPARENT": run.traceparent,
        }

    def _grace(self) -> float:
        spec = self._run.spec
        return spec.cancel_grace.ToTimedelta().total_seconds() if spec.HasField("cancel_grace") else DEFAULT_GRACE

    async def _wait(self) -> bool:
        """Wait for the leader's end, read the rest of its output, and leave nothing of it running."""
        process = self._process
        assert process is not None  # noqa: S101 - it was started
        await process.ended.wait()
        whole = await self.output.drain(self._settings.drain_timeout)
        await process.kill_rest()
        await self.output.take_rest()
        return not whole

    def stop(self, cause: types_wire.Cause.ValueType, grace: float) -> None:
        """End the process: SIGTERM to its group, SIGKILL to all of it after the grace. A later call may only be harder.

        :param grace: seconds; 0 kills at once.
        """
        process = self._process
        if process is None:
            self._stop_cause = self._stop_cause or cause
            return
        if self.result is not None:
            return
        if process.exited:
            # It ended by itself, and keeps its own outcome. What it has left behind may have to go now.
            if grace <= 0 and process.reap_orphans():
                process.kill()
            return
        self._stop_cause = self._stop_cause or cause
        if grace <= 0:
            process.kill()
            return
        if not self._stop_sent:
            self._stop_sent = True
            process.terminate()
        self._timers.append(asyncio.get_running_loop().call_later(grace, self._kill))

    def _kill(self) -> None:
        if self._process is not None and self.result is None:
            self._process.kill()

    def _make_result(self, error: ExecError | None, *, left_open: bool, oom: bool) -> wire.AttemptResult:
        result = wire.AttemptResult(
            attempt_uid=self.uid,
            epoch=self.epoch,
            next_sequence=self.outbox.next_sequence,
            log_bytes=self.outbox.size,
            log_checksum=encode_checksum(self.outbox.checksum),
            time_unix_nanos=steady_time_ns() + self._offset(),
            output_left_open=left_open,
        )
        process = self._process
        if process is not None:
            if process.exit_code is not None:
                result.exit_code = process.exit_code
            if process.signal is not None:
                result.signal = process.signal
            result.peak_memory_bytes = process.usage.peak_memory
            result.cpu_time.FromMicroseconds(round(process.usage.cpu_seconds * 1e6))
        if self._stop_cause is not None:
            result.cause = self._stop_cause
            result.message = {
                types_wire.CAUSE_CANCELLED: "Cancelled",
                types_wire.CAUSE_RUN_TIMEOUT: "Ran longer than its run timeout",
                types_wire.CAUSE_EVICTED: "The worker was asked to end, and its job with it",
                types_wire.CAUSE_WORKER_LOST: "The worker had no server for too long and ended the job",
            }.get(self._stop_cause, "")
        elif error is not None:
            result.cause, result.exit_code, result.message = (
                types_wire.CAUSE_EXEC_FAILED,
                error.exit_code,
                self.output.redact(str(error)),
            )
        elif oom and not (result.HasField("exit_code") and result.exit_code == 0):
            result.cause, result.message = types_wire.CAUSE_OUT_OF_MEMORY, "Out of memory"
        elif result.HasField("signal"):
            result.cause = types_wire.CAUSE_SIGNAL
        else:
            result.cause = types_wire.CAUSE_EXIT_CODE
        return result

    def reap(self) -> None:
        """Reap what the job has left behind."""
        if self._process is not None:
            self._process.reap_orphans()

    def abandon(self) -> None:
        """The attempt is not this worker's any more: kill it and keep nothing."""
        self.abandoned = True
        if self._process is not None and self.result is None:
            self._process.kill()
            self.output.close()  # nobody takes what is still to be read: it would wait for room without end

    def forget(self) -> None:
        """Remove what is kept of it."""
        with contextlib.suppress(OSError):
            self.outbox.close()
