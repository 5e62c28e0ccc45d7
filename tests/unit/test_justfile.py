"""The justfile's jobs: each has its script, on each engine, and the scripts do what their names say."""

from __future__ import annotations

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
