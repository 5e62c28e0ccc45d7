"""Kill tests: a load of jobs with known output, and a hand that hurts what runs them.

    python -m hodei_torture --seconds 120 --seed 7

The account is kept outside Hodei: each run of a job leaves marks in a folder of its own. `site` is the server, its disk
and the ways to it; `load` submits and follows, `reading` knows what must be read; `hand` does the harm; `account`
compares at the end.
"""

from hodei_torture.run import run

__all__ = ["run"]
