"""The names, labels and annotations of a worker's pod, without a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hodei_providers.contract import LaunchRequest, Purpose
from hodei_providers.kubernetes import KubernetesConfig, names
from hodei_providers.kubernetes.metadata import make_job_patch, refused_names
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.testing import make_request

PURPOSE = {"tenant": "acme", "job": "j1", "attempt": "2", "attempt-uid": "u1"}


def metadata_of(request: LaunchRequest) -> dict[str, Any]:
    """Return a pod's metadata as the API would be sent it."""
    made = make_pod(request, "space", KubernetesConfig(), Owner("cluster", b"an authority"))
    metadata: dict[str, Any] = json.loads(json.dumps(made["metadata"]))
    return metadata


def test_it_is_named_and_labelled_by_its_worker() -> None:
    """W11, W12: found by the installation, and by nobody else."""
    labels = {"tenant": "acme", "job": "j1", "attempt": "2", "attempt-uid": "u1"}
    request = make_request(worker_id="w42", labels=labels)
    metadata = metadata_of(request)
    assert (metadata["name"], metadata["namespace"]) == ("hodei-worker-w42", "space")
    assert (
        metadata["labels"].items()
        >= {
            "app": "hodei-jobs-worker",
            "hodei.io/managed": "true",
            "hodei.io/provider": "Kubernetes",
            "hodei.io/worker-id": "w42",
            "hodei.io/instance": request.installation_id,
            "hodei.io/tenant": "acme",
            "hodei.io/job": "j1",
            "hodei.io/attempt": "2",
            "hodei.io/attempt-uid": "u1",
            "app.kubernetes.io/name": "hodei-jobs-worker",
            "app.kubernetes.io/managed-by": "hodei",
        }.items()
    )
    assert metadata["annotations"] == {
        "hodei.io/provider-id": "cluster",
        "hodei.io/server-ca": "an authority",
        "hodei.io/asked": "{}",
    }


def test_long_names_are_cut_with_a_hash_and_kept_in_annotations() -> None:
    """W27: two that begin alike stay two; the whole name is there."""
    first, second = (make_request(worker_id="W" + "x" * 80 + end, labels={"tenant": "t" * 70}) for end in "ab")
    made = [metadata_of(request) for request in (first, second)]
    assert len({each["name"] for each in made}) == 2
    for request, each in zip((first, second), made, strict=True):
        assert len(each["name"]) <= 63
        assert all(not names.label_value_error(value) for value in each["labels"].values())
        assert each["annotations"]["hodei.io/worker-id"] == request.worker_id
        assert each["annotations"]["hodei.io/tenant"] == "t" * 70


def test_the_jobs_own_names_are_on_its_pod() -> None:
    """Beside Hodei's, and never in the place of one of them."""
    request = make_request(
        labels=PURPOSE, job_labels={"team": "a", "x.example/stage": "dev"}, job_annotations={"note": "any \n text"}
    )
    metadata = metadata_of(request)
    assert metadata["labels"].items() >= {"team": "a", "x.example/stage": "dev", "hodei.io/job": "j1"}.items()
    assert metadata["annotations"].items() >= {"note": "any \n text", "hodei.io/provider-id": "cluster"}.items()
    sly = make_request(job_labels={"app": "mine", "hodei.io/instance": "another"})
    assert metadata_of(sly)["labels"]["hodei.io/instance"] == sly.installation_id
    assert metadata_of(sly)["labels"]["app"] == "hodei-jobs-worker"


def test_a_pod_of_many_jobs_has_the_names_of_none_until_it_is_given_them() -> None:
    """What is applied has all of them, with the whole of what is cut: the next job's names replace it."""
    request = make_request(labels=PURPOSE, job_labels={"team": "a"}, max_jobs=0)
    labels = metadata_of(request)["labels"]
    assert labels["hodei.io/tenant"] == "acme"
    assert not {"team", "hodei.io/job", "hodei.io/attempt"} & labels.keys()
    purpose = Purpose({**PURPOSE, "job": "j" * 70}, {"team": "a"}, {"note": "b"})
    metadata = make_job_patch("hodei-worker-w1", "space", purpose)["metadata"]
    assert metadata["labels"].keys() == {"team", *(f"hodei.io/{each}" for each in PURPOSE)}
    assert metadata["annotations"] == {"note": "b", "hodei.io/job": "j" * 70}


@pytest.mark.parametrize("key", ["k8s.v1.cni.cncf.io/networks", "iam.amazonaws.com/role", "tier", "jobs.example"])
def test_a_setting_says_how_keys_of_a_job_begin(key: str) -> None:
    """W38: what other controllers obey is refused by its name, labels and annotations; without it nothing is."""
    config = KubernetesConfig(job_key_prefixes=("jobs.example.com/", "team"))
    given = {"jobs.example.com/stage": "dev", "team": "a"}
    for field in ("labels", "annotations"):
        labels, annotations = ({**given, key: "x"}, given) if field == "labels" else (given, {**given, key: "x"})
        found = refused_names(labels, annotations, config)
        assert list(found) == [f"{field}[{key!r}]"]
        assert "HODEI_K8S_JOB_KEY_PREFIXES" in found[f"{field}[{key!r}]"]
        assert refused_names(labels, annotations, KubernetesConfig()) == {}


@pytest.mark.parametrize(
    ("labels", "annotations", "field", "reason"),
    [
        ({"app": "mine"}, {}, "labels['app']", "Hodei's own"),
        ({"hodei.io/job": "j"}, {}, "labels['hodei.io/job']", "Hodei's own"),
        ({"app.kubernetes.io/name": "x"}, {}, "labels['app.kubernetes.io/name']", "Hodei's own"),
        ({"node.kubernetes.io/x": "y"}, {}, "labels['node.kubernetes.io/x']", "reserved"),
        ({"team": "a"}, {}, "labels['team']", "HODEI_K8S_POD_LABELS"),
        ({}, {"hodei.io/provider-id": "x"}, "annotations['hodei.io/provider-id']", "Hodei's own"),
        ({}, {"not a key": "x"}, "annotations['not a key']", "letters"),
        ({}, {"Bad_Prefix/key": "x"}, "annotations['Bad_Prefix/key']", "DNS name"),
        ({}, {"k8s.io/x": "y"}, "annotations['k8s.io/x']", "reserved"),
        ({}, {"big": "x" * (230 << 10)}, "annotations", "bytes"),
    ],
)
def test_names_that_can_not_be_on_a_pod_are_refused_by_name(
    labels: dict[str, str], annotations: dict[str, str], field: str, reason: str
) -> None:
    """W38: Hodei's own, the cluster's, those of a setting, no valid key, too many bytes."""
    config = KubernetesConfig(pod_labels={"team": "platform"})
    found = refused_names(labels, annotations, config)
    assert list(found) == [field]
    assert reason in found[field]
    assert refused_names({"a": "b", "example.com/c": "d"}, {"e": "f" * 1000}, config) == {}
