"""Points at which a test may have this process die, to see that what is left half-done is found.

Each stands in the code where it means something; its name is what the variable has to hold. Without the variable they
do nothing.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "HODEI_TEST_FAULT_POINT"


def fault_point(name: str) -> None:
    """Die here by SIGKILL, if the variable names this point."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
