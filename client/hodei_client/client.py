"""The asynchronous client."""

from __future__ import annotations

from hodei_client.job_calls import JobCalls
from hodei_client.log_calls import LogCalls
from hodei_client.provider_calls import ProviderCalls


class Client(JobCalls, LogCalls, ProviderCalls):
    """Talks to a server. An asynchronous context manager.

    All calls of one client belong to one trace: TRACEPARENT's where the environment has one.

    :param server: `host:port`, `http://…` or `https://…`; HODEI_SERVER, else this machine, when empty.
    """
