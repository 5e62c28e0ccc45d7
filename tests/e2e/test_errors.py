"""Mistakes get one line that says what to do."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list"], 125, b"no server at"),
        (["run", "--", "true"], 125, b"no server at"),
        (["lst"], 2, b"Did you mean 'list'?"),
        (["list", "--state", "runing"], 2, b"did you mean running?"),
        (["list", "--bogus"], 2, b"--bogus"),
        (["run", "--bogus"], 125, b"--bogus"),
        (["submit", "--cpu"], 2, b"see 'hodei submit --help'"),
        (["run"], 125, b"say what to run"),
        (["submit", "--timeout", "5 parsecs", "--", "true"], 2, b"write 90s"),
        (["submit", "--memory", "lots", "--", "true"], 2, b"write 512Mi"),
        (["submit", "-f", "missing.yaml"], 2, b"missing.yaml"),
        (["--server", "ftp://x", "list"], 125, b"http://"),
        (["--server", "https://127.0.0.1:1", "--tls-ca", "/no/such", "list"], 125, b"/no/such"),
        (["logs", "x", "--since", "whenever"], 2, b"write 10m"),
        (["logs", "x", "--tail", "-1"], 2, b"see 'hodei logs --help'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(offline: Any, arguments: list[str], code: int, words: bytes) -> None:
    """On stderr, with nothing on stdout."""
    done = offline.run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


def test_a_job_that_is_not_there_is_told(cli: Any) -> None:
    """L25: by every command that names one."""
    for command in ("get", "logs", "wait", "cancel", "explain", "retry", "watch"):
        done = cli.run(command, "jnothing")
        assert done.returncode == 125
        assert b"there is no job jnothing" in done.stderr


def test_a_wrong_setting_keeps_the_server_from_starting(offline: Any) -> None:
    """Named, one line each, before anything is touched."""
    offline.environment |= {"HODEI_LEASE": "soon", "HODEI_DURABILITY": "mostly"}
    done = offline.run("server", check=2)
    assert b"HODEI_LEASE" in done.stderr
    assert b"HODEI_DURABILITY" in done.stderr
    assert not (offline.folder / "data").exists()


def test_plain_text_never_leaves_this_machine_by_accident(offline: Any) -> None:
    """A listener that others reach wants TLS or a setting that says otherwise."""
    offline.environment["HODEI_LISTEN"] = "0.0.0.0:0"
    done = offline.run("server", check=2)
    assert b"HODEI_LISTEN" in done.stderr
    done = offline.run("--server", "192.0.2.1:50051", "list", check=125)
    assert b"HODEI_ALLOW_PLAINTEXT" in done.stderr
    offline.environment["HODEI_ALLOW_PLAINTEXT"] = "maybe"
    done = offline.run("list", check=125)
    assert b"HODEI_ALLOW_PLAINTEXT: expected true or false, not 'maybe'" in done.stderr


def test_a_second_server_on_one_folder_says_who_has_it(cli: Any) -> None:
    """It refuses and changes nothing."""
    cli.environment |= {"HODEI_LISTEN": "127.0.0.1:0", "HODEI_WORKER_LISTEN": "127.0.0.1:0"}
    done = cli.run("server", check=2)
    assert f"process {cli.server.pid}".encode() in done.stderr


def test_the_database_is_upgraded_by_name(offline: Any) -> None:
    """`db current` names what is there, `db upgrade` brings the newest."""
    assert b"run 'hodei db upgrade'" in offline.run("db", "current", check=0).stderr
    newest = offline.run("db", "upgrade", check=0).stdout
    done = offline.run("db", "current", check=0)
    assert (done.stdout, done.stderr) == (newest, b"")


def test_a_database_of_a_newer_hodei_is_told_in_one_line_by_every_command(offline: Any) -> None:
    """None says to upgrade, which would not help."""
    offline.run("db", "upgrade", check=0)
    database = sqlite3.connect(offline.folder / "data" / "hodei.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()
    for code, *command in ((2, "server"), (125, "db", "upgrade"), (0, "db", "current"), (125, "db", "confirm-clock")):
        told = offline.run(*command, check=code).stderr.decode()
        assert "schema 9999" in told
        assert "newer Hodei" in told
        assert len(told.splitlines()) == 1


def test_a_clock_is_confirmed_once_the_database_is_the_newest(offline: Any) -> None:
    """It says what to do, and by how much the clock was moved."""
    assert b"run 'hodei db upgrade'" in offline.run("db", "confirm-clock", check=125).stderr
    offline.run("db", "upgrade", check=0)
    assert offline.run("db", "confirm-clock", check=0).stdout == b"The clock was not moved.\n"


def test_settings_are_shown_and_completion_is_printed(offline: Any) -> None:
    """Both without a server."""
    assert b"HODEI_DATA_DIR=" in offline.run("config", "show", check=0).stdout
    offline.environment["HODEI_LEESE"] = "30s"
    assert offline.run("config", "show", check=0).stderr == b"hodei: HODEI_LEESE: there is no such setting\n"
    for shell in ("bash", "zsh", "fish"):
        assert b"_HODEI_COMPLETE" in offline.run("completion", shell, check=0).stdout
