"""What Python programs import to submit jobs, follow their logs and wait for them.

    async with Client() as hodei:
        job = await hodei.submit(["python", "train.py"], run_timeout=3600)
        async for event in hodei.logs(job):
            if isinstance(event, Chunk):
                sys.stdout.buffer.write(event.data)
        outcome = await hodei.wait(job)

`PlainClient` does the same without asyncio.
"""

from hodei_client.client import Client
from hodei_client.errors import (
    ConflictError,
    FieldViolation,
    HodeiError,
    InvalidRequestError,
    LogGapError,
    LogIntegrityError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    ResourceExhaustedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
)
from hodei_client.logs import STDERR, STDOUT, SYSTEM, AttemptEnd, Chunk, Cut, LogEvent, LogPlace
from hodei_client.plain import PlainClient
from hodei_client.search import Line, SearchEvent
from hodei_client.settings import ClientSettings, ClientSettingsError, read_settings

__all__ = [
    "STDERR",
    "STDOUT",
    "SYSTEM",
    "AttemptEnd",
    "Chunk",
    "Client",
    "ClientSettings",
    "ClientSettingsError",
    "ConflictError",
    "Cut",
    "FieldViolation",
    "HodeiError",
    "InvalidRequestError",
    "Line",
    "LogEvent",
    "LogGapError",
    "LogIntegrityError",
    "LogPlace",
    "NotFoundError",
    "PermissionDeniedError",
    "PlainClient",
    "PreconditionError",
    "ResourceExhaustedError",
    "SearchEvent",
    "ServerError",
    "UnauthenticatedError",
    "UnavailableError",
    "read_settings",
]
