"""Take protections out, one at a time; ends with 1 when a test did not notice."""

from __future__ import annotations

import argparse
import queue
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hodei_protections.protection import Protection
from hodei_protections.runner import copy_tree, take_out
from hodei_protections.table import PROTECTIONS, write_page


def main() -> int:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m hodei_protections", description=__doc__)
    parser.add_argument("ids", nargs="*", help="failure modes; all of them when none is named")
    parser.add_argument("--page", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--parallel", type=int, default=2, help="tests at once (2)")
    options = parser.parse_args()
    if options.page:
        write_page()
        return 0
    chosen = [each for each in PROTECTIONS if not options.ids or each.id in options.ids]
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="hodei-protections-") as folder:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(options.parallel):
            copy_tree(Path(folder) / str(number))
            trees.put(Path(folder) / str(number))

        def take_one_out(each: Protection) -> tuple[bool, str]:
            tree = trees.get()
            try:
                return take_out(each, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(options.parallel) as pool:
            for each, (noticed, how) in zip(chosen, pool.map(take_one_out, chosen), strict=True):
                unnoticed += not noticed
                sys.stdout.write(f"{each.id} {'noticed' if noticed else 'NOT NOTICED'}: {how[:200]}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} taken out, {unnoticed} not noticed\n")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
