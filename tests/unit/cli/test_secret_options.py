"""From options and files to a job's secrets; never from a value on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hodei.v1 import types_pb2 as wire
from hodei_cli.secret_options import read_secrets, secret_options
from hodei_cli.spec_options import build_spec, spec_options


def build(*arguments: str) -> list[wire.Secret]:
    """Return the secrets of a command line that describes a job."""
    found: list[wire.Secret] = []

    @click.command(context_settings={"allow_interspersed_args": False})
    @spec_options
    def command(**options: Any) -> None:
        found.extend(build_spec(options).secrets)

    result = CliRunner().invoke(command, [*arguments, "--", "true"], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return found


def test_each_source_and_target_reaches_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W38: a value from here, by a variable or a file, or a reference to the server's; to a variable or a file."""
    monkeypatch.setenv("TOKEN", "from the variable")
    (tmp_path / "token").write_bytes(b"from the file\n")
    file = f"@{tmp_path}/token"
    assert build("--secret", "TOKEN", "--secret", "A=env:TOKEN", "--secret", f"B={file}") == [
        wire.Secret(name="TOKEN", value=b"from the variable"),
        wire.Secret(name="A", value=b"from the variable"),
        wire.Secret(name="B", value=b"from the file"),
    ]
    assert build("--secret-file", f"b.pem={file}", "--secret", "C=server-env:V", "--secret", "D=server-file:d/e") == [
        wire.Secret(name="C", server_variable="V"),
        wire.Secret(name="D", server_file="d/e"),
        wire.Secret(name="b.pem", value=b"from the file\n", file="b.pem"),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--secret", "TOKEN=s3cr3t-value"), "--secret TOKEN: everybody on this machine can see"),
        (("--secret", "TOKEN="), "--secret TOKEN: everybody on this machine can see"),
        (("--secret", "TOKEN=s3cr3t:value"), "--secret TOKEN: everybody on this machine can see"),
        (("--secret-file", "key"), "--secret-file key: say where it is from"),
        (("--secret", "NO_SUCH_VARIABLE"), "--secret NO_SUCH_VARIABLE: there is no variable NO_SUCH_VARIABLE here"),
        (("--secret", "TOKEN=@/no/such/file"), "--secret TOKEN: /no/such/file can't be read: No such file"),
    ],
)
def test_a_value_on_the_command_line_is_refused_and_not_repeated(arguments: tuple[str, ...], expected: str) -> None:
    """Whoever types one is told why it was not taken, without another look at it."""
    with pytest.raises(click.UsageError) as refused:
        build(*arguments)
    assert expected in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_a_file_of_a_job_has_secrets_and_options_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name; from here, from the file itself or from the server."""
    monkeypatch.setenv("HERE", "from here it is")
    (tmp_path / "key").write_bytes(b"a key of a file\n")
    (tmp_path / "job.yaml").write_text(
        f"""
        secrets:
          A: written down
          B: {{env: HERE, variable: BB}}
          C: {{path: {tmp_path}/key, file: c}}
          D: {{server_variable: V}}
          E: {{server_file: e, file: f}}
          F: {{value: written too, file: g}}
        """
    )
    found = build("-f", str(tmp_path / "job.yaml"), "--secret", "D=server-env:W")
    assert sorted(found, key=lambda secret: secret.name) == [
        wire.Secret(name="A", value=b"written down"),
        wire.Secret(name="B", value=b"from here it is", variable="BB"),
        wire.Secret(name="C", value=b"a key of a file\n", file="c"),
        wire.Secret(name="D", server_variable="W"),
        wire.Secret(name="E", server_file="e", file="f"),
        wire.Secret(name="F", value=b"written too", file="g"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("secrets: [s3cr3t]", "is a mapping of names"),
        ("secrets: {A: 12345678}", "A: what is given is text; write it in quotes"),
        ("secrets: {A: {valeu: s3cr3t}}", "A has 'valeu'; there are"),
        ("secrets: {A: {value: s3cr3t, env: HERE}}", "A has two sources"),
        ("secrets: {A: {value: s3cr3t, file: f, variable: V}}", "A has two targets"),
        ("secrets: {A: {env: NO_SUCH_VARIABLE}}", "there is no variable NO_SUCH_VARIABLE here"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_without_a_value(tmp_path: Path, text: str, expected: str) -> None:
    """W38: a secret that can't be taken is named, and never shown."""
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(click.UsageError) as refused:
        build("-f", str(tmp_path / "job.yaml"))
    assert expected in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_a_retry_says_names_and_sources_only(tmp_path: Path) -> None:
    """What is given again goes where the job had it."""
    (tmp_path / "token").write_bytes(b"given again")
    found: list[wire.Secret] = []

    @click.command
    @secret_options
    def command(**options: Any) -> None:
        found.extend(read_secrets(options, targets=False))

    arguments = ["--secret-file", f"token=@{tmp_path}/token"]
    assert CliRunner().invoke(command, arguments, standalone_mode=False).exception is None
    assert found == [wire.Secret(name="token", value=b"given again")]
