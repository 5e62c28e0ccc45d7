"""The server itself in a cluster, an autoscaler for it, and what pulls images ahead; as pure functions.

``hodei k8s manifests --add`` prints them, and deploy/k8s holds them for the default configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodei_providers.agent import AGENT_COMMAND, AGENT_FOLDER, copy_command
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.layout import AGENT_TARGET
from hodei_providers.kubernetes.metadata import make_metadata
from hodei_providers.kubernetes.network import DEFAULT_PORT
from hodei_providers.kubernetes.pod import AGENT_SIZE, UID
from hodei_providers.kubernetes.resources import gpu_toleration
from hodei_providers.kubernetes.rights import SERVER

Manifest = dict[str, Any]

#: Ports of the server's pod: clients', workers', probes'.
PORTS = {"clients": 50051, "workers": DEFAULT_PORT, "probes": 50053}
SERVER_IMAGE = "hodei-jobs-server:latest"
#: The user of the server's image, and where that keeps its data.
SERVER_UID, DATA = 10001, "/var/lib/hodei"
#: Where the certificate of the clients' listener is.
TLS = "/etc/hodei/tls"
PREPULL = "hodei-prepull"
_DATA_SIZE = "20Gi"
#: What is given to this command for where the cluster is; a server inside of it has its account.
_OUTSIDE = {"HODEI_K8S_KUBECONFIG", "HODEI_K8S_CONTEXT"}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
}


def make_server(
    config: KubernetesConfig, variables: Mapping[str, str], *, image: str = SERVER_IMAGE, tls_secret: str = ""
) -> list[Manifest]:
    """Return the server: its namespace and account, a volume for its data, the Service and the Deployment.

    One pod: a server keeps logs and, without PostgreSQL, its database in that volume, and a new one waits until the old
    one has let go of it. Its clients' port stays on the pod's loopback, where only who may forward a pod's port finds
    it, until there is a certificate.

    :param variables: settings of the server, by variable.
    :param tls_secret: of `kubernetes.io/tls`, in the server's namespace, with the `ca.crt` that clients' certificates
        are of; the Service's first port works with it.
    """
    space = config.server_namespace
    standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": make_metadata(f"{SERVER}-data", space),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": _DATA_SIZE}}},
    }
    ports = [{"name": name, "port": PORTS[name], "targetPort": name} for name in ("clients", "workers")]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": make_metadata(SERVER, space),
        "spec": {"selector": {"app": SERVER}, "ports": ports},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": make_metadata(space, labels=standard)},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": make_metadata(SERVER, space)},
        claim,
        service,
        _deployment(config, variables, image, tls_secret),
    ]


def _deployment(config: KubernetesConfig, variables: Mapping[str, str], image: str, tls_secret: str) -> Manifest:
    settings = {
        "HODEI_KUBERNETES_ENABLED": "true",
        "HODEI_PROVIDERS": "kubernetes",
        "HODEI_HEALTH_LISTEN": f"0.0.0.0:{PORTS['probes']}",
        **{name: value for name, value in variables.items() if name not in _OUTSIDE},
    }
    volumes: list[Manifest] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": f"{SERVER}-data"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]
    mounts: list[Manifest] = [{"name": "data", "mountPath": DATA}, {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    if tls_secret:
        settings |= {
            "HODEI_LISTEN": f"0.0.0.0:{PORTS['clients']}",
            "HODEI_TLS_CERT": f"{TLS}/tls.crt",
            "HODEI_TLS_KEY": f"{TLS}/tls.key",
            "HODEI_TLS_CLIENT_CA": f"{TLS}/ca.crt",
        }
        volumes.append({"name": "tls", "secret": {"secretName": tls_secret, "defaultMode": 0o440}})
        mounts.append({"name": "tls", "mountPath": TLS, "readOnly": True})
    probe = {"grpc": {"port": PORTS["probes"]}, "timeoutSeconds": 5}
    container = {
        "name": "server",
        "image": image,
        "imagePullPolicy": config.image_pull_policy.value,
        "env": [{"name": name, "value": settings[name]} for name in sorted(settings)],
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        # Migrations, and looking at what was left, may take their time.
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 300},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": dict(_CONTAINER_SECURITY),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec: Manifest = {
        "serviceAccountName": SERVER,
        # Their variables begin with HODEI_, as the settings do.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": _pod_security(SERVER_UID),
        "containers": [container],
        "volumes": volumes,
    }
    if config.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": make_metadata(SERVER, config.server_namespace),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": SERVER}},
            "template": {"metadata": {"labels": {"app": SERVER}}, "spec": spec},
        },
    }


def _pod_security(user: int) -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def make_hpa(config: KubernetesConfig) -> list[Manifest]:
    """Return an autoscaler of the server, by its processor time.

    It keeps to one pod: more need PostgreSQL and servers that share it, and these don't yet.
    """
    target = {"type": "Utilization", "averageUtilization": 80}
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": make_metadata(SERVER, config.server_namespace),
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": SERVER},
                "minReplicas": 1,
                "maxReplicas": 1,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        }
    ]


def make_prepull(config: KubernetesConfig, images: Sequence[str] = ()) -> list[Manifest]:
    """Return what has the worker's image on every node that takes workers before a job needs it.

    :param images: others of the jobs' own; the agent comes along, so that nothing is asked of what is in them.
    """
    requests = {"cpu": "1m", "memory": "16Mi"}
    small = {"requests": requests, "limits": {"cpu": "500m", "memory": "128Mi"}}
    always = {
        "imagePullPolicy": config.image_pull_policy.value,
        "resources": small,
        "securityContext": dict(_CONTAINER_SECURITY),
    }
    spec: Manifest = {
        "serviceAccountName": config.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": _pod_security(UID),
        "containers": [{"name": "worker", "image": config.worker_image, "command": ["sleep", "infinity"], **always}],
        "tolerations": [
            *map(dict, config.tolerations),
            *map(gpu_toleration, sorted(set(config.gpu_resources.values()))),
        ],
    }
    if images:
        # Each has run to its end once its image is there.
        spec["initContainers"] = [
            {
                "name": "agent",
                "image": config.worker_image,
                "command": list(copy_command(AGENT_TARGET)),
                "volumeMounts": [{"name": "agent", "mountPath": AGENT_TARGET}],
                **always,
            },
            *(
                {
                    "name": f"image-{number}",
                    "image": image,
                    "command": [*AGENT_COMMAND, "--version"],
                    "volumeMounts": [{"name": "agent", "mountPath": AGENT_FOLDER, "readOnly": True}],
                    **always,
                }
                for number, image in enumerate(images, 1)
            ),
        ]
        spec["volumes"] = [{"name": "agent", "emptyDir": {"sizeLimit": AGENT_SIZE}}]
    if config.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    if config.node_selector:
        spec["nodeSelector"] = dict(config.node_selector)
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": make_metadata(PREPULL, config.namespace),
            "spec": {
                "selector": {"matchLabels": {"app": PREPULL}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
                "template": {"metadata": {"labels": {"app": PREPULL}}, "spec": spec},
            },
        }
    ]
