"""Take protections out, one at a time; ends with 1 when a test did not notice, or fails with its protection, too."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from hodei_protections.runner import control, copy_tree, judge, take_out
from hodei_protections.table import PROTECTIONS, write_page

T = TypeVar("T")


def main() -> int:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m hodei_protections", description=__doc__)
    parser.add_argument("ids", nargs="*", help="failure modes; all of them when none is named")
    parser.add_argument("--only", default="", metavar="PART", help="those whose tests' path has that part")
    parser.add_argument("--page", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--parallel", type=int, default=2, help="tests at once (2)")
    options = parser.parse_args()
    if options.page:
        write_page()
        return 0
    chosen = [each for each in PROTECTIONS if (not options.ids or each.id in options.ids) and options.only in each.test]
    for name in sorted({each.needs for each in chosen if each.needs and each.needs not in os.environ}):
        untried = [each.id for each in chosen if each.needs == name]
        sys.stdout.write(f"not tried, as {name} is not set: {' '.join(untried)}\n")
        chosen = [each for each in chosen if each.needs != name]
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="hodei-protections-") as folder:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(options.parallel):
            copy_tree(Path(folder) / str(number))
            trees.put(Path(folder) / str(number))

        def in_a_tree(work: Callable[[Path], T]) -> T:
            tree = trees.get()
            try:
                return work(tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(options.parallel) as pool:
            tests = list(dict.fromkeys(each.test for each in chosen))
            whole = dict(zip(tests, pool.map(lambda test: in_a_tree(partial(control, test)), tests), strict=True))
            absent = pool.map(lambda each: in_a_tree(partial(take_out, each)), chosen)
            for each, outcome in zip(chosen, absent, strict=True):
                noticed, how = judge(whole[each.test], outcome)
                unnoticed += not noticed
                sys.stdout.write(f"{each.id} {'noticed' if noticed else 'NOT NOTICED'}: {how[:200]}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} taken out, {unnoticed} not noticed\n")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
