"""Whether a worker is connected, as health checks are told."""

from __future__ import annotations

from pathlib import Path

from hodei_worker.health import HealthFile, check_health


def health(directory: Path) -> tuple[bool, str]:
    """Return what the check says of the worker of a directory."""
    return check_health({"HODEI_WORKER_DIR": str(directory)})


def test_a_worker_is_healthy_from_its_welcome_to_the_end_of_its_stream(tmp_path: Path) -> None:
    """Before and after it is not; its directory may be missing."""
    directory = tmp_path / "worker"
    file = HealthFile(directory)
    assert health(directory) == (False, "not connected to a server")
    file.confirm(30.0)
    assert health(directory) == (True, "connected")
    file.clear()
    assert health(directory) == (False, "not connected to a server")


def test_an_agent_that_confirms_no_more_is_unhealthy_though_its_file_is_there(tmp_path: Path) -> None:
    """It hangs, or was killed where it could not clean up."""
    HealthFile(tmp_path).confirm(-0.001)
    assert health(tmp_path) == (False, "the server has been silent for too long")


def test_a_new_agent_does_not_inherit_the_health_of_the_last_one(tmp_path: Path) -> None:
    """A container that is started again has the old one's files."""
    HealthFile(tmp_path).confirm(3600.0)
    HealthFile(tmp_path)
    assert not health(tmp_path)[0]


def test_a_file_that_makes_no_sense_is_no_health(tmp_path: Path) -> None:
    """Whatever stands in it."""
    for text in ("", "soon", "nan"):
        (tmp_path / "connected-until").write_text(text)
        assert not health(tmp_path)[0]


def test_a_directory_that_cannot_be_written_does_not_end_the_agent(tmp_path: Path) -> None:
    """Its health is then not known, and that is all."""
    (tmp_path / "file").write_text("no directory")
    HealthFile(tmp_path / "file" / "worker").confirm(30.0)
    assert not health(tmp_path / "file" / "worker")[0]


def test_a_check_without_a_directory_says_so() -> None:
    """It names the variable."""
    assert check_health({}) == (False, "HODEI_WORKER_DIR is not set")
