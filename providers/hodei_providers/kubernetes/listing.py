"""Whole lists of the cluster's API, page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import GoneError

T = TypeVar("T")
Manifest = Mapping[str, Any]

#: Objects of one page: pods are some kilobytes each, and nothing else is done while a page of them is read.
PAGE = 200
#: How often a list is begun, before who wants it is to wait.
TRIES = 3


async def list_all(api: Api, path: str, **query: str) -> tuple[list[Manifest], str]:
    """Return all objects of a list, and the version of the list; see `list_kept`."""
    return await list_kept(api, path, lambda each: each, **query)


async def list_kept(api: Api, path: str, keep: Callable[[Manifest], T], **query: str) -> tuple[list[T], str]:
    """Return what is to be kept of each object of a list, and the version of the list.

    No more than a page of the objects themselves is in memory.

    :param keep: makes of an object what is kept of it.
    :param query: which of them, such as `labelSelector`.
    :raise GoneError: it grows too old before its last page is read, again and again.
    :raise ProviderError: the cluster can't be asked.
    """
    begun = 1
    found: list[T] = []
    page = {"limit": str(PAGE)}
    while True:
        try:
            answer = await api.get(path, **query, **page)
        except GoneError:
            # The list grew too old between two pages.
            if begun == TRIES:
                raise
            begun += 1
            found.clear()
            page.pop("continue", None)
            continue
        found += [keep(each) for each in answer["items"] or []]
        metadata = answer["metadata"]
        del answer
        if not metadata.get("continue"):
            return found, str(metadata.get("resourceVersion", ""))
        page["continue"] = metadata["continue"]
