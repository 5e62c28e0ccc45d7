"""docs/reliability.md says what the tests show, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hodei_protections import END, PAGE, PROTECTIONS, TABLES, Protection, markdown
from hodei_protections.runner import Outcome, judge

ROOT = PAGE.parents[1]
#: What every provider inherits its tests from.
CONTRACTS = ("providers/hodei_providers/testing.py", "logstore/hodei_logstore/testing.py")
#: The failure modes that the core itself, on SQLite, local disk and processes, stands against.
SPINE = {
    *(f"L{number:02d}" for number in range(1, 29) if number not in {17, 23}),
    *(
        "W03",
        "W04",
        "W05",
        "W07",
        *(f"W{number}" for number in (*range(11, 27), *range(29, 36), *range(38, 42), 44, 45)),
    ),
}
ROW = re.compile(r"\| (?P<id>[LW]\d\d) \|.*\| `(?P<path>[^`]+)`: `(?P<name>[^`]+)` \|(?:[^|]+\|)?")


def docstrings(path: Path, name: str) -> Iterator[str]:
    """Return the docstrings of the functions and methods of a name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            yield ast.get_docstring(node) or ""


def names_it(failure: str, path: str, test: str) -> bool:
    """Whether there is such a test whose docstring names a failure mode."""
    files = [ROOT / "tests" / path, ROOT / path, *(ROOT / each for each in CONTRACTS)]
    found = [text for file in files if file.is_file() for text in docstrings(file, test)]
    return any(re.search(rf"\b{failure}\b", text) for text in found)


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda each: f"{each.id}-{each.file.rpartition('/')[2]}")
def test_what_is_taken_out_is_there_once_and_its_test_names_the_failure(protection: Protection) -> None:
    """A protection that has moved is noticed here, not in the next long run."""
    assert (ROOT / protection.file).read_text().count(protection.present) == 1
    path, *_, name = protection.test.partition("[")[0].split("::")
    assert names_it(protection.id, path, name)


def test_each_failure_mode_of_the_spine_has_a_protection_that_can_be_taken_out() -> None:
    """None is only claimed."""
    assert {each.id for each in PROTECTIONS} >= SPINE


def test_the_page_has_the_table() -> None:
    """`python -m hodei_protections --page` brings it up to date."""
    for begin, protections in TABLES.items():
        _, _, rest = PAGE.read_text().partition(begin)
        assert rest.partition(END)[0] == markdown(protections)


def test_each_row_names_a_test_that_names_its_failure() -> None:
    """Also those that are written by hand."""
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [LW]\d\d ", line)]
    for line in rows:
        row = ROW.fullmatch(line)
        assert row is not None, f"not: id, promise, `path`: `test`: {line}"
        assert names_it(row["id"], row["path"], row["name"]), line
    assert len(rows) > len(PROTECTIONS)


FINE = Outcome(0, "1 passed", 3.0)


@pytest.mark.parametrize(
    ("present", "absent", "noticed"),
    [
        (FINE, Outcome(1, "assert 1 == 2", 3.0), True),
        (FINE, Outcome(None, "hangs", 180.0), True),
        (FINE, Outcome(1, "Failed: Timeout", 61.0), True),
        (FINE, FINE, False),
        (FINE, Outcome(2, "no such test", 1.0), False),
        (FINE, None, False),
        (Outcome(1, "assert 1 == 2", 3.0), Outcome(1, "assert 1 == 2", 3.0), False),
        (Outcome(0, "1 skipped", 3.0), Outcome(1, "assert 1 == 2", 3.0), False),
        (Outcome(0, "1 passed", 50.0), Outcome(1, "Failed: Timeout", 61.0), False),
    ],
)
def test_only_a_test_that_passes_with_its_protection_can_notice_that_it_is_gone(
    present: Outcome, absent: Outcome | None, *, noticed: bool
) -> None:
    """One that fails anyway, is skipped, or is nearly as slow anyway, proves nothing."""
    assert judge(present, absent)[0] is noticed
