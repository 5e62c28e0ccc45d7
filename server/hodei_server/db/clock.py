"""A clock that was moved while no server ran: what waits for a moment is moved with it, what would expire waits.

The clock that rows go by is compared with the time since the machine's boot, which nobody moves. When both have parted
between two looks of the same boot, the clock was set. Whether it is right now, no program can tell: what is under way
goes on for as long as it would have, and logs and jobs whose time would have come are kept until somebody confirms it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Column, Table, Update, select, update

from hodei_server.db.schema import attempts, installation, jobs, workers
from hodei_server.db.transaction import Transaction

#: The clock may be off by so much from one look to the next, in microseconds, before it counts as moved.
TOLERANCE_MICROS = 60_000_000
#: Less than this is not worth a write.
_DRIFT_MICROS = 1_000_000


def _carry(table: Table, over: Column[int], *columns: Column[int]) -> tuple[Table, Column[int], Sequence[Column[int]]]:
    return table, over, columns


#: What counts from or to a moment, in rows that are not over.
_CARRIED = (
    _carry(
        jobs,
        jobs.c.ended_at,
        jobs.c.submitted_at,
        jobs.c.queue_rank,
        jobs.c.queue_deadline,
        jobs.c.started_at,
        jobs.c.cancel_requested_at,
    ),
    _carry(
        attempts,
        attempts.c.ended_at,
        attempts.c.created_at,
        attempts.c.start_deadline,
        attempts.c.run_deadline,
        attempts.c.started_at,
    ),
    _carry(
        workers,
        workers.c.gone_at,
        workers.c.created_at,
        workers.c.otp_expires_at,
        workers.c.registered_at,
        workers.c.hello_at,
        workers.c.last_seen_at,
    ),
)


def settle_clock(tx: Transaction, boot_id: str, offset: int) -> int:
    """Compare the clock with what it was at the last look; where it was moved, move what is under way with it.

    :param boot_id: of this machine's boot.
    :param offset: from its elapsed time to the database's clock, in microseconds.
    :return: by how much the clock was moved, in microseconds; 0 where it was not, or where nothing can tell.
    """
    known = tx.execute(select(installation)).one()
    step = offset - known.clock_offset if known.clock_boot_id == boot_id else 0
    if abs(step) <= TOLERANCE_MICROS:
        if known.clock_boot_id != boot_id or abs(step) > _DRIFT_MICROS:
            tx.execute(update(installation).values(clock_boot_id=boot_id, clock_offset=offset))
        return 0
    for table, over, columns in _CARRIED:
        moved = {column.name: column + step for column in columns}
        tx.execute(update(table).where(over.is_(None)).values(moved))
    tx.execute(_wait(step))
    # A clock that was set back to what it was is right again.
    total = known.clock_moved + step
    tx.execute(
        update(installation).values(clock_offset=offset, clock_moved=total if abs(total) > TOLERANCE_MICROS else 0)
    )
    return step


def _wait(step: int) -> Update:
    """Return what moves the back-off of retries; 0 stays none."""
    waiting = jobs.c.ended_at.is_(None), jobs.c.not_before > 0
    return update(jobs).where(*waiting).values(not_before=jobs.c.not_before + step)


def clock_moved(tx: Transaction, boot_id: str, offset: int) -> int:
    """Return by how much the clock was moved and nobody has confirmed it, in microseconds; note how it drifts.

    :param offset: as it is now.
    """
    known = tx.execute(select(installation)).one()
    step = offset - known.clock_offset
    if known.clock_boot_id != boot_id or abs(step) <= TOLERANCE_MICROS:
        settle_clock(tx, boot_id, offset)
        return int(known.clock_moved)
    return int(known.clock_moved) or step


def unconfirmed_micros(tx: Transaction) -> int:
    """Return by how much the clock was moved before this server's start and nobody has confirmed it."""
    return int(tx.execute(select(installation.c.clock_moved)).scalar_one_or_none() or 0)


def confirm_clock(tx: Transaction) -> int:
    """Have logs and jobs go by the clock as it is; return by how much it was moved, in microseconds."""
    moved = unconfirmed_micros(tx)
    tx.execute(update(installation).values(clock_moved=0))
    return moved
