"""What keeps a server from starting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hodei_server.app import STARTUP_ERRORS, Server
from hodei_server.settings import Settings

NOWHERE = "/no/such/file"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"database_url": "s3cret@db"}, r"^HODEI_DATABASE_URL: it is no URL"),
        ({"database_url": "mysql://hodei:s3cret@db/hodei"}, r"^HODEI_DATABASE_URL: mysql is not a database"),
        (
            {"database_url": "postgresql+asyncpg://hodei:s3cret@db/hodei"},
            r"^HODEI_DATABASE_URL: postgresql\+asyncpg",
        ),
        ({"database_url": "postgresql://hodei:s3cret@127.0.0.1:1/hodei"}, r"^HODEI_DATABASE_URL: .* can't be reached"),
        ({"database_url": f"sqlite:///{NOWHERE}/hodei.db"}, r"^HODEI_DATABASE_URL: .* can't be reached"),
        ({"tls_cert": NOWHERE, "tls_key": __file__}, rf"^HODEI_TLS_CERT: {NOWHERE} can't be read: No such file"),
        ({"tls_cert": __file__, "tls_key": NOWHERE}, rf"^HODEI_TLS_KEY: {NOWHERE} can't be read"),
        ({"worker_tls_cert": __file__, "worker_tls_key": NOWHERE}, rf"^HODEI_WORKER_TLS_KEY: {NOWHERE} can't be read"),
        ({"worker_tls_ca": NOWHERE}, rf"^HODEI_WORKER_TLS_CA: {NOWHERE} can't be read"),
    ],
)
async def test_what_keeps_a_server_from_starting_is_told_by_the_name_of_its_setting(
    make_settings: Callable[..., Settings], settings: dict[str, str], message: str
) -> None:
    """In one line for people, without a password."""
    with pytest.raises(STARTUP_ERRORS, match=message) as told:
        async with Server(make_settings(**settings)):
            pass
    assert "s3cret" not in str(told.value)
