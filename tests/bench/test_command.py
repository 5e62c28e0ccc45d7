"""The command that runs the benches, and the page that is made of what they find."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hodei_bench import command
from hodei_bench.harness import Registered, Result, Setup
from hodei_bench.page import page

DOCS = Path(__file__).parents[2] / "docs"


async def works(setup: Setup) -> list[Result]:
    """One that reaches its aim, and one that does not."""
    assert setup.folder.is_dir()
    return [
        Result("works.fast", 2.0, "ms", peer=1.0, peer_name="the bare work", aim=3),
        Result("works.slow", 20.0, "ms", peer=1.0, peer_name="the bare work", aim=0.5, aim_of="ratio"),
    ]


async def fails(setup: Setup) -> list[Result]:  # noqa: ARG001 - one shape for all
    """One that fails."""
    raise RuntimeError("nothing works")


async def hangs(setup: Setup) -> list[Result]:  # noqa: ARG001 - one shape for all
    """One that never ends."""
    await asyncio.Event().wait()
    return []


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be three benches, two of which do not end well."""
    each = [Registered(run.__name__, "A title", run, durable=run is works) for run in (hangs, fails, works)]
    monkeypatch.setattr(command, "BENCHES", {one.name: one for one in each})
    monkeypatch.setattr(command, "BENCH_SECONDS", 0.2)


@pytest.mark.usefixtures("benches")
def test_a_bench_that_fails_is_told_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one that hangs; the exit code tells, and the file has what there is."""
    file = tmp_path / "result.json"
    assert command.main(["--json", str(file)]) == 1
    document = json.loads(file.read_text())
    assert set(document["failures"]) == {"hangs (power)", "fails (power)"}
    assert [(each["name"], each["durability"], each["reached"]) for each in document["results"]] == [
        ("works.fast", "power", True),
        ("works.slow", "power", False),
        ("works.fast", "process", True),
        ("works.slow", "process", False),
    ]
    assert "FAILED: fails (power): RuntimeError('nothing works')" in capsys.readouterr().out


@pytest.mark.usefixtures("benches")
def test_the_page_names_what_failed_and_which_aims_were_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader sees each figure beside its limit, and what did not go well."""
    file = tmp_path / "result.json"
    command.main(["--json", str(file)])
    capsys.readouterr()
    assert command.main(["--markdown", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| fast | power | 2 ms | 1 ms | 0.5 | ≤ 3 ms | yes |" in lines
    assert "| slow | process | 20 ms | 1 ms | 0.05 | ratio ≥ 0.5 | **no** |" in lines
    assert any(line.startswith("- **works.slow** (0.05 with `power`, 0.05 with `process`).") for line in lines)
    assert any(line.startswith("- fails (power): ") for line in lines)


@pytest.mark.usefixtures("benches")
def test_a_bench_that_is_run_later_takes_the_place_of_its_figures_and_says_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others stay as they are."""
    file = tmp_path / "result.json"
    command.main(["--json", str(file)])
    document = json.loads(file.read_text())
    kept = {**document["results"][0], "bench": "kept", "name": "kept.fast", "figure": 7.0}
    document["results"] = [kept, {**document["results"][0], "figure": 9.0}]
    document["titles"]["kept"] = "One that stays"
    file.write_text(json.dumps(document))
    command.main(["--only", "works", "--durability", "power", "--add", str(file)])
    after = json.loads(file.read_text())
    assert [(each["name"], each["figure"]) for each in after["results"]] == [
        ("kept.fast", 7.0),
        ("works.fast", 2.0),
        ("works.slow", 20.0),
    ]
    capsys.readouterr()
    command.main(["--markdown", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("## A title") + 2].startswith("Made on ")
    assert not lines[lines.index("## One that stays") + 2].startswith("Made on ")


def test_the_published_page_is_made_of_the_published_figures() -> None:
    """Nobody writes figures by hand: python -m hodei_bench --markdown docs/performance.json > docs/performance.md."""
    document = json.loads((DOCS / "performance.json").read_text())
    assert page(document) == (DOCS / "performance.md").read_text()
    assert not document["short"]
