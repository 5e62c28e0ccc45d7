"""What keeps each promise: every protection is taken out, one at a time, and a test is seen to fail.

    python -m hodei_protections            take out each one; minutes
    python -m hodei_protections L04 W16    only these
    python -m hodei_protections --only kubernetes    only those whose tests' path has that
    python -m hodei_protections --page     write the table into docs/reliability.md

`logs`, `bounds`, `retention`, `secrets`, `jobs`, `workers`, `processes`, `s3` and `kubernetes` hold the table; `runner`
works on a copy of the tree.
"""

from hodei_protections.protection import Protection
from hodei_protections.table import END, PAGE, PROTECTIONS, TABLES, markdown, write_page

__all__ = ["END", "PAGE", "PROTECTIONS", "TABLES", "Protection", "markdown", "write_page"]
