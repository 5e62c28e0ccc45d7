"""Make the Python stubs from the .proto files, beside them: ``python proto/generate.py``."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent


def main() -> int:
    """Run protoc; return its exit code."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    sources = sorted(str(path) for path in (ROOT / "hodei").rglob("*.proto"))
    includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
    outputs = [f"--{kind}_out={ROOT}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    return int(protoc.main(["protoc", *includes, *outputs, *sources]))


if __name__ == "__main__":
    sys.exit(main())
