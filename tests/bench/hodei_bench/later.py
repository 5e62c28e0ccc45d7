"""Figures of benches that were run after the others, beside theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def added(document: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's document with the benches of a later one in place of its own, or beside them.

    Each of them tells when it was run, and how busy the machine was: `later`, by the bench's name.
    """
    when = {"date": later["date"], "load_before": later["machine"]["load_before"]}
    benches = list(dict.fromkeys(result["bench"] for result in later["results"]))
    kept = [result for result in document["results"] if result["bench"] not in benches]
    places = {name: place for place, name in enumerate(later["titles"])}
    return {
        **document,
        "titles": {**document["titles"], **{name: later["titles"][name] for name in benches}},
        "results": sorted([*kept, *later["results"]], key=lambda result: places.get(result["bench"], -1)),
        "failures": {**document["failures"], **later["failures"]},
        "seconds": {**document["seconds"], **later["seconds"]},
        "later": {**document.get("later", {}), **dict.fromkeys(benches, when)},
    }
