"""Whole lists of the cluster's API, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import GoneError

#: Objects of one page.
PAGE = 500


async def list_all(api: Api, path: str, **query: str) -> tuple[list[Mapping[str, Any]], str]:
    """Return all objects of a list, and the version of the list.

    :param query: which of them, such as `labelSelector`.
    :raise ProviderError: the cluster can't be asked.
    """
    found: list[Mapping[str, Any]] = []
    page = {"limit": str(PAGE)}
    while True:
        try:
            answer = await api.get(path, **query, **page)
        except GoneError:
            # The list grew too old between two pages.
            found.clear()
            page.pop("continue", None)
            continue
        found += answer["items"] or []
        metadata = answer["metadata"]
        if not metadata.get("continue"):
            return found, str(metadata.get("resourceVersion", ""))
        page["continue"] = metadata["continue"]
