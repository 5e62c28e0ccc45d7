"""Protections of processes: what a job is given, what it can't reach, and that nothing of it is left."""

from __future__ import annotations

from hodei_protections.protection import Protection

WORKER = "tests/integration/worker/test_worker.py"
JOBS = "tests/integration/server/test_jobs.py"

PROCESSES: tuple[Protection, ...] = (
    Protection(
        "W17",
        "cancel and timeout reach all that a job has started: TERM, grace, KILL, until nothing is left",
        "worker/hodei_worker/process.py",
        "        for pid in descendants():\n"
        "            with contextlib.suppress(ProcessLookupError, PermissionError):\n"
        "                os.kill(pid, signal.SIGKILL)\n",
        "",
        f"{WORKER}::test_what_a_job_has_left_behind_in_a_session_of_its_own_ends_with_it",
        "a child in a session of its own survives",
    ),
    Protection(
        "W17",
        "a worker that is removed takes all that it has started with it",
        "providers/hodei_providers/process/procfs.py",
        "    waiting += [process for process in everyone.values() if carries(process.pid, mark)]\n",
        "",
        "tests/integration/providers/test_process.py::test_destroying_ends_all_that_the_worker_has_started",
        "an orphan in a session of its own survives",
    ),
    Protection(
        "W18",
        "orphans are reaped while the job runs",
        "worker/hodei_worker/agent.py",
        "            self._attempt.reap()\n",
        "            return\n",
        f"{WORKER}::test_orphans_of_a_job_are_reaped_while_it_runs",
        "the orphan stays a zombie, and the job waits for it in vain",
    ),
    Protection(
        "W18",
        "a background child that keeps a pipe open holds the job's end up for a bounded time only",
        "worker/hodei_worker/output.py",
        "            if left <= 0:\n                return False\n",
        "",
        f"{WORKER}::test_a_background_child_can_not_hold_the_job",
        "the job never ends",
    ),
    Protection(
        "W18",
        "a worker that ends before its launch was written down has ended, and how is told",
        "providers/hodei_providers/process/workers.py",
        "        start = 0 if process is None else process.start\n",
        "        if process is None:\n            return process\n        start = process.start\n",
        "tests/integration/providers/test_forked.py"
        "::test_a_worker_that_ends_before_its_launch_does_is_told_as_one_that_has_ended",
        "the worker is one whose launch was never finished",
    ),
    Protection(
        "W23",
        "gRPC keeps out of the forks that start workers and jobs",
        "server/hodei_server/app.py",
        'os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"\n',
        "",
        "tests/unit/test_transport.py::test_grpc_keeps_out_of_forks_whatever_the_environment_says",
        "an environment that asks for fork support gets it",
    ),
    Protection(
        "W23",
        "nothing of gRPC runs where workers are forked",
        "worker/hodei_worker/fork_server.py",
        "    preload()\n",
        "    preload()\n"
        "    import asyncio, threading\n"
        "    from grpc import aio\n"
        "    async def call() -> None:\n"
        "        while True:\n"
        "            try:\n"
        '                await aio.insecure_channel("127.0.0.1:9").unary_unary("/a/b")(b"")\n'
        "            except aio.AioRpcError:\n"
        "                await asyncio.sleep(0.001)\n"
        "    threading.Thread(target=lambda: asyncio.run(call()), daemon=True).start()\n",
        "tests/integration/server/test_pressure.py::test_workers_start_while_many_calls_are_under_way",
        "workers hang or end, and their jobs fail",
    ),
    Protection(
        "W24",
        "a job sees none of the worker's environment",
        "worker/hodei_worker/settings.py",
        "        found = {name: environment[name] for name in INHERITED if name in environment}\n",
        "        found = dict(environment)\n",
        f"{WORKER}::test_the_job_sees_none_of_the_worker_s_secrets",
        "the job's environment names the worker's folder and server",
    ),
    Protection(
        "W24",
        "the worker is not dumpable: a job of the same user can't read it",
        "worker/hodei_worker/process.py",
        "    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)\n",
        "",
        f"{WORKER}::test_a_job_of_the_same_user_can_not_read_the_worker",
        "the job reads the worker's environment and memory",
    ),
    Protection(
        "W24",
        "a one-time token is burnt by its first use",
        "server/hodei_server/db/workers.py",
        '    if row["session_hash"] is not None and (row["nonce_hash"] != nonce_hash or row["hello_at"] is not None):\n'
        '        return "the one-time token was used before"\n',
        "",
        "tests/integration/db/test_workers.py::test_a_one_time_token_is_burnt_once",
        "whoever has read the token gets a session of his own",
    ),
    Protection(
        "W39",
        "standard input is closed unless it is given",
        "worker/hodei_worker/attempt.py",
        "        stdin = subprocess.DEVNULL\n",
        "        stdin = os.pipe2(os.O_CLOEXEC)[0]\n",
        f"{WORKER}::test_stdin_is_closed_unless_given",
        "`cat` waits for ever",
    ),
    Protection(
        "W41",
        "arguments stay what they are: no shell in between",
        "worker/hodei_worker/attempt.py",
        "        argv = list(spec.argv)\n",
        '        argv = ["/bin/sh", "-c", " ".join(spec.argv)]\n',
        f"{JOBS}::test_arguments_and_stdin_arrive_as_they_were_given",
        "a shell takes the arguments apart",
    ),
)
