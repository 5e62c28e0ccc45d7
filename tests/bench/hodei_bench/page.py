"""The page of published figures, made of the JSON file of one run and of what is known of where the time goes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hodei_bench.causes import CAUSES
from hodei_bench.harness import aim_text, shown

_INTRODUCTION = """\
# Performance

What Hodei takes, beside what the machine takes for the bare work, measured in the same run: the *limit*. The *ratio*
is the share of the limit's speed that was reached: 1 is as fast, 0.5 takes twice as long. Ratios travel better than
figures: on another machine both are faster or slower. What takes less than a few seconds is the median of several runs
where no percentile is named; what takes longer (followers, idle workers, the start with a history, retention) was run
once.

This page is made by

```sh
python -m hodei_bench --json docs/performance.json             # about {minutes} minutes; `just bench` is the same
python -m hodei_bench --only large --add docs/performance.json # {named} minutes more, and 20 GiB of disk
python -m hodei_bench --markdown docs/performance.json > docs/performance.md
```

where `AWS_ENDPOINT_URL` names an S3 server, `HODEI_TEST_DATABASE_URL` a PostgreSQL, `HODEI_K8S_TEST=1` and `KUBECONFIG`
a cluster, and a Docker engine has the images: what is missing is said on standard error, and its benches are left out.

The benches are in `tests/bench`, and [where the processor time goes](performance/profile.md) is told by profiles of
them. A short form runs in CI and fails only where an order of magnitude is lost beside the bare work.
"""

_BUSY = "**The machine was busy with other work just before: on a quiet one the figures may be better.**"

_DURABLE = """\
## Durable means durable

With `power`, the default, nothing is acknowledged before it would survive a power cut: a submission and a result after
the commit of the database (`synchronous=FULL`), a piece of a log after its `fdatasync`. With `process` both are written
but not synced: they survive the end of every process, not that of the machine. Most that depends on it was measured
with both. How this is shown is told in [reliability](reliability.md#what-an-acknowledgement-survives).
"""

_OTHERS = """\
## Beside others

Measured by hand on the same class of machine (two processors), not in this run: the same 1,000,000 lines of 80 bytes
take `docker run` attached 3.0 s, `docker logs -f` 8.7 s, Slurm's `srun` 1.8 s, a bare pipe 0.12 s. Of `echo hi`, Celery
on Redis finishes 370 a second, Slurm 10 to 50; one after the other, Slurm's `srun` takes 33 ms for each. They do other
work than Hodei: Celery starts no process for a job, and none of them was asked for a log that survives a power cut.
"""


def page(document: Mapping[str, Any]) -> str:
    """Return the page in Markdown.

    :param document: what a run has written as JSON.
    """
    results: Sequence[Mapping[str, Any]] = document["results"]
    machine: Mapping[str, Any] = document["machine"]
    seconds: Mapping[str, float] = document["seconds"]
    named = sum(took for bench, took in seconds.items() if bench.startswith("large "))
    minutes, more = (max(1, round(each / 60)) for each in (sum(seconds.values()) - named, named))
    parts = [
        _INTRODUCTION.format(minutes=minutes, named=more),
        _circumstances(document),
        *_tables(document["titles"], results, document.get("later", {}), machine["cpus"]),
        *_failures(document["failures"]),
        "\n".join(_missed(results)),
        _DURABLE,
        _OTHERS,
    ]
    return "\n".join(parts)


def _circumstances(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    lines = [
        f"Made on {document['date'][:10]}, on {machine['cpus']} processors ({machine['cpu_model']}), "
        f"{machine['memory_bytes'] / (1 << 30):.0f} GiB of memory, Linux {machine['kernel']}, "
        f"Python {machine['python']}, SQLite {machine['sqlite']}, "
        + ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        + f"; load {machine['load_before']} before it began.",
    ]
    if machine["load_before"] > machine["cpus"]:
        lines.append(f"\n{_BUSY}")
    if document["short"]:
        lines.append("\n**A short run: a smoke test with smaller sizes, no measurement.**")
    return "\n".join(lines) + "\n"


def _tables(
    titles: Mapping[str, str],
    results: Sequence[Mapping[str, Any]],
    later: Mapping[str, Mapping[str, Any]],
    processors: int,
) -> Iterator[str]:
    for bench, group in itertools.groupby(results, key=lambda result: result["bench"]):
        rows = list(group)
        both = len({row["durability"] for row in rows}) > 1
        yield f"## {titles[bench]}\n"
        if bench in later:
            load = later[bench]["load_before"]
            yield f"Made on {later[bench]['date'][:10]}; load {load} before it began.\n"
            if load > processors:
                yield f"{_BUSY}\n"
        head = ["", "durability", "figure", "limit", "ratio", "aim", "reached"]
        yield _row(head, both=both)
        yield _row(["---", "---", "---:", "---:", "---:", "---", "---"], both=both)
        for row in rows:
            yield _row(_cells(row), both=both)
        yield from _notes(rows)
        yield ""


def _row(cells: Sequence[str], *, both: bool) -> str:
    kept = cells if both else [cells[0], *cells[2:]]
    return f"| {' | '.join(kept)} |"


def _cells(row: Mapping[str, Any]) -> list[str]:
    ratio = "" if row["ratio"] is None else shown(row["ratio"], "")
    reached = {None: "", True: "yes", False: "**no**"}[row["reached"]]
    limit = "" if row["peer"] is None else shown(row["peer"], row["unit"])
    name = row["name"].partition(".")[2]
    return [name, row["durability"], shown(row["figure"], row["unit"]), limit, ratio, aim_text(row), reached]


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say once for each figure what it and its limit are."""
    said: dict[str, list[str]] = {}
    for row in rows:
        limit = f"limit: {row['peer_name']}" if row["peer_name"] else ""
        words = "; ".join(text for text in (row["note"], limit) if text)
        name = row["name"].partition(".")[2]
        if words and name not in said.setdefault(words, []):
            said[words].append(name)
    if said:
        yield ""
    for words, names in said.items():
        yield f"- {', '.join(names)}: {words}."


def _failures(failures: Mapping[str, str]) -> Iterator[str]:
    if failures:
        yield "## Failed\n"
        yield "\n".join(f"- {name}: `{text}`" for name, text in failures.items()) + "\n"


def _missed(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say of each aim that was not reached where the time goes and what would be needed."""
    missed: dict[str, list[str]] = {}
    for row in results:
        if row["reached"] is False:
            figure = shown(row["ratio"], "") if row["aim_of"] == "ratio" else shown(row["figure"], row["unit"])
            missed.setdefault(row["name"], []).append(f"{figure} with `{row['durability']}`")
    yield "## Aims that were not reached\n"
    if not missed:
        yield "None: every aim was reached in this run.\n"
        return
    for name, figures in missed.items():
        cause = next((text for prefix, text in CAUSES.items() if name.startswith(prefix)), "Not looked into yet.")
        yield f"- **{name}** ({', '.join(figures)}). {' '.join(cause.split())}"
    yield ""
