"""What the Kubernetes provider can be told: its options, as they are read one by one."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, ClassVar

from hodei_providers.config import (
    amount,
    boolean,
    count,
    duration,
    option,
    pairs,
    positive,
    words,
)
from hodei_providers.kubernetes import reading


class PodSecurityStandard(enum.StrEnum):
    """What a namespace's admission lets pods do, as Kubernetes defines it."""

    PRIVILEGED = "privileged"
    BASELINE = "baseline"
    RESTRICTED = "restricted"


class ImagePullPolicy(enum.StrEnum):
    """When a node asks a registry for an image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class OtpDelivery(enum.StrEnum):
    """How a worker gets its one-time token."""

    #: From a Secret that is mounted as a file.
    FILE = "file"
    #: From the same Secret, in the environment, where the pod's other processes of the same user may see it.
    ENV = "env"


class ImageUser(enum.StrEnum):
    """As whom jobs' own images run under the standard `restricted`."""

    #: As the image says, where that is a number and not root, else as the worker's image does.
    AUTO = "auto"
    #: As the worker's image does, whatever an image says.
    FIXED = "1000"
    #: As the image says, where that is a number and not root; others are refused.
    OWN = "own"


_DEFAULT_QUOTA = {
    "pods": "100",
    "requests.cpu": "50",
    "requests.memory": "200Gi",
    "limits.cpu": "200",
    "limits.memory": "400Gi",
}


