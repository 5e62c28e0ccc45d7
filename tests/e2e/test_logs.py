"""`hodei logs` beyond printing one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

SPEAKS = "echo first; sleep 0.4; echo ERROR second; echo 'error third' >&2; sleep 0.4; echo fourth"


def test_lines_are_searched_for(cli: Any) -> None:
    """--grep with its relatives; each stream where it belongs."""
    job = cli.run("submit", "--", "sh", "-c", SPEAKS, check=0).stdout.decode().strip()
    cli.run("wait", job, check=0)
    done = cli.run("logs", "--grep", "ERR.R", job, check=0)
    assert (done.stdout, done.stderr) == (b"ERROR second\n", b"")
    done = cli.run("logs", "-i", "-g", "^error", job, check=0)
    assert (done.stdout, done.stderr) == (b"ERROR second\n", b"error third\n")
    assert cli.run("logs", "-F", "-g", "ERR.R", job, check=0).stdout == b""
    assert cli.run("logs", "--tail", "1", "-g", "ERROR", job, check=0).stdout == b""
    refused = cli.run("logs", "-g", "a(", job, check=125)
    assert b"pattern" in refused.stderr
    assert b"--grep" in cli.run("logs", "-i", job, check=2).stderr


def test_a_log_is_read_between_two_times(cli: Any) -> None:
    """--since and --until, with --grep and without."""
    job = cli.run("submit", "--", "sh", "-c", SPEAKS, check=0).stdout.decode().strip()
    cli.run("wait", job, check=0)
    assert cli.run("logs", "--until", "2020-01-31T12:00:00Z", job, check=0).stdout == b""
    assert cli.run("logs", "--since", "1h", "--until", "0s", job, check=0).stdout == b"first\nERROR second\nfourth\n"
    assert cli.run("logs", "--until", "0s", "-g", "f", job, check=0).stdout == b"first\nfourth\n"
    assert b"--until" in cli.run("logs", "-f", "--until", "1m", job, check=2).stderr


def test_a_damaged_log_is_named(cli: Any) -> None:
    """`logs verify` ends with 1 and says which segment; a sound one is none of that."""
    job = cli.run("submit", "--", "seq", "30000", check=0).stdout.decode().strip()
    cli.run("wait", job, check=0)
    logs = Path(cli.environment["HODEI_DATA_DIR"]) / "logs"
    deadline = time.monotonic() + 60
    while not (paths := list(logs.rglob("*.sealed"))) or list(logs.rglob("*.open")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sound = cli.run("logs", "verify", job, check=0)
    assert b" ok" in sound.stdout
    assert sound.stderr == b"1 logs read, 0 are not what their receipts say\n"
    data = bytearray(paths[0].read_bytes())
    data[len(data) // 2] ^= 1
    paths[0].write_bytes(data)
    found = json.loads(cli.run("logs", "verify", "--all", "-o", "json", check=1).stdout)
    assert [segment["verdict"] for log in found for segment in log["segments"]] == ["LOG_VERDICT_CORRUPT"]
    assert cli.run("logs", "verify", check=2).stdout == b""
    helped = cli.run("logs", "--help", check=0).stdout
    assert b"--grep" in helped
    assert b"verify" in helped
