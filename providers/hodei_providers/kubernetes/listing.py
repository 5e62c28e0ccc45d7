"""Whole lists of the cluster's API, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import GoneError

#: Objects of one page.
PAGE = 500
#: How often a list is begun, before who wants it is to wait.
TRIES = 3


async def list_all(api: Api, path: str, **query: str) -> tuple[list[Mapping[str, Any]], str]:
    """Return all objects of a list, and the version of the list.

    :param query: which of them, such as `labelSelector`.
    :raise GoneError: it grows too old before its last page is read, again and again.
    :raise ProviderError: the cluster can't be asked.
    """
    begun = 1
    found: list[Mapping[str, Any]] = []
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
        found += answer["items"] or []
        metadata = answer["metadata"]
        if not metadata.get("continue"):
            return found, str(metadata.get("resourceVersion", ""))
        page["continue"] = metadata["continue"]
