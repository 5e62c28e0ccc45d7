"""What a worker takes from its environment, and what of it belongs to its jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hodei_worker.folder import copy_agent
from hodei_worker.settings import read_settings

REQUIRED = {"HODEI_WORKER_ID": "w", "HODEI_SERVER_ADDRESS": "127.0.0.1:1", "HODEI_OTP_TOKEN": "t"}


def test_a_container_s_environment_is_its_jobs_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the launcher hands it on; nothing of the agent's own is added, and its directory is theirs."""
    monkeypatch.chdir(tmp_path)
    handed_on = {"HODEI_JOB_ENV_LD_PRELOAD": "a=b.so", "HODEI_JOB_ENV_PATH": "/image", "HODEI_JOB_ENV_EMPTY": ""}
    settings = read_settings(REQUIRED | handed_on | {"LC_CTYPE": "C.UTF-8"})
    assert settings.job_environment == {"LD_PRELOAD": "a=b.so", "PATH": "/image", "EMPTY": ""}
    assert settings.job_directory == tmp_path


def test_an_image_without_a_path_gets_the_usual_one() -> None:
    """A program is found without its folder."""
    settings = read_settings(REQUIRED | {"HODEI_JOB_ENV_HOME": "/"})
    assert settings.job_environment["PATH"].endswith(":/bin")


def test_elsewhere_jobs_inherit_only_what_is_named() -> None:
    """Whoever started the worker has variables that are nobody else's."""
    settings = read_settings(REQUIRED | {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "s"})
    assert settings.job_environment == {"PATH": "/bin"}
    assert settings.job_directory is None


def test_only_a_worker_with_a_folder_of_its_own_can_be_copied(tmp_path: Path) -> None:
    """One of a Python environment says so, and copies nothing."""
    copied, why = copy_agent(tmp_path / "agent")
    assert not copied
    assert "folder of its own" in why
    assert not (tmp_path / "agent").exists()
