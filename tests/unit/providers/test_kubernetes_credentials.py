"""Which cluster a server finds, by its settings and by what Kubernetes' own tools go by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.api import Api
from hodei_providers.registry import ProviderSetupError


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Be a user without a kubeconfig, outside of a cluster; return what writes one that leads to a host."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".kube").mkdir()

    def write(file: str, host: str) -> Path:
        named = {"name": host}
        content = {
            "current-context": host,
            "contexts": [named | {"context": {"cluster": host, "user": host}}],
            "clusters": [named | {"cluster": {"server": f"https://{host}"}}],
            "users": [named | {"user": {"token": "a-token"}}],
        }
        path = tmp_path / file
        path.write_text(json.dumps(content))
        return path

    return write


async def found(**options: str) -> str:
    """Return the cluster that a configuration leads to."""
    async with Api(KubernetesConfig(**options)) as api:  # type: ignore[arg-type]  # texts are all it takes here
        return api.address


async def test_the_setting_comes_before_kubeconfig_and_that_before_the_default_file(
    written: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes' own tools have it; several files are one, and the first's context is the current one."""
    with pytest.raises(ProviderSetupError, match=r"HODEI_K8S_KUBECONFIG is not set, there is no ~/.kube/config"):
        await found()
    written(".kube/config", "default")
    assert await found() == "https://default"
    first, second, third = (written(name, name) for name in ("first", "second", "third"))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    assert await found() == "https://first"
    assert await found(context="second") == "https://second"
    assert await found(kubeconfig=str(third)) == "https://third"


async def test_a_cluster_that_is_not_found_names_the_setting(written: Callable[[str, str], Path]) -> None:
    """The file, or the context in it."""
    with pytest.raises(ProviderSetupError, match=r"^HODEI_K8S_KUBECONFIG: /nowhere: there is no such file"):
        await found(kubeconfig="/nowhere")
    file = written("config", "here")
    with pytest.raises(ProviderSetupError, match=f"^HODEI_K8S_CONTEXT: there is no context 'elsewhere' in {file}"):
        await found(kubeconfig=str(file), context="elsewhere")
