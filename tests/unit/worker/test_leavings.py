"""What a job leaves on disk, and what a container has from the beginning."""

from __future__ import annotations

from pathlib import Path

from hodei_worker.leavings import Leavings


async def test_what_a_job_has_put_beside_its_scratch_folder_goes_and_what_was_there_stays(tmp_path: Path) -> None:
    """Files, folders that are closed, links, whose targets stay; also in a folder that the job has closed itself."""
    shared, scratch, outside = tmp_path / "shared", tmp_path / "scratch", tmp_path / "outside"
    for folder in (shared, scratch, outside, shared / "mine"):
        folder.mkdir()
    (outside / "file").touch()
    (shared / "mine" / "file").touch()
    leavings = Leavings([shared, tmp_path / "nowhere"])
    (scratch / "file").touch()
    (shared / "mine" / "more").touch()
    (shared / "file").touch()
    (shared / "link").symlink_to(outside)
    (shared / "closed" / "deep").mkdir(parents=True)
    (shared / "closed").chmod(0)
    shared.chmod(0)
    await leavings.remove(scratch)
    assert not scratch.exists()
    assert {path.name for path in shared.iterdir()} == {"mine"}
    assert {path.name for path in (shared / "mine").iterdir()} == {"file", "more"}
    assert (outside / "file").exists()
