"""The patch of pods that the settings may hold, without a cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hodei_providers.config import ConfigError
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.metadata import refused_names
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.template_patch import merge_patch
from hodei_providers.testing import make_request


def patched(patch: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return a pod that a patch was applied to."""
    config = KubernetesConfig(pod_template_patch=patch, **settings)
    return make_pod(make_request(image="debian:stable-slim"), "space", config, Owner("cluster"))


def test_objects_are_merged_and_lists_by_the_names_of_their_elements() -> None:
    """As Kubernetes does it; what is patched is left as it was."""
    original = {
        "spec": {
            "a": {"b": 1, "c": 2},
            "volumes": [{"name": "x", "emptyDir": {}}, {"name": "y", "emptyDir": {"sizeLimit": "1Gi"}}],
            "tolerations": [{"key": "old"}],
        }
    }
    before = copy.deepcopy(original)
    patch = {
        "spec": {
            "a": {"b": None, "d": 3},
            "volumes": [
                {"name": "y", "emptyDir": {"medium": "Memory"}},
                {"name": "z"},
                {"name": "x", "$patch": "delete"},
            ],
            "tolerations": [{"key": "new"}],
        }
    }
    assert merge_patch(original, patch)["spec"] == {
        "a": {"c": 2, "d": 3},
        "volumes": [{"name": "y", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}, {"name": "z"}],
        "tolerations": [{"key": "new"}],
    }
    assert original == before
    assert merge_patch(original, {"spec": {"a": {"$patch": "replace", "e": 1}}})["spec"]["a"] == {"e": 1}
    assert "a" not in merge_patch(original, {"spec": {"a": {"$patch": "delete"}}})["spec"]
    replaced = merge_patch(original, {"spec": {"volumes": [{"$patch": "replace"}, {"name": "only"}]}})
    assert replaced["spec"]["volumes"] == [{"name": "only"}]


def test_a_patch_reaches_the_pod_beside_what_is_hodeis() -> None:
    """Labels, a sidecar, variables, mounts, and what there is no setting for."""
    pod = patched(
        {
            "metadata": {"labels": {"team": "a"}, "annotations": {"sidecar.example/inject": "no"}},
            "spec": {
                "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
                "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
                "containers": [
                    {
                        "name": "worker",
                        "env": [{"name": "HTTPS_PROXY", "value": "http://127.0.0.1:1"}],
                        "volumeMounts": [{"name": "certificates", "mountPath": "/etc/ssl/own"}],
                    }
                ],
                "volumes": [{"name": "certificates", "configMap": {"name": "certificates"}}],
            },
        }
    )
    assert pod["metadata"]["labels"].items() >= {"team": "a", "app": "hodei-jobs-worker"}.items()
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["agent", "proxy"]
    (worker,) = pod["spec"]["containers"]
    assert worker["image"] == "debian:stable-slim"
    assert {"HTTPS_PROXY", "HODEI_WORKER_ID"} <= {each["name"] for each in worker["env"]}
    assert {"certificates", "hodei-worker"} <= {each["name"] for each in worker["volumeMounts"]}
    assert pod["spec"]["dnsConfig"]


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"kind": "Job"}, "kind"),
        ({"metadata": {"name": "mine"}}, "metadata.name"),
        ({"metadata": {"finalizers": ["a/b"]}}, "metadata.finalizers"),
        ({"metadata": {"labels": {"hodei.io/instance": "x"}}}, "metadata.labels['hodei.io/instance']"),
        ({"metadata": {"labels": {"app": None}}}, "metadata.labels['app']"),
        ({"metadata": {"labels": {"team": "no value"}}}, "metadata.labels['team']"),
        ({"metadata": {"annotations": None}}, "metadata.annotations"),
        ({"spec": None}, "spec"),
        ({"spec": {"$patch": "replace"}}, "spec.$patch"),
        ({"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy"),
        ({"spec": {"serviceAccountName": "admin"}}, "spec.serviceAccountName"),
        ({"spec": {"automountServiceAccountToken": True}}, "spec.automountServiceAccountToken"),
        ({"spec": {"activeDeadlineSeconds": 1}}, "spec.activeDeadlineSeconds"),
        ({"spec": {"securityContext": {"fsGroup": 0}}}, "spec.securityContext.fsGroup"),
        ({"spec": {"containers": None}}, "spec.containers"),
        ({"spec": {"containers": [{"$patch": "replace"}]}}, "spec.containers"),
        ({"spec": {"containers": [{"name": "other", "image": "a"}]}}, "spec.containers[other]"),
        ({"spec": {"containers": [{"name": "worker", "$patch": "delete"}]}}, "spec.containers[worker].$patch"),
        ({"spec": {"containers": [{"name": "worker", "image": "a"}]}}, "spec.containers[worker].image"),
        ({"spec": {"containers": [{"name": "worker", "command": ["a"]}]}}, "spec.containers[worker].command"),
        ({"spec": {"containers": [{"name": "worker", "resources": {}}]}}, "spec.containers[worker].resources"),
        ({"spec": {"containers": [{"name": "worker", "envFrom": []}]}}, "spec.containers[worker].envFrom"),
        ({"spec": {"containers": [{"name": "worker", "env": [{"name": "HODEI_WORKER_ID"}]}]}}, "HODEI_WORKER_ID"),
        ({"spec": {"containers": [{"name": "worker", "env": [{"$patch": "replace"}]}]}}, "spec.containers[worker].env"),
        ({"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": "/run/hodei"}]}]}}, "/run/hodei"),
        ({"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": "/"}]}]}}, "mount over /"),
        *(
            ({"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": path}]}]}}, f"over {path}")
            for path in (
                "/run//hodei/credentials",
                "/opt/../run/hodei",
                "run/hodei/",
                "//",
                "/tmp/.",
                "/opt/hodei-agent/",
            )
        ),
        ({"spec": {"initContainers": [{"name": "agent", "image": "a"}]}}, "spec.initContainers[agent]"),
        ({"spec": {"volumes": [{"name": "hodei-tmp", "$patch": "delete"}]}}, "spec.volumes[hodei-tmp]"),
        ({"spec": {"volumes": [{"emptyDir": {}}]}}, "expected a name"),
        ({"spec": {"volumes": ["x"]}}, "expected objects"),
        ({"spec": {"affinity": {"$retainKeys": ["a"]}}}, "$retainKeys"),
        ({"spec": {"affinity": {"$patch": "explode"}}}, "explode"),
    ],
)
def test_what_a_patch_may_not_change_is_named(patch: dict[str, Any], path: str) -> None:
    """At the start, with the setting: who a pod is, what it runs, what it may, how it ends."""
    with pytest.raises(ConfigError) as caught:
        KubernetesConfig(pod_template_patch=patch)
    assert str(caught.value).startswith("HODEI_K8S_POD_TEMPLATE_PATCH: ")
    assert path in str(caught.value).split("can't be used: ")[-1]


def test_a_job_does_not_replace_what_the_patch_sets() -> None:
    """Its label is refused by name."""
    config = KubernetesConfig(pod_template_patch={"metadata": {"labels": {"team": "a"}}})
    assert "POD_TEMPLATE_PATCH" in refused_names({"team": "b"}, {}, config)["labels['team']"]
