"""Benches: what Hodei takes, beside what the machine takes for the bare work in the same run.

    python -m hodei_bench --json docs/performance.json       all of them; a quarter of an hour at most
    python -m hodei_bench --markdown docs/performance.json > docs/performance.md
    python -m hodei_bench --only log jobs --short
    python -m hodei_bench --only archive --add docs/performance.json      in place of that bench's figures there
    python -m hodei_bench --only large --add docs/performance.json        runs only where it is named: it wants 20 GiB
    python -m hodei_bench --profile docs/performance         where the processor time goes; --only works here, too

Prints a table at the end and, if asked to, writes a JSON file, of which the page of figures is made. The exit code is 0
unless a bench failed: a figure that misses its aim is told, not punished, as the machine may be busy.
"""

from __future__ import annotations

import sys

from hodei_bench.command import main

if __name__ == "__main__":
    sys.exit(main())
