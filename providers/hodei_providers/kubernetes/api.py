"""Calls of a cluster's API, in its own JSON; nothing else but `credentials` knows the SDK.

The SDK finds the cluster and keeps the credentials fresh. Its generated models are left out: a pod is a dictionary
here, as in a manifest, and a field that the SDK's version does not know yet is not lost.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes.aio.client import ApiClient

from hodei_providers.contract import ProviderUnavailableError
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.credentials import find_cluster
from hodei_providers.kubernetes.errors import NotReadyError, refusal
from hodei_providers.kubernetes.pace import Pace
from hodei_providers.kubernetes.patience import MAX_RETRY_AFTER, Patience, pause_seconds, retry_after
from hodei_providers.registry import ProviderSetupError

Manifest = dict[str, Any]

#: Attempts at one call that the API answers by 429 or 5xx, or not at all; between them it backs off with jitter.
ATTEMPTS = 4
#: For as long a call waits for its turn at most: by the rate, so many wait at once.
MAX_TURN_SECONDS = 30.0
#: Part of the rate that watches take at most, however many there are: the rest is for those whom somebody waits for.
WATCHES = 0.5
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
#: Who made a field, for server-side apply.
FIELD_OWNER = "hodei"
#: What the API says more than this of one line is cut.
MAX_LINE = 16 << 20


class Api:
    """One cluster. An asynchronous context manager.

    :ivar calls: how many calls ended with which code, by verb and code; 0 is no answer.
    :ivar watches: the turns of watches, and of the lists that they begin with, before each has its turn as any call.
    """

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._client: Any = None
        #: How many calls use a client. One that another has taken the place of is closed when its last call has ended:
        #: closed before, it would leave that call waiting for ever.
        self._calling: collections.Counter[Any] = collections.Counter()
        self._pace = Pace(config.api_rate, MAX_TURN_SECONDS)
        self.watches = Pace(config.api_rate * WATCHES)
        self._patience = Patience()
        self.calls: dict[tuple[str, int], int] = {}

    async def __aenter__(self) -> Self:
        """Find the cluster; nothing is asked of it yet.

        :raise ProviderSetupError: there is no kubeconfig, or it can't be used.
        """
        self._client = ApiClient(await find_cluster(self._config))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def get(self, path: str, **query: str) -> Manifest:
        """Read an object or a list."""
        return await self._call("GET", path, query)

    async def create(self, path: str, manifest: Mapping[str, Any], **query: str) -> Manifest:
        """Make an object.

        :raise AlreadyThereError: one of its name is there.
        """
        return await self._call("POST", path, query, manifest)

    async def merge(self, path: str, patch: Mapping[str, Any]) -> Manifest:
        """Change some fields of an object."""
        return await self._call("PATCH", path, {}, patch, content_type=MERGE)

    async def apply(self, path: str, manifest: Mapping[str, Any], *, manager: str = FIELD_OWNER) -> Manifest:
        """Make an object, or bring its fields to what the manifest says; two that do so at once don't meet.

        :param manager: whose fields these are: of the same manager's, those that are not named any more are removed.
        """
        query = {"fieldManager": manager, "force": "true"}
        return await self._call("PATCH", path, query, manifest, content_type=APPLY)

    async def delete(self, path: str, *, grace: int | None = None, uid: str = "") -> None:
        """Delete an object.

        :param uid: only if it is this one.
        """
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._call("DELETE", path, {}, options)

    async def text(self, path: str, **query: str) -> str:
        """Read what is no JSON: a container's output."""
        return (await self._answer("GET", path, query)).decode(errors="replace")

    async def watch(self, path: str, *, seconds: int, **query: str) -> AsyncGenerator[Manifest]:
        """Yield the events of one watch until the API ends it.

        :param seconds: after which the API is to end it.
        :raise GoneError: by an event or at once: list again.
        """
        query |= {"watch": "true", "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"}
        await self.watches.turn()
        # It is for the API to end a watch; one that has gone silent is given up.
        timeout = aiohttp.ClientTimeout(total=seconds + self._config.api_timeout, connect=self._config.api_timeout)
        async with self._open("GET", path, query, timeout=timeout) as response:
            if response.status != 200:
                error = refusal(response.status, await response.read())
                error.retry_after = retry_after(response.headers)
                raise error
            rest = b""
            async for piece in response.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > MAX_LINE:
                    raise ProviderUnavailableError(f"the API's watch sent a line of more than {MAX_LINE} bytes")
                for line in lines:
                    event = _object(line, f"GET {path}")
                    if event.get("type") == "ERROR":
                        told = event["object"]
                        raise refusal(int(told.get("code") or 500), json.dumps(told).encode())
                    yield event

    async def _call(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
    ) -> Manifest:
        return _object(await self._answer(verb, path, query, body, content_type=content_type), f"{verb} {path}")

    async def _answer(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
    ) -> bytes:
        """Call the API; what may be overload is tried again, as every call here may be made twice."""
        timeout = aiohttp.ClientTimeout(total=self._config.api_timeout)
        self._patience.check(verb, path)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._open(verb, path, query, body, content_type=content_type, timeout=timeout) as response:
                    answer: bytes = await response.read()
                    if response.status < 300:
                        return answer
                    error = refusal(response.status, answer)
                    raced = response.status == 409 and isinstance(error, ProviderUnavailableError)
                    soon = raced or isinstance(error, NotReadyError)
                    overloaded = soon or response.status in {401, 429} or response.status >= 500
                    if response.status == 401:
                        await self._renew()
                    if overloaded:
                        error.retry_after = max(error.retry_after, retry_after(response.headers))
            except ProviderUnavailableError as unreachable:
                error, overloaded = unreachable, True
            if error.retry_after > MAX_RETRY_AFTER:
                self._patience.note(verb, path, error)
                raise error
            if not overloaded or attempt == ATTEMPTS:
                raise error
            await asyncio.sleep(pause_seconds(attempt, error.retry_after))
        raise AssertionError  # the loop returns or raises

    @contextlib.asynccontextmanager
    async def _open(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the library's own
        content_type: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._client is not None, "entered"  # noqa: S101 - a provider enters it first
        await self._pace.turn()
        code = 0
        client = self._client
        self._calling[client] += 1
        try:
            method, url, headers, data, _ = await client.param_serialize(
                verb,
                path,
                query_params=list(query.items()),
                header_params={"Content-Type": content_type, "Accept": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await client.rest_client.request(method, url, headers, data, _request_timeout=timeout)
            async with answer.response as response:
                code = response.status
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ProviderUnavailableError(f"the API can't be reached: {error or type(error).__name__}") from error
        finally:
            self.calls[verb, code] = self.calls.get((verb, code), 0) + 1
            self._calling[client] -= 1
            await self._close_unused(client)

    async def _renew(self) -> None:
        """Read the credentials again: they have expired.

        :raise ProviderUnavailableError: they can't be read now; who writes them anew may be about to.
        """
        try:
            found = await find_cluster(self._config)
        except ProviderSetupError as error:
            raise ProviderUnavailableError(f"the credentials have expired, and can't be read again: {error}") from None
        # As it is now: another call may have read them meanwhile.
        old, self._client = self._client, ApiClient(found)
        await self._close_unused(old)

    async def _close_unused(self, client: Any) -> None:
        if not self._calling[client]:
            del self._calling[client]
            if client is not self._client:
                await client.close()

    @property
    def address(self) -> str:
        """Where the cluster's API is, as the kubeconfig says."""
        return str(self._client.configuration.host)


def _object(text: bytes, asked: str) -> Manifest:
    """Read an object of the API's.

    :raise ProviderUnavailableError: it is none; something between this and the API has answered.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ProviderUnavailableError(f"the API answers no object to {asked}")
    return value
