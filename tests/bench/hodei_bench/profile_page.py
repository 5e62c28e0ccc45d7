"""The page that tells where the processor time goes, made of profiles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hodei_bench.harness import shown
from hodei_bench.profile import RATE, Profile

#: Parts that take less than this share of the whole are told together.
LEAST_SHARE = 0.01

_INTRODUCTION = """\
# Where the processor time goes

Milliseconds of processor time for each job, or each million lines, while a bench of [performance](../performance.md)
runs: of the server, of its workers and their jobs, of the client. They are counted in the processor's time, so that
what else a machine does changes them little. This page is made by

```sh
python -m hodei_bench --profile docs/performance          # of all benches that have one; --only names some
```

What each thread used is the kernel's own count. A thread's user time is shared out by samples of its stack (py-spy,
{rate} a second, moments in which the thread waits left out): a moment belongs to the innermost part of the code below
that is on the stack, a library's to the library. System time (files, sockets, locks, new processes) is told apart. Of
many workers three are sampled. py-spy slows down what it looks at: the rates of such a run are not figures.
"""


def write_profiles(folder: Path, run: Mapping[str, Any], profiles: Sequence[Profile]) -> None:
    """Write profiles into a folder; those of other benches that are there stay.

    :param run: the machine and the date, as `Run.as_json` returns them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "profile.json"
    known = json.loads(file.read_text())["profiles"] if file.exists() else []
    about = {"date": run["date"], "machine": run["machine"]["cpu_model"]}
    made = [profile.as_json() | about for profile in profiles]
    names = {each["name"] for each in made}
    kept = [each for each in known if each["name"] not in names]
    document = {"profiles": sorted([*kept, *made], key=lambda each: str(each["name"]))}
    file.write_text(json.dumps(document, indent=1) + "\n")
    (folder / "profile.md").write_text(profile_page(document))


def profile_page(document: Mapping[str, Any]) -> str:
    """Return the page in Markdown.

    :param document: what `write_profiles` has written as JSON.
    """
    parts = [_INTRODUCTION.format(rate=RATE)]
    parts += ["\n".join(_profile(each)) for each in document["profiles"]]
    return "\n".join(parts)


def _profile(profile: Mapping[str, Any]) -> Iterator[str]:
    processes: Mapping[str, Mapping[str, float]] = profile["processes"]
    whole = sum(sum(parts.values()) for parts in processes.values())
    durability = f" with `{profile['durability']}`" if profile["durability"] else ""
    yield f"## {profile['name']}\n"
    yield (
        f"{profile['date'][:10]}{durability}: for each {profile['unit']} {shown(whole, 'ms')} of processor time, of "
        f"{shown(profile['all_milliseconds'], 'ms')} that the whole machine used in "
        f"{shown(profile['seconds'] / profile['count'] * 1e3, 'ms')}.\n"
    )
    yield "| process | part | time | share |"
    yield "| --- | --- | ---: | ---: |"
    for process, parts in processes.items():
        yield f"| **{process}** | | **{shown(sum(parts.values()), 'ms')}** | **{sum(parts.values()) / whole:.0%}** |"
        small = sum(took for took in parts.values() if took < whole * LEAST_SHARE)
        rows = [(part, took) for part, took in parts.items() if took >= whole * LEAST_SHARE]
        for part, took in [*rows, ("smaller ones", small)]:
            if took:
                yield f"| {process} | {part} | {shown(took, 'ms')} | {took / whole:.0%} |"
    yield ""
