"""Takes the agent's self-contained folder along: to containers whose image has no worker in it."""

from __future__ import annotations

import secrets
import shutil
import sys
from pathlib import Path

#: Written last: where it is, the folder is whole. It holds what was copied, so that another one is copied over it.
COMPLETE = ".complete"


def copy_agent(target: Path) -> tuple[bool, str]:
    """Copy the folder that this agent runs from; where it is already, do nothing.

    Every file is put in place whole, so that several may copy to one target at once, and a copy that was interrupted
    may be repeated.

    :param target: a folder, made when it is missing; what else is in it stays.
    :return: whether the folder is there now, and that in words.
    """
    source = Path(sys.executable).parent.parent
    if not (source / "lib" / "ld.so").is_file():
        return False, "this worker does not run from a folder of its own; the worker's image does"
    build = (source / "BUILD").read_text()
    try:
        if (target / COMPLETE).is_file() and (target / COMPLETE).read_text() == build:
            return True, f"{target} is complete"
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            # Each by itself: the target may be another's, whose mode and times are not to be changed.
            if entry.is_dir():
                shutil.copytree(entry, target / entry.name, copy_function=_put, dirs_exist_ok=True)
            else:
                _put(str(entry), str(target / entry.name))
        _put(str(source / "BUILD"), str(target / COMPLETE))
    except (OSError, shutil.Error) as error:
        return False, f"the agent can't be copied to {target}: {error}"
    return True, f"the agent was copied to {target}"


def _put(source: str, target: str) -> None:
    part = f"{target}.{secrets.token_hex(8)}.part"
    shutil.copy(source, part)
    Path(part).rename(target)
