"""Names, labels and annotations of what the provider makes, as Kubernetes bounds them; a worker's come from its id."""

from __future__ import annotations

import hashlib
import re

APP = "hodei-jobs-worker"
#: How the names of workers' pods begin; the worker's id follows.
WORKER_PREFIX = "hodei-worker-"
MANAGED = "hodei.io/managed"
PROVIDER = "hodei.io/provider"
PROVIDER_ID = "hodei.io/provider-id"
WORKER_ID = "hodei.io/worker-id"
INSTANCE = "hodei.io/instance"
TENANT = "hodei.io/tenant"
#: The labels of what a worker is for, by what the server calls it.
OWN = {"tenant": TENANT, "job": "hodei.io/job", "attempt": "hodei.io/attempt", "attempt-uid": "hodei.io/attempt-uid"}
#: What the job asked that a pod is made for, as JSON: the pod itself has the defaults, and what the agent takes, too.
ASKED = "hodei.io/asked"
#: What is changed of a pod to have its kubelet look at it.
LOOKS = "hodei.io/looks"
#: Who the server is to its workers, where that is no public authority.
SERVER_CA = "hodei.io/server-ca"
_OWN_PREFIX = "hodei.io"
#: Keys under these, and under names that end with them, mean something to the cluster itself.
_RESERVED = ("kubernetes.io", "k8s.io")

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NOT_IN_LABEL = re.compile(r"[^-A-Za-z0-9_.]")
_NOT_IN_NAME = re.compile(r"[^-a-z0-9]")
#: What RBAC's objects may be called has more than other names: case, and colons. This much of it is kept.
_NOT_IN_RBAC = re.compile(r"[^-A-Za-z0-9_.:@]")
MAX_LABEL = 63
MAX_NAME = 253
_DIGEST = 10


def is_dns_label(text: str) -> bool:
    """Whether a text can name a namespace."""
    return len(text) <= MAX_LABEL and _DNS_LABEL.fullmatch(text) is not None


def is_dns_name(text: str) -> bool:
    """Whether a text can name most other things."""
    return len(text) <= MAX_NAME and _DNS_NAME.fullmatch(text) is not None


def label_key_error(key: str) -> str:
    """Return what is wrong with a label's or an annotation's key; empty when nothing is."""
    prefix, slash, name = key.rpartition("/")
    if len(name) > MAX_LABEL or not _LABEL.fullmatch(name):
        return "expected a key of at most 63 letters, digits, '-', '_' and '.'"
    return "expected a DNS name before the '/'" if slash and not is_dns_name(prefix) else ""


def is_own(key: str) -> bool:
    """Whether a label or an annotation is one of the provider's own; nobody else may set it."""
    return key == "app" or key.rpartition("/")[0] in {_OWN_PREFIX, "app.kubernetes.io"}


def is_reserved(key: str) -> bool:
    """Whether a key means something to the cluster: an administrator may set it, a job may not."""
    prefix = key.rpartition("/")[0]
    return any(prefix == reserved or prefix.endswith(f".{reserved}") for reserved in _RESERVED)


def label_value_error(value: str) -> str:
    """Return what is wrong with a label's value; empty when nothing is."""
    if value and (len(value) > MAX_LABEL or not _LABEL.fullmatch(value)):
        return "expected a value of at most 63 letters, digits, '-', '_' and '.'"
    return ""


def label_value(text: str) -> str:
    """Return a text as a label's value: as it is where that can be, else cut, with a hash of the whole (W27)."""
    return text if not label_value_error(text) else _shortened(text, _NOT_IN_LABEL, MAX_LABEL)


def worker_name(worker_id: str) -> str:
    """Return the name of a worker's pod, and of its secret. A pod's name is its host name as well: at most 63."""
    name = f"{WORKER_PREFIX}{worker_id}"
    return name if is_dns_label(name) else _shortened(name, _NOT_IN_NAME, MAX_LABEL)


def rbac_name(text: str) -> str:
    """Return a text as the name of one of RBAC's objects: as it is, or, where that can't be, cut and with a hash."""
    fits = len(text) <= MAX_NAME and not _NOT_IN_RBAC.search(text)
    return text if fits else _shortened(text, _NOT_IN_RBAC, MAX_NAME)


def _shortened(text: str, bad: re.Pattern[str], most: int) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    kept = bad.sub("-", text.lower() if bad is _NOT_IN_NAME else text)[: most - _DIGEST - 1].strip("-_.")
    return f"{kept}-{digest}" if kept else digest


def selector(installation_id: str) -> str:
    """Return the label selector of an installation's pods."""
    return f"{MANAGED}=true,{INSTANCE}={label_value(installation_id)}"
