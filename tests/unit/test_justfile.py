"""The justfile's jobs: each has its script, on each engine, and the scripts do what their names say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "deploy" / "jobs"
RECIPES = dict(re.findall(r"^job-(\S+): (.*)$", (ROOT / "justfile").read_text(), re.MULTILINE))
ENGINES = {"k8s": "kubernetes", "docker": "docker", "local": "process"}


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_has_a_job_of_each_script_and_all_runs_them(engine: str) -> None:
    """All but the one for a GPU, which is refused where there is none."""
    names = sorted(file.stem for file in SCRIPTS.glob("*.sh"))
    assert sorted(key.partition("-")[2] for key in RECIPES if key.startswith(f"{engine}-")) == sorted([*names, "all"])
    for name in names:
        assert f'(_job "{ENGINES[engine]}" "{name}"' in RECIPES[f"{engine}-{name}"]
    assert sorted(RECIPES[f"{engine}-all"].split()) == [f"job-{engine}-{name}" for name in names if name != "gpu"]


@pytest.mark.parametrize(("name", "says"), [("ml", "% of unseen points"), ("build", "it finds 348513 up to 5000000")])
def test_what_is_learned_and_what_is_compiled_is_checked(name: str, says: str) -> None:
    """By the script itself: its last line has the figure, and its code says whether that will do."""
    done = subprocess.run(["sh", SCRIPTS / f"{name}.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        ("echo 'GPU 0: A Fast One (UUID: GPU-1)'", 0, "GPU 0: A Fast One (UUID: GPU-1)\n"),
        ("exit 9", 1, ""),
    ],
)
def test_a_gpu_that_was_asked_for_is_reported_or_missed(tmp_path: Path, program: str, code: int, says: str) -> None:
    """By the driver's own tool; a machine that has none fails the job, and says so."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\n[ "$*" = --list-gpus ] || exit 2\n{program}\n')
    tool.chmod(0o755)
    if code and any(any(Path("/dev").glob(each)) for each in ("nvidia[0-9]*", "dri/render*", "kfd")):
        pytest.skip("there is a GPU here")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", SCRIPTS / "gpu.sh"], capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
    )
    assert (done.returncode, done.stdout) == (code, says)
    assert bool(code) == ("a GPU was asked for, and none is to be seen here" in done.stderr)


def test_memory_without_a_limit_is_filled_by_what_was_asked_for() -> None:
    """Not all that there is: somebody else's limit is none of the job's."""
    done = subprocess.run(
        ["sh", SCRIPTS / "memory.sh"], capture_output=True, text=True, check=False, env=os.environ | {"MEBIBYTES": "16"}
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["filling 12 MiB", "filled and let go"])
