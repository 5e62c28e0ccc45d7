"""The pod of a worker, without a cluster."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from hodei_providers.agent import AGENT_COMMAND, AGENT_FOLDER
from hodei_providers.contract import LaunchRequest, Resources, UnsupportedRequestError
from hodei_providers.kubernetes import ImageUser, KubernetesConfig, OtpDelivery, PodSecurityStandard
from hodei_providers.kubernetes.pod import Owner, as_fixed_user, make_pod, make_secret
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.resources import make_resources
from hodei_providers.testing import make_request

OWNER = Owner("cluster", b"an authority")


def pod(request: LaunchRequest | None = None, **settings: Any) -> dict[str, Any]:
    """Return a pod as the API would be sent it."""
    made = make_pod(request or make_request(), "space", KubernetesConfig(**settings), OWNER)
    decoded: dict[str, Any] = json.loads(json.dumps(made))
    return decoded


def worker(made: dict[str, Any]) -> dict[str, Any]:
    """Return the worker's container."""
    container: dict[str, Any] = made["spec"]["containers"][0]
    return container


def environment(made: dict[str, Any]) -> dict[str, str]:
    """Return the variables that have a value of their own."""
    return {each["name"]: each["value"] for each in worker(made)["env"] if "value" in each}


def test_it_keeps_the_standard_restricted() -> None:
    """What the standard asks of a pod and of each container, and a root that can't be written."""
    for request in (make_request(), make_request(image="debian:stable-slim")):
        spec = pod(request)["spec"]
        assert spec["securityContext"].items() >= {"runAsNonRoot": True}.items()
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "privileged": False,
                "readOnlyRootFilesystem": True,
            }
        assert not spec["automountServiceAccountToken"]
        assert spec["restartPolicy"] == "Never"


def test_under_a_weaker_standard_an_image_keeps_its_own_user() -> None:
    """And may do what its user may; the worker's own image still runs as its user, not as root."""
    settings: dict[str, Any] = {"pod_security_standard": PodSecurityStandard.BASELINE}
    assert "runAsUser" not in pod(make_request(image="debian:stable-slim"), **settings)["spec"]["securityContext"]
    assert pod(**settings)["spec"]["securityContext"]["runAsUser"] == 1000


def test_an_image_runs_as_its_own_user_where_that_is_nobody_special() -> None:
    """The kubelet sees to it that it is a number and not root; one that is known not to be gets the worker's user."""
    image = make_request(image="debian:stable-slim")
    for setting, own_user, named in (
        (ImageUser.AUTO, True, False),
        (ImageUser.AUTO, False, True),
        (ImageUser.FIXED, True, True),
        (ImageUser.OWN, True, False),
    ):
        manifest = make_pod(image, "space", KubernetesConfig(image_user=setting), Owner("k"), own_user=own_user)
        context = manifest["spec"]["securityContext"]
        assert context["runAsNonRoot"]
        assert ({"runAsUser", "runAsGroup"} <= context.keys()) == named
        assert pod(image_user=setting)["spec"]["securityContext"]["runAsUser"] == 1000


def test_capabilities_say_as_whom_an_image_runs() -> None:
    """In words; nothing where that is the image's user, whoever it is."""

    def said(**settings: Any) -> str:
        return KubernetesProvider(config=KubernetesConfig(**settings)).capabilities().image_user

    assert said() == "its own user where that is a number and not 0, else user 1000"
    assert said(image_user=ImageUser.FIXED) == "user 1000"
    assert said(image_user=ImageUser.OWN) == "its own user, a number and not 0"
    assert said(pod_security_standard=PodSecurityStandard.BASELINE) == ""


def test_a_pod_that_is_made_again_is_the_same_under_another_user() -> None:
    """What the cluster alone may say of a pod is left out; all else is as it was."""
    request = make_request(image="debian:stable-slim")
    first = pod(request, image_user=ImageUser.OWN)
    there = {
        **first,
        "metadata": {**first["metadata"], "uid": "u", "resourceVersion": "7", "ownerReferences": []},
        "spec": {**first["spec"], "nodeName": "node"},
        "status": {"phase": "Pending"},
    }
    assert as_fixed_user(there) == pod(request, image_user=ImageUser.FIXED)


def test_what_a_job_asks_is_request_and_limit_both() -> None:
    """W37: memory with the agent's share on top, disk with the logs' share."""
    asked = Resources(cpu_millis=1500, memory_bytes=512 << 20, disk_bytes=1 << 30, gpu_count=2)
    made = make_resources(make_request(resources=asked), KubernetesConfig())
    assert made["requests"] == made["limits"]
    assert made["limits"] == {
        "cpu": "1500m",
        "memory": "576Mi",
        "ephemeral-storage": "2304Mi",
        "nvidia.com/gpu": "2",
    }


