"""What every bench is made of: its surroundings, its results, the list of all benches, the table at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hodei_bench.profile import Profiler
from hodei_bench.running import RunningServer, start_server


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One figure.

    :param name: group, a dot, what was measured.
    :param unit: of `figure` and `peer`: s, ms, us, jobs/s, lines/s, bytes, %.
    :param more_is_better: rates are, times and sizes are not.
    :param peer: what the bare work took, measured in the same run, in the same unit.
    :param peer_name: what the bare work was.
    :param aim: the bound that the figure (or the ratio, see `aim_of`) is meant to reach.
    :param note: what a reader must know to understand the figure.
    :param durability: set by whoever runs the bench, as `bench` is.
    """

    name: str
    figure: float
    unit: str
    more_is_better: bool = False
    peer: float | None = None
    peer_name: str = ""
    aim: float | None = None
    aim_of: Literal["figure", "ratio"] = "figure"
    note: str = ""
    durability: str = ""
    bench: str = ""

    @property
    def ratio(self) -> float | None:
        """The share of the peer's speed that was reached: 1 is as fast as the peer, 0.5 takes twice as long."""
        if self.peer is None or not self.figure or not self.peer:
            return None
        return self.figure / self.peer if self.more_is_better else self.peer / self.figure

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None without an aim."""
        if self.aim is None:
            return None
        if self.aim_of == "ratio":
            return self.ratio is not None and self.ratio >= self.aim
        return self.figure >= self.aim if self.more_is_better else self.figure <= self.aim

    def as_json(self) -> dict[str, Any]:
        """Return all of it, the derived values too."""
        return dataclasses.asdict(self) | {"ratio": self.ratio, "reached": self.reached}


@dataclasses.dataclass(slots=True)
class Setup:
    """What a bench is given.

    :param short: smaller sizes, for a smoke test.
    :param durability: the server's HODEI_DURABILITY.
    :param folder: an empty folder of this bench's own, removed afterwards.
    :param known: figures of the same run that other benches compare theirs with, by result name.
    :param profiler: where it is to be told what the processor does meanwhile.
    """

    short: bool
    durability: str
    folder: Path
    known: dict[str, float]
    profiler: Profiler | None = None
    _numbers: itertools.count[int] = dataclasses.field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def server(self, data_dir: Path | None = None, /, **settings: str) -> AsyncIterator[RunningServer]:
        """Run a server in a process of its own; its workers are killed with it at the end.

        :param data_dir: a fresh folder when None.
        :param settings: by the name of the variable without its prefix, in lower case.
        """
        folder = data_dir or self.folder / f"data{next(self._numbers)}"
        async with start_server(folder, {"durability": self.durability, **settings}) as server:
            yield server

    def profiled(
        self, name: str, server: RunningServer, unit: str, count: float
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Profile a block, where that was asked for; see `Profiler.recording`."""
        if self.profiler is None:
            return contextlib.nullcontext()
        return self.profiler.recording(name, server, unit, count)


Bench = Callable[[Setup], Awaitable[Sequence[Result]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Registered:
    """A bench by its name.

    :param title: what it is about, in a line.
    :param durable: its figures depend on HODEI_DURABILITY.
    :param named: it takes so much time or room that it runs only where it is named.
    """

    name: str
    title: str
    run: Bench
    durable: bool
    named: bool = False


BENCHES: dict[str, Registered] = {}


def bench(name: str, *, durable: bool = False, named: bool = False) -> Callable[[Bench], Bench]:
    """Put a bench on the list; its docstring is its title.

    :param durable: run it for each durability that was asked for.
    :param named: run it only where it is named.
    """

    def register(function: Bench) -> Bench:
        title = (function.__doc__ or name).splitlines()[0].rstrip(".")
        BENCHES[name] = Registered(name, title, function, durable, named)
        return function

    return register


async def repeat(times: int, measure: Callable[[], Awaitable[float]]) -> float:
    """Measure several times, one after the other; return the median."""
    return statistics.median([await measure() for _ in range(times)])


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` % of the values don't exceed (the nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def shown(value: float, unit: str) -> str:
    """Write a figure with three significant digits, whole from 1,000 on; sizes in the unit that fits."""
    if unit == "bytes":
        scale = next((scale for scale in (1 << 30, 1 << 20, 1 << 10) if abs(value) >= scale), 1)
        value, unit = value / scale, {1 << 30: "GiB", 1 << 20: "MiB", 1 << 10: "KiB", 1: "bytes"}[scale]
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def aim_text(result: Mapping[str, Any]) -> str:
    """Write a result's aim; empty where it has none.

    :param result: as `Result.as_json` returns it.
    """
    if result["aim"] is None:
        return ""
    of_ratio = result["aim_of"] == "ratio"
    sign = "≥" if of_ratio or result["more_is_better"] else "≤"
    return f"ratio {sign} {shown(result['aim'], '')}" if of_ratio else f"{sign} {shown(result['aim'], result['unit'])}"


def table(results: Sequence[Result]) -> str:
    """Return the results as a table for people, a line for each; ratios are shares of the limit's speed."""
    rows = [("bench", "durability", "figure", "limit", "ratio", "aim", "reached", "limit is; note")]
    for each in results:
        limit = "" if each.peer is None else shown(each.peer, each.unit)
        ratio = "" if each.ratio is None else shown(each.ratio, "")
        reached = {None: "", True: "yes", False: "NO"}[each.reached]
        words = "; ".join(text for text in (each.peer_name, each.note) if text)
        figure = shown(each.figure, each.unit)
        rows.append((each.name, each.durability, figure, limit, ratio, aim_text(each.as_json()), reached, words))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in {2, 3, 4} else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
