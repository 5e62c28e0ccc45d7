"""What keeps each promise: every protection is taken out, one at a time, and a test is seen to fail.

    python -m hodei_protections            take out each one; minutes
    python -m hodei_protections L04 W16    only these
    python -m hodei_protections --markdown the table in docs/reliability.md

`logs` and `jobs` hold the table; `runner` works on a copy of the tree.
"""

from hodei_protections.protection import Protection
from hodei_protections.table import PROTECTIONS, markdown

__all__ = ["PROTECTIONS", "Protection", "markdown"]
