"""The kernel's counter of kills, on trees that were recorded from real kernels; see recorded/README.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hodei_worker.oom import OomCounter, counter_file, read_count

RECORDED = Path(__file__).with_name("recorded")


def own_counter_file(tree: Path) -> Path | None:
    """Return what a worker in this tree would read."""
    return counter_file((tree / "proc/self/cgroup").read_text(), tree / "sys/fs/cgroup")


@pytest.mark.parametrize("layout", ["container", "container-version-1"])
def test_a_kill_is_noticed_in_either_version_of_cgroups(tmp_path: Path, layout: str) -> None:
    """W06: before and after the kernel took a child of a job in a container; the rest of the tree is as it was."""
    tree = tmp_path / "tree"
    shutil.copytree(RECORDED / layout / "before", tree)
    file = own_counter_file(tree)
    counter = OomCounter(file)
    assert file is not None
    assert not counter.grown()
    shutil.copytree(RECORDED / layout / "after", tree, dirs_exist_ok=True)
    assert counter.grown()
    assert not OomCounter(file).grown()  # it is the next job's


@pytest.mark.parametrize("layout", ["host-namespace", "service"])
def test_the_path_of_a_cgroup_is_followed_where_it_is_told(layout: str) -> None:
    """W06: in the machine's own namespace, and without any container."""
    file = own_counter_file(RECORDED / layout)
    assert file is not None
    assert file.parent != RECORDED / layout / "sys/fs/cgroup"
    assert read_count(file.read_text()) == 1


def test_a_machine_without_a_counter_of_our_own_counts_nothing(tmp_path: Path) -> None:
    """The root of version 2 has none; a kernel may lack the controller."""
    assert counter_file("0::/a/b\n", tmp_path) is None
    assert not OomCounter(None).grown()
    assert read_count("oom_kill_disable 0\nunder_oom 0\n") == 0
