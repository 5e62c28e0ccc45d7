"""What a worker's containers ask of their node, as pure functions of what is asked and of the configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

from hodei.quantities import format_size, parse_cpu, parse_size
from hodei_providers.contract import LaunchRequest, UnsupportedRequestError
from hodei_providers.kubernetes.config import KubernetesConfig

Manifest = dict[str, Any]

#: What copying the agent takes: processors in thousandths, bytes of memory.
AGENT_CPU_MILLIS, AGENT_MEMORY = 100, 64 << 20


def make_resources(request: LaunchRequest, config: KubernetesConfig) -> Manifest:
    """Return what a worker's container gets: what is asked as request and limit both, else the defaults (W37).

    :raise UnsupportedRequestError: no GPU of the type that is asked for is configured.
    """
    asked = request.resources
    spool = parse_size(config.spool_storage)
    storage = [parse_size(config.default_storage_request), parse_size(config.default_storage_limit)]
    if asked.disk_bytes:
        storage = [asked.disk_bytes + spool, asked.disk_bytes]
    memory = [parse_size(config.default_memory_request), parse_size(config.default_memory_limit)]
    if asked.memory_bytes:
        memory = [asked.memory_bytes + parse_size(config.agent_memory)] * 2
    cpu = [parse_cpu(config.default_cpu_request), parse_cpu(config.default_cpu_limit)]
    if asked.cpu_millis:
        cpu = [asked.cpu_millis] * 2
    requests = {"cpu": f"{cpu[0]}m", "memory": format_size(memory[0]), "ephemeral-storage": format_size(storage[0])}
    limits = {
        "cpu": f"{cpu[1]}m",
        "memory": format_size(memory[1]),
        "ephemeral-storage": format_size(storage[1] + spool),
    }
    if asked.gpu_count:
        resource = gpu_resource(request, config)
        requests[resource] = limits[resource] = str(asked.gpu_count)
    return {"requests": requests, "limits": limits}


def gpu_toleration(resource: str) -> dict[str, str]:
    """Return what lets a pod on nodes that keep others away from their GPUs, as is usual there."""
    return {"key": resource, "operator": "Exists", "effect": "NoSchedule"}


def gpu_resource(request: LaunchRequest, config: KubernetesConfig) -> str:
    """Return the extended resource of the GPUs that are asked for.

    :raise UnsupportedRequestError: none of the type is configured.
    """
    kind = request.resources.gpu_type or "default"
    if kind not in config.gpu_resources:
        known = ", ".join(sorted(config.gpu_resources)) or "none"
        field = "resources.gpu_type" if request.resources.gpu_type else "resources.gpu_count"
        raise UnsupportedRequestError(field, f"there is no GPU of type {kind!r} in this cluster; known are: {known}")
    return config.gpu_resources[kind]


def make_agent_resources(request: LaunchRequest, config: KubernetesConfig) -> Manifest:
    """Return what the init container gets that brings the agent: never more than the worker's own container.

    The greater of both is what a node and a quota count.
    """
    without_gpus = dataclasses.replace(request.resources, gpu_count=0, gpu_type="")
    worker = make_resources(dataclasses.replace(request, resources=without_gpus), config)
    requests = {
        **worker["requests"],
        "cpu": f"{min(AGENT_CPU_MILLIS, parse_cpu(worker['requests']['cpu']))}m",
        "memory": format_size(min(AGENT_MEMORY, parse_size(worker["requests"]["memory"]))),
    }
    return {"requests": requests, "limits": worker["limits"]}