def _text(default: str, description: str) -> str:
    return option(default, description, str, written=default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KubernetesOptions:
    """The fields of `KubernetesConfig`; nothing is checked here."""

    prefix: ClassVar[str] = "HODEI_K8S_"
    enabled_by: ClassVar[str] = "HODEI_KUBERNETES_ENABLED"

    kubeconfig: str = option(
        "", "The file that names the cluster; else `KUBECONFIG`, `~/.kube/config`, the pod's account.", str
    )
    context: str = option("", "The kubeconfig's context; its current one when empty.", str)
    namespace: str = _text("hodei-jobs-workers", "Where workers run.")
    dynamic_namespaces: bool = option(
        default=False,
        description="Each tenant's workers run in a namespace of its own, made on first use.",
        read=boolean,
        written="false",
    )
    namespace_prefix: str = _text("hodei-tenant-", "How these are called: the prefix and the tenant's name.")
    max_namespaces: int = option(
        500,
        "Tenants that get one; jobs of further ones wait. Each has a connection of its own where the server may not "
        "watch the whole cluster.",
        positive,
        written="500",
    )
    pod_security_standard: PodSecurityStandard = option(  # noqa: RUF009 - it returns a field
        PodSecurityStandard.RESTRICTED,
        "What the namespace's admission enforces and pods keep: `privileged`, `baseline` or `restricted`.",
        reading.member_of(PodSecurityStandard),
        written="restricted",
    )
    image_user: ImageUser = option(  # noqa: RUF009 - it returns a field
        ImageUser.AUTO,
        "As whom a job's own image runs under `restricted`: with `auto` as its own user where that is a number and not "
        "0, else as user 1000; with `1000` as that; with `own`, images of root or of a user by name are refused.",
        reading.member_of(ImageUser),
        written="auto",
    )
    ensure: bool = option(
        default=True,
        description="Make and repair the namespace and what belongs in it; off where an administrator does.",
        read=boolean,
        written="true",
    )
    server_identity: str = option(
        "",
        "Whom the Role is bound to: a user, or `system:serviceaccount:NAMESPACE:NAME`; who the server is when empty.",
        str,
    )
    service_account: str = _text(
        "hodei-jobs-worker", "Of the workers' pods; it has no rights, and no token is mounted."
    )
    worker_image: str = _text("hodei-jobs-worker:latest", "Overrides `HODEI_WORKER_IMAGE`.")
    image_pull_policy: ImagePullPolicy = option(  # noqa: RUF009 - it returns a field
        ImagePullPolicy.IF_NOT_PRESENT,
        "`Always`, `IfNotPresent` or `Never`.",
        reading.member_of(ImagePullPolicy),
        written="IfNotPresent",
    )
    image_pull_secrets: tuple[str, ...] = option(
        (), "Names of Secrets in `namespace`, copied to tenants' namespaces and kept current there.", words
    )
    image_pull_grace: float = option(
        60.0,
        "An image that can't be pulled for so long fails its job; at once where the reason can't heal.",
        duration,
        written="1m",
    )
    server_address: str = option(
        "",
        "The workers' listener as pods see it, `host` or `host:port`; when empty `hodei-server.NAMESPACE.svc` in a "
        "cluster, else the address of this machine that faces the cluster's API.",
        str,
    )
    listen: str = option(
        "", "Where the workers' listener opens for pods; `server_address` if that is here, else every address.", str
    )
    server_ca: str = option("", "Whom workers trust there, a PEM file; the server's own authority when empty.", str)
    default_cpu_request: str = _text("500m", "Processors of a job that asks for none: its request.")
    default_cpu_limit: str = _text("2", "The same: its limit.")
    default_memory_request: str = _text("1Gi", "Memory of a job that asks for none: its request.")
    default_memory_limit: str = _text("4Gi", "The same: its limit.")
    default_storage_request: str = _text("256Mi", "Ephemeral storage of a job that asks for no disk: its request.")
    default_storage_limit: str = _text(
        "2Gi", "The same: its limit, and that of `/tmp`, the home and the job's folder each."
    )
    agent_memory: str = _text("64Mi", "What the agent takes, beside the memory that a job asks for.")
    spool_storage: str = _text("1280Mi", "Room for logs that the server has not taken yet, beside the job's disk.")
    gpu_resources: Mapping[str, str] = option(
        {"default": "nvidia.com/gpu"},
        "The extended resource of each type of GPU, `type=resource,…`; `default` is for jobs that name no type.",
        pairs,
        written="default=nvidia.com/gpu",
    )
    read_only_root: bool = option(
        default=True,
        description="Only `/tmp`, the home and the job's folder can be written.",
        read=boolean,
        written="true",
    )
    otp_delivery: OtpDelivery = option(  # noqa: RUF009 - it returns a field
        OtpDelivery.FILE,
        "How the one-time token gets into the pod: a mounted `file`, or `env`, which other processes may read.",
        reading.member_of(OtpDelivery),
        written="file",
    )
    termination_grace: int = option(
        30, "Seconds between SIGTERM and SIGKILL when somebody deletes a pod.", positive, written="30"
    )
    ttl_seconds_after_finished: int = option(
        3600, "Ended pods that nobody has removed since are removed after so many seconds.", count, written="3600"
    )
    node_selector: Mapping[str, str] = option({}, "Labels that a node must have, `key=value,…`.", pairs)
    tolerations: tuple[Mapping[str, Any], ...] = option((), "As in a pod, a JSON list.", reading.objects)
    toleration_seconds: int = option(
        30, "How long pods stay on a node that is not ready or can't be reached.", count, written="30"
    )
    lost_node_timeout: float = option(
        660.0,
        "A worker on a lost node counts as gone after so long; at least `HODEI_ORPHAN_AFTER` and a job's grace, within "
        "which it has ended its job by itself.",
        duration,
        written="11m",
    )
    affinity: Mapping[str, Any] = option({}, "As in a pod, a JSON object.", reading.json_object)
    priority_class: str = option("", "A PriorityClass.", str)
    runtime_class: str = option("", "A RuntimeClass.", str)
    pod_labels: Mapping[str, str] = option({}, "More labels of every pod, `key=value,…`.", pairs)
    pod_annotations: Mapping[str, str] = option({}, "More annotations of every pod, `key=value,…`.", pairs)
    job_key_prefixes: tuple[str, ...] = option(
        (),
        "How keys of a job's own labels and annotations may begin, like `jobs.example.com/,team`; any way when empty.",
        words,
    )
    volumes: tuple[Mapping[str, Any], ...] = option((), "More volumes, as in a pod, a JSON list.", reading.objects)
    volume_mounts: tuple[Mapping[str, Any], ...] = option(
        (), "Where the worker's container has them, a JSON list.", reading.objects
    )
    pod_template_patch: Mapping[str, Any] = option(
        {},
        "A strategic merge patch of every worker's pod, a JSON object with `metadata` and `spec`; for all that has no "
        "setting of its own.",
        reading.json_object,
    )
    quota: Mapping[str, str] = option(
        _DEFAULT_QUOTA,
        "Hard limits of the namespace's ResourceQuota, `resource=quantity,…`.",
        pairs,
        written=",".join(f"{key}={value}" for key, value in _DEFAULT_QUOTA.items()),
    )
    server_cidr: str = option(
        "",
        "The server's network for the network policy (`10.0.0.1/32`); when empty, from where workers connect.",
        str,
    )
    server_namespace: str = _text("hodei", "Where the server's pods run if it is inside, for `hodei k8s manifests`.")
    dns_peers: tuple[Mapping[str, Any], ...] = option(
        (),
        "Whom jobs may ask for names: peers as in a NetworkPolicy's `to`, a JSON list; any address, on port 53, when "
        "empty.",
        reading.objects,
    )
    network_egress: tuple[Mapping[str, Any], ...] = option(
        (), "What else jobs may reach: more rules of a NetworkPolicy's `egress`, a JSON list.", reading.objects
    )
    fixed_size: bool = option(
        default=False,
        description="Nobody adds nodes for pods that wait: jobs wait in the queue while nodes, or the quota, have less "
        "left than they ask for.",
        read=boolean,
        written="false",
    )
    max_pods: int = option(100, "Workers at once.", positive, written="100")
    api_timeout: float = option(15.0, "How long one call of the API may take.", duration, written="15s")
    api_rate: float = option(50.0, "Calls of the API a second, at most.", amount, written="50")
    resync: float = option(
        30.0,
        "Between full lists of the pods, behind the watch; longer with hundreds of namespaces.",
        duration,
        written="30s",
    )
    labels: Mapping[str, str] = option({}, "The provider's, for `required_labels` and `preferred_labels`.", pairs)
    regions: tuple[str, ...] = option((), "For a job's `region`.", words)
    cost_per_hour: float = option(0.0, "For the strategy `lowest-cost`.", amount, written="0")
