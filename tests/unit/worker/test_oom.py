"""The kernel's counter of kills."""

from __future__ import annotations

from pathlib import Path

from hodei_worker.oom import counter_file, read_count


def test_the_counter_is_read_from_either_kind_of_cgroup() -> None:
    """`memory.events` and `memory.oom_control` (W06)."""
    assert read_count("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n") == 2
    assert read_count("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n") == 5
    assert read_count("oom_kill_disable 0\nunder_oom 0\n") == 0


def test_the_counter_of_the_worker_s_own_cgroup_is_found(tmp_path: Path) -> None:
    """In both layouts, and None where there is none."""
    assert counter_file("0::/a/b\n", tmp_path) is None
    second = tmp_path / "a/b/memory.events"
    second.parent.mkdir(parents=True)
    second.touch()
    assert counter_file("0::/a/b\n", tmp_path) == second
    first = tmp_path / "memory/c/memory.oom_control"
    first.parent.mkdir(parents=True)
    first.touch()
    assert counter_file("5:cpu,memory:/c\n", tmp_path) == first
