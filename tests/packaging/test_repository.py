"""What a fresh clone promises: commands that exist, and nothing of the machine it was written on."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Joined here, so that this file is not its own finding.
FORBIDDEN = re.compile(
    "|".join(
        # Only where a path begins: the project has folders of its own by such names.
        "".join(parts)
        for parts in [
            (r"(?<![\w.-])/wo", "rk/"),
            (r"(?<![\w.-])/ro", "ot/"),
            ("/opt/", "wheels"),
            ("--find", "-links"),
            ("--index", "-url "),
        ]
    )
)
INDEX_HOST = re.compile("files.python" + "hosted|py" + "pi\\.org/simple|registry.npm" + "js|proxy.go" + "lang")


def _targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_every_make_command_of_the_docs_exists() -> None:
    """README and CONTRIBUTING name no target that the Makefile lacks."""
    targets = _targets((ROOT / "Makefile").read_text())
    assert {"demo", "test"} <= targets
    named = {
        name
        for page in ("README.md", "CONTRIBUTING.md")
        for name in re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_just_command_of_the_docs_exists() -> None:
    """No page names a recipe that the justfile lacks, nor does a line of several."""
    recipe = r"[a-z][a-z0-9-]*"
    parameters = rf"(?: \*?{recipe}(?:=\S+)?)*"
    recipes = set(re.findall(rf"^({recipe}){parameters}:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    called = re.compile(rf"(?:^|`)just ({recipe}(?: {recipe})*)", re.MULTILINE)
    named = {page.name: set(" ".join(called.findall(page.read_text())).split()) for page in pages}
    assert {"lint", "k8s-up"} <= recipes
    assert {"k8s-up", "job-k8s-hello", "k8s-load-image"} <= named["kubernetes.md"]
    assert named["CONTRIBUTING.md"]
    assert {page: found - recipes for page, found in named.items() if found - recipes} == {}


def test_images_are_of_no_platform() -> None:
    """So that one recipe builds them for each: what differs comes with the base, the compiler and the wheels."""
    files = [*ROOT.glob("Dockerfile.*"), *(ROOT / "worker/image").glob("*.*")]
    assert len(files) == 4
    platform = re.compile("amd64|x86|i386|arm64|aarch64|--platform|TARGETARCH", re.IGNORECASE)
    assert [
        f"{path.name}: {word}" for path in files if path.is_file() for word in platform.findall(path.read_text())
    ] == []
    assert "docker buildx build --platform linux/amd64,linux/arm64 " in (ROOT / "justfile").read_text()


def test_no_tracked_file_names_a_machine_or_a_package_index(tracked_files: list[Path]) -> None:
    """Paths of one machine and addresses of indexes belong in nobody's clone."""
    found = []
    for path in tracked_files:
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path}: {word}" for word in FORBIDDEN.findall(text)]
        found += [f"{path}: {match}" for match in INDEX_HOST.findall(text)]
    assert found == []


def test_the_locks_pin_hashes_and_agree(tracked_files: list[Path]) -> None:
    """Each pinned package has a hash, and the images' locks hold versions of the whole lock."""
    locks = sorted(path for path in tracked_files if path.match("requirements*.lock"))
    assert len(locks) == 3
    pins: dict[str, set[str]] = {}
    for lock in locks:
        text = (ROOT / lock).read_text()
        entries = re.split(r"\n(?=[a-z0-9])", text)
        pins[lock.name] = {entry.split()[0] for entry in entries if "==" in entry.split("\n")[0]}
        assert pins[lock.name]
        assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.split("\n")[0])
    assert pins["requirements-worker.lock"] <= pins["requirements-server.lock"] <= pins["requirements.lock"]