def test_what_a_job_does_not_ask_takes_the_defaults() -> None:
    """Each by itself."""
    made = make_resources(make_request(resources=Resources(cpu_millis=100)), KubernetesConfig())
    assert made["requests"] == {"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "256Mi"}
    assert made["limits"] == {"cpu": "100m", "memory": "4Gi", "ephemeral-storage": "3328Mi"}


def test_a_gpu_that_is_not_known_is_refused_by_name() -> None:
    """W38: not a pod that waits for ever."""
    with pytest.raises(UnsupportedRequestError, match="no GPU of type 'h900'") as caught:
        pod(make_request(resources=Resources(gpu_count=1, gpu_type="h900")))
    assert caught.value.field == "resources.gpu_type"
    with pytest.raises(UnsupportedRequestError) as caught:
        pod(make_request(resources=Resources(gpu_count=1)), gpu_resources={})
    assert caught.value.field == "resources.gpu_count"


def test_gpus_bring_their_toleration() -> None:
    """Nodes that have some are often tainted by them."""
    tolerations = pod(make_request(resources=Resources(gpu_count=1)))["spec"]["tolerations"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerations


def test_the_token_is_a_file_of_a_secret() -> None:
    """W24: neither in the environment nor in the pod's own object."""
    request = make_request()
    made, secret = pod(request), make_secret(request, "space")
    assert request.otp not in json.dumps(made)
    assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == {"token": request.otp}
    variables = environment(made)
    files = {variables[name] for name in ("HODEI_OTP_TOKEN_FILE", "HODEI_TLS_CA")}
    assert files == {"/run/hodei/credentials/token", "/run/hodei/trust/ca.crt"}
    volume = next(each for each in made["spec"]["volumes"] if each["name"] == "hodei-credentials")
    assert volume["secret"]["secretName"] == secret["metadata"]["name"] == made["metadata"]["name"]
    assert volume["secret"]["optional"], "the file goes with the secret"


def test_the_authority_is_no_secret() -> None:
    """It stays when the secret goes: the worker may connect again."""
    made = pod()
    volume = next(each for each in made["spec"]["volumes"] if each["name"] == "hodei-trust")
    (item,) = volume["downwardAPI"]["items"]
    assert (item["path"], item["fieldRef"]["fieldPath"]) == ("ca.crt", "metadata.annotations['hodei.io/server-ca']")
    assert made["metadata"]["annotations"]["hodei.io/server-ca"] == "an authority"
    alone = make_pod(make_request(), "space", KubernetesConfig(), Owner("cluster"))
    assert "hodei-trust" not in json.dumps(alone)


def test_the_token_may_be_a_variable_where_a_setting_says_so() -> None:
    """From the secret still."""
    made = pod(otp_delivery=OtpDelivery.ENV)
    assert "HODEI_OTP_TOKEN_FILE" not in environment(made)
    reference = next(each["valueFrom"] for each in worker(made)["env"] if each["name"] == "HODEI_OTP_TOKEN")
    assert reference["secretKeyRef"] == {"name": made["metadata"]["name"], "key": "token"}


def test_the_worker_is_told_who_and_where_it_is() -> None:
    """And whatever else the server gives it."""
    request = make_request(max_jobs=3, environment={"HODEI_LOG_LEVEL": "debug"})
    assert (
        environment(pod(request)).items()
        >= {
            "HODEI_WORKER_ID": request.worker_id,
            "HODEI_SERVER_ADDRESS": request.server_address,
            "HODEI_LOG_LEVEL": "debug",
            "HODEI_MAX_JOBS": "3",
        }.items()
    )


def test_a_pod_of_several_jobs_empties_folders_and_none_that_others_may_have() -> None:
    """What a setting mounts there is not the pod's alone."""
    assert "HODEI_SCRATCH_FOLDERS" not in environment(pod())
    several = make_request(max_jobs=2)
    assert environment(pod(several))["HODEI_SCRATCH_FOLDERS"] == "/tmp:/dev/shm:/home/hodei"
    claim = {"name": "a", "persistentVolumeClaim": {"claimName": "a"}}
    mounted = pod(several, volumes=(claim,), volume_mounts=({"name": "a", "mountPath": "/dev/shm"},))
    assert environment(mounted)["HODEI_SCRATCH_FOLDERS"] == "/tmp:/home/hodei"


def test_every_writable_folder_is_sized_and_the_spool_is_larger_than_its_bound() -> None:
    """A full folder must not be the node's trouble; a worker writes up to 1 GiB of logs."""
    made = pod()
    folders = {each["name"]: each["emptyDir"]["sizeLimit"] for each in made["spec"]["volumes"] if "emptyDir" in each}
    assert folders == {"hodei-tmp": "2Gi", "hodei-home": "2Gi", "hodei-worker": "3328Mi"}
    mounts = {each["name"]: each["mountPath"] for each in worker(made)["volumeMounts"]}
    assert environment(made)["HODEI_WORKER_DIR"] == mounts["hodei-worker"]


def test_any_image_gets_the_agent_before_it_starts() -> None:
    """From the worker's image, read-only."""
    made = pod(make_request(image="debian:stable-slim"))
    before = made["spec"]["initContainers"][0]
    assert (before["image"], worker(made)["image"]) == ("hodei-jobs-worker:latest", "debian:stable-slim")
    assert worker(made)["command"] == list(AGENT_COMMAND)
    mount = {"name": "hodei-agent", "mountPath": AGENT_FOLDER, "readOnly": True}
    assert mount in worker(made)["volumeMounts"]
    assert before["volumeMounts"][0]["name"] == "hodei-agent"
    assert "initContainers" not in pod()["spec"]


def test_the_settings_reach_the_pod() -> None:
    """Each of them; one that did nothing would be a lie."""
    spec = pod(
        node_selector={"disk": "ssd"},
        tolerations=({"key": "a", "operator": "Exists"},),
        toleration_seconds=7,
        affinity={"podAffinity": {}},
        priority_class="high",
        runtime_class="gvisor",
        image_pull_secrets=("registry",),
        service_account="someone",
        termination_grace=45,
        volumes=({"name": "data", "emptyDir": {}},),
        volume_mounts=({"name": "data", "mountPath": "/data"},),
        read_only_root=False,
        worker_image="mine:1",
    )["spec"]
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"][0] == {"key": "a", "operator": "Exists"}
    assert {each["tolerationSeconds"] for each in spec["tolerations"][1:]} == {7}
    assert spec["affinity"] == {"podAffinity": {}}
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "gvisor")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert (spec["serviceAccountName"], spec["terminationGracePeriodSeconds"]) == ("someone", 45)
    assert {"name": "data", "emptyDir": {}} in spec["volumes"]
    container = spec["containers"][0]
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    assert not container["securityContext"]["readOnlyRootFilesystem"]
    assert container["image"] == "mine:1"
    metadata = pod(pod_labels={"team": "a"}, pod_annotations={"note": "b c"})["metadata"]
    assert (metadata["labels"]["team"], metadata["annotations"]["note"]) == ("a", "b c")


def test_a_pod_has_the_time_that_its_job_needs_to_end() -> None:
    """Its grace and the rest of its log; never less than the setting."""
    graces = {grace: pod(make_request(grace=grace))["spec"]["terminationGracePeriodSeconds"] for grace in (5.0, 90.5)}
    assert graces == {5.0: 30, 90.5: 101}
    assert pod(make_request(grace=5.0), termination_grace=60)["spec"]["terminationGracePeriodSeconds"] == 60


def test_a_job_is_asked_to_end_with_its_pod_and_leaves_time_for_the_rest_of_its_log() -> None:
    """It has what the pod has, but the seconds in which its worker delivers what it said."""
    for grace, left in ((5.0, "20"), (90.5, "91")):
        environment = pod(make_request(grace=grace))["spec"]["containers"][0]["env"]
        assert {"name": "HODEI_TERM_GRACE", "value": left} in environment


def test_only_a_deadline_that_is_known_bounds_a_pod() -> None:
    """A worker of many jobs, and one whose job may run for ever, have none."""
    assert pod(make_request(deadline=700.2))["spec"]["activeDeadlineSeconds"] == 701
    assert "activeDeadlineSeconds" not in pod()["spec"]


def test_bringing_the_agent_takes_no_more_than_the_job() -> None:
    """A node and a quota count the greater of both."""
    small = Resources(cpu_millis=50, memory_bytes=16 << 20, disk_bytes=1 << 30, gpu_count=1)
    for resources in (small, Resources()):
        made = pod(make_request(image="debian:stable-slim", resources=resources))
        limits = {key: value for key, value in worker(made)["resources"]["limits"].items() if key != "nvidia.com/gpu"}
        agent = made["spec"]["initContainers"][0]["resources"]
        assert agent["limits"] == limits
        assert agent["requests"]["cpu"] in {"50m", "100m"}
    assert agent["requests"]["memory"] == "64Mi"
