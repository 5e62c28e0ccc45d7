"""The server is killed while a job runs."""

from __future__ import annotations

import json
import signal
from typing import Any

PATIENCE = 60


def test_a_killed_server_costs_neither_the_job_nor_a_line_of_its_log(cli: Any) -> None:
    """W14, W26, L28: the worker goes on, comes back, and the follow that was open goes on with it."""
    script = (
        "echo run >> marks; for i in 1 2 3; do echo line $i; done; echo ready > ready; "
        "while [ ! -e go ]; do sleep 0.05; done; for i in 4 5 6; do echo line $i; done; exit 8"
    )
    job = cli.run("submit", "--workdir", str(cli.folder), "--", "sh", "-c", script, check=0).stdout.decode().strip()
    cli.wait_for("ready")
    following = cli.start("logs", "-f", job)
    assert following.stdout.readline() == b"line 1\n"
    cli.end_server(signal.SIGKILL)
    (cli.folder / "go").write_text("now")
    cli.start_server()
    assert cli.run("wait", job).returncode == 8
    assert following.stdout.read() == b"".join(b"line %d\n" % n for n in range(2, 7))
    assert following.wait(PATIENCE) == 0
    following.communicate()
    assert cli.run("logs", job, check=0).stdout == b"".join(b"line %d\n" % n for n in range(1, 7))
    assert json.loads(cli.run("logs", "--receipt", job, check=0).stdout)["complete"]
    assert (cli.folder / "marks").read_text() == "run\n"


def test_a_server_that_is_asked_to_end_leaves_its_jobs_running(cli: Any) -> None:
    """W26: a deploy of the server kills nothing."""
    script = "echo ready > ready; while [ ! -e go ]; do sleep 0.05; done; echo done"
    job = cli.run("submit", "--workdir", str(cli.folder), "--", "sh", "-c", script, check=0).stdout.decode().strip()
    cli.wait_for("ready")
    assert cli.end_server() == 0
    cli.start_server()
    (cli.folder / "go").write_text("now")
    cli.run("wait", job, check=0)
    assert cli.run("logs", job, check=0).stdout == b"done\n"
