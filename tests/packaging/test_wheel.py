"""The wheel without extras is a worker and a client."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]

OPTIONAL = (
    "sqlalchemy",
    "alembic",
    "boto3",
    "structlog",
    "click",
    "kubernetes",
    "aiodocker",
    "pydantic",
    "yaml",
    "zstandard",
)


@pytest.mark.parametrize("module", ["hodei_worker.main", "hodei_worker.agent", "hodei_client"])
def test_worker_and_client_import_with_grpcio_and_protobuf_only(run_bare: Run, module: str) -> None:
    """Neither imports, nor needs, what the extras bring."""
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = run_bare("python", "-c", program)
    assert done.returncode == 0, done.stderr
    assert not set(json.loads(done.stdout)) & set(OPTIONAL)


def test_the_bare_environment_has_none_of_the_optional_packages(run_bare: Run) -> None:
    """What the other tests show would be worth nothing if an extra could be found all the same."""
    program = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    done = run_bare("python", "-c", program, *OPTIONAL)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_installed_worker_explains_itself(run_bare: Run) -> None:
    """`hodei-worker --help` works from the wheel alone."""
    done = run_bare("hodei-worker", "--help")
    assert done.returncode == 0, done.stderr
    assert "HODEI_SERVER_ADDRESS" in done.stdout


def test_hodei_without_its_extra_names_the_extra_in_one_line(run_bare: Run) -> None:
    """No traceback: one line on stderr that says what to install, and Hodei's own exit code."""
    done = run_bare("hodei", "--help")
    assert done.returncode == 125, done.stderr
    (line,) = done.stderr.splitlines()
    assert "hodei-jobs[cli]" in line


def test_the_wheel_carries_types_migrations_and_the_licence(run_bare: Run) -> None:
    """Every package says that it is typed; migrations and licence travel with the code."""
    program = (
        "import json; from importlib.metadata import files; print(json.dumps([str(f) for f in files('hodei-jobs')]))"
    )
    done = run_bare("python", "-c", program)
    assert done.returncode == 0, done.stderr
    names = set(json.loads(done.stdout))
    packages = {name.split("/")[0] for name in names if name.startswith("hodei") and ".dist-info" not in name}
    assert {f"{package}/py.typed" for package in packages if package.isidentifier()} <= names
    assert "hodei_migrations/script.py.mako" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
