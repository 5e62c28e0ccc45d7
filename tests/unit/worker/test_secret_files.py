"""The files of a job's secrets are gone at its end, whatever the job has made of their folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hodei.folders import remove_folder
from hodei.secrets import memory_folder

#: For a user that modes mean something to; all is imported by then.
BEGIN = """
import asyncio, os, sys
from pathlib import Path
from types import SimpleNamespace
from hodei.v1 import worker_pb2 as wire
from hodei_providers.contract import Handle
from hodei_providers.process.provider import ProcessProvider
from hodei_worker.secret_files import SecretFiles
worker, place = sys.argv[1], Path(sys.argv[2])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
def close(folder):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "copy").write_bytes(b"a-secret-of-a-job")
    for each in (folder / "deep" / "er", folder / "deep", folder):
        each.chmod(0o500)
    (folder / "deep").chmod(0)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every user can write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def run_without_rights(script: str, place: Path) -> None:
    """Run a script as no superuser, with a worker's name of its own."""
    worker = f"test-{uuid.uuid4().hex}"
    code = BEGIN + textwrap.dedent(script)
    try:
        subprocess.run([sys.executable, "-c", code, worker, str(place)], cwd="/", check=True, timeout=60)
    finally:
        remove_folder(memory_folder(worker))


def test_a_folder_of_secrets_that_the_job_has_made_read_only_is_removed(place: Path) -> None:
    """L23: in memory and on disk; the next job of the same worker would find it there."""
    script = """
    settings = SimpleNamespace(worker_id=worker, directory=place)
    run = wire.RunAttempt(attempt_uid="a")
    run.secrets.add(value=b"a-secret-of-a-job", file="token")
    for on_disk in (False, True):
        files = SecretFiles(run, settings)
        if on_disk:
            del files._candidates[:-1]
        files.write()
        folder = Path(files.environment["HODEI_SECRETS_DIR"])
        close(folder)
        files.remove()
        assert not folder.exists(), folder
    """
    run_without_rights(script, place)


def test_what_a_worker_has_left_in_memory_is_removed_with_it_whatever_its_modes(place: Path) -> None:
    """L23: a worker that was killed leaves the folder as the job has made it."""
    script = """
    from hodei.secrets import memory_folder
    memory_folder(worker).mkdir(mode=0o700)
    close(memory_folder(worker))
    async def destroy():
        async with ProcessProvider("process", data_dir=place) as provider:
            assert await provider.destroy(Handle(worker))
    asyncio.run(destroy())
    assert not memory_folder(worker).exists()
    """
    run_without_rights(script, place)


def test_a_worker_s_own_folder_that_its_job_has_closed_goes_with_the_worker(place: Path) -> None:
    """W17: and the worker counts as gone."""
    script = """
    from hodei_providers.process.folder import Record, WorkerFolder
    async def destroy():
        async with ProcessProvider("process", data_dir=place) as provider:
            for mode in (0o500, 0o300, 0):
                folder = WorkerFolder(place / "workers", worker)
                folder.write(Record(worker, "installation"))
                close(folder.path)
                folder.path.chmod(mode)
                assert await provider.destroy(Handle(worker))
                assert not folder.path.exists(), mode
    asyncio.run(destroy())
    """
    run_without_rights(script, place)


def test_no_link_is_followed(tmp_path: Path) -> None:
    """What a job has put in the folder's place, or into it, leads to nothing that is changed."""
    kept = tmp_path / "kept"
    (kept / "below").mkdir(parents=True)
    for each in (kept / "below", kept):
        each.chmod(0o500)
    (tmp_path / "link").symlink_to(kept)
    assert remove_folder(tmp_path / "link")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(kept)
    assert remove_folder(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [kept]
    assert [each.stat().st_mode & 0o777 for each in (kept, kept / "below")] == [0o500, 0o500]


def test_folders_in_each_other_are_removed_however_deep(tmp_path: Path) -> None:
    """W17: deeper than a path may be long, and than a program may call itself."""
    folder = tmp_path / "folder"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("deeper", dir_fd=descriptor)
        deeper = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o400, dir_fd=descriptor))
    os.close(descriptor)
    assert remove_folder(folder)
    assert not folder.exists()


def test_what_can_t_be_removed_is_told(place: Path) -> None:
    """A folder in one that its user can't write to stays, and the caller knows."""
    script = """
    from hodei.folders import remove_folder
    (place / "closed" / "folder").mkdir(parents=True)
    (place / "closed").chmod(0o500)
    assert not remove_folder(place / "closed" / "folder")
    assert remove_folder(place / "closed")
    assert remove_folder(place / "closed")
    """
    run_without_rights(script, place)
