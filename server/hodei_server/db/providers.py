"""What an operator has said of providers."""

from __future__ import annotations

import enum

from sqlalchemy import insert, select, update

from hodei.v1 import provider_pb2 as wire
from hodei_server.db.schema import providers
from hodei_server.db.transaction import Transaction


class ProviderState(enum.IntEnum):
    """Whether a provider takes jobs; the numbers are the wire's and the database's."""

    ENABLED = wire.PROVIDER_STATE_ENABLED
    #: Takes nothing new, and has workers of before; it is disabled once it has none.
    DRAINING = wire.PROVIDER_STATE_DRAINING
    DISABLED = wire.PROVIDER_STATE_DISABLED


def provider_states(tx: Transaction) -> dict[str, ProviderState]:
    """Return the state of every provider that was ever changed."""
    rows = tx.execute(select(providers.c.name, providers.c.state)).mappings()
    return {row["name"]: ProviderState(row["state"]) for row in rows}


def end_drain(tx: Transaction, name: str) -> bool:
    """Disable a provider that is drained; return False where it is not being drained any more."""
    drained = (providers.c.name == name) & (providers.c.state == int(ProviderState.DRAINING))
    values = {"state": int(ProviderState.DISABLED), "changed_at": tx.now}
    return bool(tx.execute(update(providers).where(drained).values(**values)).rowcount)


def set_provider_state(tx: Transaction, name: str, state: ProviderState) -> None:
    """Keep what an operator says."""
    values = {"state": int(state), "changed_at": tx.now}
    if not tx.execute(update(providers).where(providers.c.name == name).values(**values)).rowcount:
        tx.execute(insert(providers), {"name": name, **values})
