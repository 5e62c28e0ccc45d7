"""Whether a cluster can be used now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hodei_providers.contract import Health, LaunchRequest, ProviderError, QuotaExceededError
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.capacity import Cluster
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.errors import MissingError, NotThereError
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.paths import pods_path
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.spaces import Spaces

#: Seconds that three calls of a cluster in order don't take.
SLOW_SECONDS = 3.0


async def check_health(
    name: str, api: Api, config: KubernetesConfig, infrastructure: Infrastructure, *, spaces: Spaces, cluster: Cluster
) -> Health:
    """Tell whether pods can be listed and made, how long the API takes to say so, and what the cluster has.

    :param name: the provider's.
    :param cluster: what was seen of it last.
    """
    namespace = config.namespace
    probe = make_pod(LaunchRequest("health-probe", "health-probe", "127.0.0.1:1", ""), namespace, config, Owner(name))
    began = time.monotonic()
    try:
        await infrastructure.ensure(namespace)
        await api.get(pods_path(namespace), limit="1")
        try:
            full = await _try_to_make(api, namespace, probe)
        except (NotThereError, MissingError):
            # While it is not there nothing is launched that would find and repair it.
            await infrastructure.ensure(namespace, again=True)
            full = await _try_to_make(api, namespace, probe)
    except ProviderError as error:
        return Health(healthy=False, message="; ".join([str(error), *infrastructure.problems.get(namespace, ())]))
    problems = [line for lines in infrastructure.problems.values() for line in lines]
    if spaces.problem:
        problems.append(spaces.problem)
    took = time.monotonic() - began
    details = [f"listing pods and trying to make one took {took:.2f} s", full, cluster.words()]
    slow = ["the API is slow to answer"] if took > SLOW_SECONDS else []
    return Health(
        healthy=True,
        message="; ".join([*slow, *problems]),
        degraded=bool(slow or problems),
        details="; ".join(filter(None, details)),
        total=cluster.total,
        elastic=not config.fixed_size,
    )


async def _try_to_make(api: Api, namespace: str, probe: Mapping[str, Any]) -> str:
    """Return why there is no room for a pod; empty where there is."""
    try:
        await api.create(pods_path(namespace), probe, dryRun="All")
    except QuotaExceededError as error:
        return str(error)
    return ""
