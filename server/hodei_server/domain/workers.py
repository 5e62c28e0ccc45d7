"""Where a worker is."""

from __future__ import annotations

import enum

from hodei.v1 import provider_pb2 as wire


class WorkerState(enum.IntEnum):
    """Where a worker is; the numbers are the wire's and the database's."""

    STARTING = wire.WORKER_STATE_STARTING
    IDLE = wire.WORKER_STATE_IDLE
    BUSY = wire.WORKER_STATE_BUSY
    DRAINING = wire.WORKER_STATE_DRAINING
    GONE = wire.WORKER_STATE_GONE


#: States of workers whose removal is not confirmed: queries that name them find those few by an index.
LIVE_STATES = tuple(state for state in WorkerState if state is not WorkerState.GONE)
