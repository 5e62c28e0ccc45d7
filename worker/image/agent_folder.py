"""Puts the agent's self-contained folder together, in a build stage of Dockerfile.worker.

``agent_folder.py TARGET APP``: APP holds the agent and its packages.

The folder needs nothing of the image that it is mounted into but a kernel::

    hodei-worker   the static launcher, put there by the Dockerfile
    lib/           the loader (ld.so), the C library and all else that Python and its packages are linked with
    lib/python3.X  Python's own modules, without what no agent needs
    bin/python3    Python, to be started through lib/ld.so
    BUILD          a checksum of all that
    app/           the agent and its packages; Python runs it as a program

Everything comes from the Python that runs this script and from APP.
"""

from __future__ import annotations

import compileall
import hashlib
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

#: Parts of Python's library that no agent imports; the largest, and those that would bring libraries of their own.
LEFT_OUT = (
    "__pycache__",
    "*.dist-info",
    "EXTERNALLY-MANAGED",
    "config-*",
    "ensurepip",
    "idlelib",
    "pydoc_data",
    "sitecustomize.py",
    "sqlite3",
    "test",
    "tests",
    "tkinter",
    "turtle*",
    "venv",
    *(f"{name}.cpython-*" for name in ("_codecs_*", "_curses*", "_dbm", "_gdbm", "_hashlib", "_sqlite3", "_ssl")),
    *(f"{name}.cpython-*" for name in ("_test*", "_tkinter", "_xx*", "readline", "xx*")),
)
_LINKED = re.compile(r"(?:\S+ => )?(/\S+) \(0x")


def linked(program: Path) -> set[Path]:
    """Return the libraries, and the loader, that a program or library is linked with."""
    listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True)
    if "not found" in listing.stdout:
        raise SystemExit(f"{program}: {listing.stdout}")
    return {Path(found) for found in _LINKED.findall(listing.stdout)}


def assemble(target: Path, app: Path) -> None:
    """Make the folder."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    modules, programs = target / "lib" / version, target / "bin"
    leave_out = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(sysconfig.get_path("stdlib"), modules, ignore=leave_out)
    shutil.copytree(app, target / "app", ignore=leave_out)
    programs.mkdir()
    shutil.copy(Path(sys.executable).resolve(), programs / "python3")
    (target / "app" / "__main__.py").write_text(
        "import sys\n\nfrom hodei_worker.main import main\n\nsys.exit(main())\n"
    )
    found = linked(programs / "python3")
    for library in target.rglob("*.so"):
        found |= linked(library)
    for library in found:
        name = "ld.so" if library.name.startswith("ld-linux") else library.name
        shutil.copy(library, target / "lib" / name)
    # Of the sources' content instead of their times: the same sources make the same folder.
    compiled = compileall.compile_dir(
        target, quiet=1, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    if not compiled:
        raise SystemExit("some modules can't be compiled")
    digest = hashlib.sha256()
    for file in sorted(path for path in target.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(target)}\0".encode() + file.read_bytes())
    (target / "BUILD").write_text(digest.hexdigest() + "\n")


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
