"""Settings: read once, named when wrong, shown without secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hodei_server.settings import Settings, SettingsError, load_settings, markdown, show, unknown_variables


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this process's own settings away."""
    for name in [name for name in os.environ if name.startswith("HODEI_")]:
        monkeypatch.delenv(name)


def test_a_variable_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each, with what to write."""
    monkeypatch.setenv("HODEI_START_TIMEOUT", "5 parsecs")
    monkeypatch.setenv("HODEI_LISTEN", "nowhere")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert any(line.startswith("HODEI_START_TIMEOUT:") and "write 90s" in line for line in lines)
    assert any(line.startswith("HODEI_LISTEN:") for line in lines)


def test_a_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order: command line, environment, file, default."""
    file = tmp_path / "hodei.toml"
    file.write_text('lease = "7s"\nlog_wait = "8s"\nlog_ttl = "9s"\n')
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(file))
    monkeypatch.setenv("HODEI_LOG_WAIT", "1m")
    monkeypatch.setenv("HODEI_LOG_TTL", "1m")
    settings = load_settings({"log_ttl": "2m"})
    assert (settings.lease, settings.log_wait, settings.log_ttl) == (7.0, 60.0, 120.0)


def test_an_unknown_key_of_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error is not read as a default, and what it was to be is guessed."""
    file = tmp_path / "hodei.toml"
    monkeypatch.setenv("HODEI_CONFIG_FILE", str(file))
    for text, wrong, meant in (('leese = "7s"', "leese", "lease"), ("[provider.x]", "provider", "providers")):
        file.write_text(text)
        with pytest.raises(SettingsError, match=f"HODEI_CONFIG_FILE: .* no setting '{wrong}'; did you mean '{meant}'"):
            load_settings()


def test_certificate_and_key_go_together() -> None:
    """One without the other would be ignored."""
    with pytest.raises(SettingsError, match="HODEI_TLS_CERT and HODEI_TLS_KEY go together"):
        load_settings({"tls_cert": "/x"})


def test_passwords_are_not_shown() -> None:
    """Neither in the output of `config show` nor anywhere else that uses it."""
    shown = show(load_settings({"database_url": "postgresql://me:hunter2@db/hodei"}))
    assert shown["database_url"] == "postgresql://me:***@db/hodei"


def test_what_the_server_goes_by_of_a_provider_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pools and its prices, beside its kind's own options."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_POOL_MIN_READY", "2")
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_PRICE_CPU_HOUR", "0.04,node=spot:0.012")
    shown = show(load_settings())
    assert shown["provider_process_pool_min_ready"] == "2"
    assert shown["provider_process_price_cpu_hour"] == "0.04,node=spot:0.012"


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("HODEI_LOG_TTL_TENANTS", "a", "no TENANT=VALUE"),
        ("HODEI_LOG_TTL_TENANTS", "*=1h", "no TENANT=VALUE"),
        ("HODEI_LOG_TTL_TENANTS", "a=1h,a=2h", "second"),
        ("HODEI_TENANT_MAX_JOBS", "a=1,a=2", "second"),
        ("HODEI_TENANT_MAX_CPU", "A b=1", "no TENANT=VALUE"),
        ("HODEI_TENANT_MAX_MEMORY", "*=lots", "not a size"),
    ],
)
def test_a_wrong_entry_of_a_tenant_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, complaint: str
) -> None:
    """A value that nobody would have, or two of one tenant, are typing errors."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError, match=f"{variable}: .*{complaint}"):
        load_settings()


def test_every_setting_has_its_row_in_the_docs() -> None:
    """Each stands in a group; and is shown, in the same order."""
    page = markdown()
    rows = re.findall(r"\| `HODEI_([A-Z0-9_]+)`", page)
    assert [name for name in show(load_settings()) if name.upper() in rows] == [
        row.lower() for row in rows if row.lower() in Settings.model_fields
    ]
    assert [name for name in Settings.model_fields if page.count(f"| `HODEI_{name.upper()}` |") != 1] == []


def test_typing_errors_in_variables_are_found() -> None:
    """They would else be no settings at all."""
    environment = {"HODEI_LISTNE": "x", "HODEI_LISTEN": "y", "HODEI_PROVIDER_PROCESS_LABELS": "a=b", "PATH": "z"}
    assert unknown_variables(environment) == ["HODEI_LISTNE"]


def test_the_variables_of_the_recipes_are_no_typing_errors() -> None:
    """A server that is started where they are exported doesn't complain of them."""
    root = Path(__file__).parents[3]
    text = (root / "justfile").read_text() + (root / "deploy" / "load-images.sh").read_text()
    named = set(re.findall(r'env\("(HODEI_\w+)"|\$\{?(HODEI_\w+)', text))
    variables = {first or second for first, second in named}
    assert {"HODEI_KIND_IMAGE", "HODEI_K8S_IMPORT"} <= variables
    assert unknown_variables(dict.fromkeys(variables, "x")) == []


def test_the_page_in_the_docs_is_up_to_date() -> None:
    """docs/configuration.md is made from the settings."""
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert page.read_text() == markdown()
