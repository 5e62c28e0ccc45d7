"""`hodei run`: submit, follow, exit with the job's code."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import click

from hodei.quantities import format_duration
from hodei.v1 import types_pb2 as wire
from hodei_cli.display import exit_code_of, plain, state_name, use_colour
from hodei_cli.log_output import LogOutput, copy_log
from hodei_cli.session import make_client
from hodei_cli.spec_options import JobCommand, build_spec, spec_options
from hodei_client.client import Client
from hodei_client.errors import NotFoundError
from hodei_client.logs import LogEvent, LogPlace

#: Seconds that a first Ctrl-C waits for a second one.
SECOND_CTRL_C_SECONDS = 2.0
#: Seconds between refreshes of the status line.
STATUS_SECONDS = 0.2


class StatusLine:
    """One line on a terminal's standard error that tells where the job is; gone while there is output."""

    def __init__(self, output: LogOutput, *, wanted: bool) -> None:
        self._output = output
        self._wanted = wanted and sys.stderr.isatty()
        self._shown = False
        self._began = time.monotonic()
        self.state = "submitting"
        self.wrote_at = 0.0

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False

    async def keep(self) -> None:
        """Show the line whenever the log is quiet."""
        while self._wanted:
            await asyncio.sleep(STATUS_SECONDS)
            # Neither amid output nor over the beginning of a line, such as a progress bar's or a question's.
            if time.monotonic() - self.wrote_at < 2 * STATUS_SECONDS or self._output.in_line:
                continue
            text = f"hodei: {plain(self.state)}, {format_duration(round(time.monotonic() - self._began))}"
            # A line that wraps could not be taken away again.
            text = text[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write("\r\x1b[K" + (click.style(text, dim=True) if use_colour(sys.stderr) else text))
            sys.stderr.flush()
            self._shown = True


class Run:
    """One job from its submission to its end, as one terminal sees it."""

    def __init__(self, client: Client, spec: wire.JobSpec, options: dict[str, Any], *, local: bool) -> None:
        self._client = client
        self._spec = spec
        self._options = options
        self._local = local
        self._job_id = ""
        self._interrupts = 0
        self._interrupted = asyncio.Event()
        self._output = LogOutput(raw=options["raw"], system=not options["quiet"])
        self._status = StatusLine(self._output, wanted=not options["quiet"])

    async def run(self) -> int:
        """Return the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._interrupt)
        status = asyncio.create_task(self._status.keep())
        try:
            self._job_id = await self._client.submit(self._spec, request_id=self._options["request_id"])
            self._say(f"job {self._job_id}")
            work = asyncio.create_task(self._follow())
            return await self._until_done(work)
        finally:
            status.cancel()
            self._status.clear()

    async def _until_done(self, work: asyncio.Task[int]) -> int:
        cancel_at = 1 if self._local or self._options["cancel_on_interrupt"] else 2
        while not work.done():
            await self._next_interrupt(work, None)
            if not self._interrupted.is_set():
                continue
            self._interrupted.clear()
            if self._interrupts >= cancel_at:
                force = self._interrupts > cancel_at
                self._say("killing it" if force else "cancelling")
                await self._client.cancel(self._job_id, force=force, reason="interrupted")
                continue
            self._say(
                f"the job goes on. Follow: hodei logs -f {self._job_id}   Cancel: hodei cancel {self._job_id} "
                "(or Ctrl-C again)"
            )
            await self._next_interrupt(work, SECOND_CTRL_C_SECONDS)
            if not work.done() and not self._interrupted.is_set():
                work.cancel()
                await asyncio.wait({work})
                return 130
        return work.result()

    async def _next_interrupt(self, work: asyncio.Task[int], seconds: float | None) -> None:
        """Wait for Ctrl-C, for the job's end, or for so long."""
        interrupted = asyncio.create_task(self._interrupted.wait())
        await asyncio.wait({work, interrupted}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()

    def _interrupt(self) -> None:
        self._interrupts += 1
        self._interrupted.set()

    async def _follow(self) -> int:
        states = asyncio.create_task(self._watch())
        try:
            # A job that ends before its first attempt has no log.
            with contextlib.suppress(NotFoundError):
                await copy_log(self._shown(), self._output)
            # The state is final only now and then; the log alone says nothing of it (W30).
            outcome = await states
        finally:
            states.cancel()
        if outcome.state != wire.JOB_STATE_SUCCEEDED:
            self._say(f"{state_name(outcome.state)}: {plain(outcome.message)}")
        return exit_code_of(outcome)

    async def _shown(self) -> AsyncIterator[LogEvent]:
        async for event in self._client.logs(self._job_id, place=LogPlace(attempt=1)):
            self._status.clear()
            self._status.wrote_at = time.monotonic()
            yield event

    async def _watch(self) -> wire.Outcome:
        async for response in self._client.watch(self._job_id):
            state, reason = state_name(response.event.state), response.event.reason
            self._status.state = state if reason.lower() == state else f"{state} ({reason})"
            if response.HasField("outcome"):
                return response.outcome
        return (await self._client.get(self._job_id)).outcome

    def _say(self, text: str) -> None:
        if not self._options["quiet"]:
            self._status.clear()
            self._output.note(f"hodei: {text}")


@click.command(
    "run", cls=JobCommand, context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False}
)
@spec_options
@click.option("--local", is_flag=True, help="With no server: run one inside this command, for this job alone.")
@click.option("--cancel-on-interrupt", is_flag=True, help="The first Ctrl-C cancels the job.")
@click.option("--raw", is_flag=True, help="Let all escape sequences reach the terminal, not colours alone.")
@click.option("--quiet", "-q", is_flag=True, help="Write nothing to stderr but the job's own.")
@click.pass_context
def run_command(ctx: click.Context, /, *, local: bool, **options: Any) -> int:
    """Submit a job, follow its log, and exit with its code.

    hodei run --workdir "$PWD" -- python train.py

    No file of this place goes along but --script, --stdin and secrets: the job sees those of its image, or of its
    worker's machine.

    Ctrl-C leaves the job running and says how to follow it again; a second one cancels it.
    """
    spec = build_spec(options)
    return asyncio.run(_run(ctx, spec, options, local=local))


async def _run(ctx: click.Context, /, spec: wire.JobSpec, options: dict[str, Any], *, local: bool) -> int:
    async with contextlib.AsyncExitStack() as stack:
        address = ""
        if local:
            from hodei_server.running import embedded  # noqa: PLC0415 - only where it is asked for

            server = await stack.enter_async_context(embedded())
            address = str(server.address)
        client = await stack.enter_async_context(make_client(ctx, address))
        return await Run(client, spec, options, local=local).run()
