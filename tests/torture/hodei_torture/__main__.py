"""Kill tests from the command line; ends with 1 when anything was wrong."""

from __future__ import annotations

import argparse
import random
import sys

from hodei_torture.run import run


def main() -> int:
    """Run once."""
    parser = argparse.ArgumentParser(prog="python -m hodei_torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the hand does harm (60)")
    parser.add_argument("--kills", type=int, default=0, help="go on until so many processes were killed")
    parser.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(1 << 32),
        help="of jobs and accidents, not of when they meet",
    )
    parser.add_argument(
        "--s3",
        action="store_true",
        help="sealed logs go to S3, which is harmed, too: AWS_ENDPOINT_URL names a server and AWS_* who may use it; "
        "HODEI_TEST_S3_STOP and HODEI_TEST_S3_START, where they are set, are commands that kill it and start it again",
    )
    options = parser.parse_args()
    return 1 if run(options.seed, options.seconds, kills=options.kills, s3=options.s3) else 0


if __name__ == "__main__":
    sys.exit(main())
