"""Names of processors: kernels and images have different ones."""

from __future__ import annotations

_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture_names(machine: str) -> tuple[str, ...]:
    """Return how images name a kernel's architecture, as what `Capabilities.architectures` holds.

    :param machine: as `uname -m` says it; empty where it is not known.
    """
    return (_NAMES.get(machine, machine),) if machine else ()
