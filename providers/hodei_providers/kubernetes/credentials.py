"""Where a cluster is, and how it lets the server in: as Kubernetes' own tools find it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.registry import ProviderSetupError


async def find_cluster(config: KubernetesConfig) -> Configuration:
    """Read the kubeconfig: the one that is configured, `KUBECONFIG`, the default file, else the pod's own account.

    :raise ProviderSetupError: there is none of these, or it can't be used.
    """
    found = Configuration()
    # Newer Pythons refuse authorities that lack extensions which no other client of a cluster asks for; many do.
    found.disable_strict_ssl_verification = True
    # Each watch holds a connection for as long as it lasts: no number of them may keep other calls waiting.
    found.connection_pool_maxsize = 0
    file = config.kubeconfig or os.environ.get("KUBECONFIG", "")
    paths = [Path(part) for part in file.split(os.pathsep) if part] or [Path.home() / ".kube" / "config"]
    there = await asyncio.to_thread(lambda: any(path.is_file() for path in paths))
    where = f"HODEI_K8S_KUBECONFIG: {file or paths[0]}"
    if file and not there:
        raise ProviderSetupError(f"{where}: there is no such file")
    try:
        if there:
            context = config.context or await asyncio.to_thread(_current_context, paths)
            await load_kube_config(  # type: ignore[no-untyped-call]  # the SDK declares none here
                os.pathsep.join(map(str, paths)), context or None, found, persist_config=False
            )
        else:
            load_incluster_config(found)  # type: ignore[no-untyped-call]  # the same
    except ConfigException as error:
        if config.context and "contexts list" in str(error):
            listed = os.pathsep.join(map(str, paths))
            raise ProviderSetupError(f"HODEI_K8S_CONTEXT: there is no context {config.context!r} in {listed}") from None
        if not there:
            where = "HODEI_K8S_KUBECONFIG is not set, there is no ~/.kube/config, and this is no pod with an account"
        raise ProviderSetupError(f"{where}: {error}") from None
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ProviderSetupError(f"{where} can't be read: {error}") from None
    return found


def _current_context(paths: Sequence[Path]) -> str:
    """Return the current context of the first of several files that names one: the SDK takes the last one's."""
    for path in paths if len(paths) > 1 else ():
        content = yaml.safe_load(path.read_text()) if path.is_file() else None
        if isinstance(content, dict) and content.get("current-context"):
            return str(content["current-context"])
    return ""
