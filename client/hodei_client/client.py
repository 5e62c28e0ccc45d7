"""The asynchronous client."""

from __future__ import annotations

from hodei_client.job_calls import JobCalls
from hodei_client.log_calls import LogCalls
from hodei_client.provider_calls import ProviderCalls


class Client(JobCalls, LogCalls, ProviderCalls):
    """Talks to a server. An asynchronous context manager.

    All calls of one client belong to one trace: TRACEPARENT's where the environment has one.

    Every call raises a `HodeiError` of the kinds that `hodei_client.errors` draws: `NotFoundError` for a job that isn't
    there, `UnavailableError` where there is no server. Calls are made again where the server is away for a moment;
    follows, searches and watches go on for `ClientSettings.patience` seconds after their connection is lost.

    :param server: `host:port`, `http://…` or `https://…`; HODEI_SERVER, else this machine, when empty.
    :param settings: in place of `server` and the environment.
    :raise hodei.address.AddressError: the address can't be read.
    :raise hodei.transport.PlaintextRefusedError: on entering; the server is on another machine and without TLS.
    """
