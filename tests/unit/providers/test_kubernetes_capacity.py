"""What a cluster has for workers, without a cluster."""

from __future__ import annotations

import weakref
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from hodei_providers.contract import LaunchRequest, ProviderError, Resources
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.capacity import asked_of, job_of, left_by_quota, read_quantity, takes_workers
from hodei_providers.kubernetes.errors import ForbiddenError, NotThereError
from hodei_providers.kubernetes.names import ASKED
from hodei_providers.kubernetes.paths import EVERYWHERE as PODS
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.survey import NODES, USAGE, Survey

GIB = 1 << 30
QUOTA = "/api/v1/namespaces/hodei-jobs-workers/resourcequotas/hodei-jobs-workers-quota"


def node(name: str = "one", *, ready: str = "True", cpu: str = "4", **spec: Any) -> dict[str, Any]:
    """Return a node."""
    return {
        "metadata": {"name": name, "labels": {"pool": "jobs"}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "ephemeral-storage": "100Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(config: KubernetesConfig, resources: Resources, name: str = "one", where: str = "one") -> dict[str, Any]:
    """Return a worker's pod that runs."""
    request = LaunchRequest(name, "installation", "127.0.0.1:1", "otp", resources)
    made = make_pod(request, "hodei-jobs-workers", config, Owner("kubernetes"))
    made["metadata"]["uid"] = name
    made["status"] = {"phase": "Running"}
    made["spec"]["nodeName"] = where
    return made


class Cluster:
    """An API that answers some paths, and refuses others as it was told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {QUOTA: NotThereError("there is none"), USAGE: NotThereError("nobody serves it")} | answers

    async def get(self, path: str, **_query: str) -> Any:
        """Answer."""
        answer = self.answers[path]
        if isinstance(answer, ProviderError):
            raise answer
        return {"items": answer, "metadata": {}} if isinstance(answer, list) else answer


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("2", "2"), ("64Mi", str(64 << 20)), ("123456n", "0.000123456"), ("1e3", "1000"), ("2k", "2000")],
)
def test_quantities_are_read_as_the_api_writes_them(text: str, value: str) -> None:
    """Also those that people don't write: nanocores of the metrics API, exponents."""
    assert read_quantity(text) == Decimal(value)


def test_what_is_no_quantity_is_refused() -> None:
    """By its own words."""
    with pytest.raises(ValueError, match="quantity"):
        read_quantity("many")


def test_nodes_that_take_no_workers_are_not_counted() -> None:
    """Those that are lost, cordoned, of another kind, or tainted and not tolerated."""
    config = KubernetesConfig()
    taint = {"key": "pool", "value": "jobs", "effect": "NoSchedule"}
    assert takes_workers(node(), config)
    assert not takes_workers(node(ready="Unknown"), config)
    assert not takes_workers(node(unschedulable=True), config)
    assert not takes_workers(node(), KubernetesConfig(node_selector={"pool": "other"}))
    assert not takes_workers(node(taints=[taint]), config)
    for toleration in (
        {"key": "pool", "operator": "Equal", "value": "jobs", "effect": "NoSchedule"},
        {"key": "pool", "operator": "Exists"},
        {"operator": "Exists"},
    ):
        assert takes_workers(node(taints=[taint]), KubernetesConfig(tolerations=(toleration,)))
    assert not takes_workers(node(taints=[taint]), KubernetesConfig(tolerations=({"key": "pool", "value": "no"},)))


def test_nodes_that_are_kept_for_gpus_are_counted_as_the_pods_of_such_jobs_tolerate_it() -> None:
    """W15: what their pods don't tolerate keeps these nodes out."""
    config = KubernetesConfig(gpu_resources={"default": "nvidia.com/gpu", "mi300": "amd.com/gpu"})
    for key, effect, counted in (
        ("nvidia.com/gpu", "NoSchedule", True),
        ("amd.com/gpu", "NoSchedule", True),
        ("nvidia.com/gpu", "NoExecute", False),
        ("other.example/gpu", "NoSchedule", False),
    ):
        taint = {"key": key, "value": "present", "effect": effect}
        assert takes_workers(node(taints=[taint]), config) is counted


def test_a_pod_takes_the_greater_of_what_runs_before_and_what_stays() -> None:
    """Sidecars stay; the rest of the init containers come one after the other."""

    def container(cpu: str, **more: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu, "nvidia.com/gpu": "1"}}, **more}

    spec = {"containers": [container("1"), container("500m")], "initContainers": [container("2")]}
    assert asked_of({"spec": spec}, ["nvidia.com/gpu"]) == {"cpu_millis": 2000, "gpu_count": 2}
    spec["initContainers"].append(container("1", restartPolicy="Always"))
    assert asked_of({"spec": spec})["cpu_millis"] == 2500
    assert asked_of({"spec": spec | {"overhead": {"cpu": "100m"}}})["cpu_millis"] == 2600


@pytest.mark.parametrize(
    "asked",
    [
        Resources(),
        Resources(cpu_millis=1500, memory_bytes=GIB),
        Resources(disk_bytes=GIB, gpu_count=2),
        Resources(cpu_millis=500),  # as many as the default
        Resources(cpu_millis=1000, memory_bytes=GIB - (64 << 20)),  # as much, with the agent's
    ],
)
def test_what_a_job_asked_is_read_back_from_its_pod(asked: Resources) -> None:
    """What the server counts for it: without the agent's part, and nothing where it asked for nothing."""
    config = KubernetesConfig()
    found = job_of(pod(config, asked), config)
    assert Resources(**dict[str, Any](found)) == asked


@pytest.mark.parametrize(
    "asked", [Resources(), Resources(cpu_millis=1500, memory_bytes=GIB), Resources(disk_bytes=GIB, gpu_count=2)]
)
def test_of_a_pod_that_does_not_tell_what_its_job_asked_its_resources_count(asked: Resources) -> None:
    """One that an older server has made."""
    config = KubernetesConfig()
    old = pod(config, asked)
    del old["metadata"]["annotations"][ASKED]
    assert Resources(**dict[str, Any](job_of(old, config))) == asked
    old["metadata"]["annotations"] = {"hodei.io/asked": "edited"}
    assert Resources(**dict[str, Any](job_of(old, config))) == asked


def test_a_quota_leaves_the_least_of_requests_and_limits() -> None:
    """Of what it bounds, and of nothing else."""
    hard = {"requests.cpu": "10", "limits.cpu": "8", "requests.memory": "4Gi", "pods": "5"}
    used = {"requests.cpu": "1", "limits.cpu": "2", "requests.memory": "1Gi", "pods": "1"}
    assert left_by_quota({"status": {"hard": hard, "used": used}}) == {"cpu_millis": 6000, "memory_bytes": 3 * GIB}


async def look(config: KubernetesConfig, own: list[Any], **answers: Any) -> Survey:
    """Return a survey that has looked."""
    survey = Survey(Cluster(**answers), config, lambda: own)  # type: ignore[arg-type]  # it gets, and that is all
    await survey.look()
    return survey


async def test_what_is_left_is_without_what_others_ask_and_with_what_the_server_counts_itself() -> None:
    """W15: a worker's job is taken off by the server, what the agent takes and what the defaults ask by the survey."""
    config = KubernetesConfig()
    asking, plain = pod(config, Resources(cpu_millis=1000, memory_bytes=GIB)), pod(config, Resources(), "two")
    other = pod(config, Resources(cpu_millis=500), "other")
    ended = pod(config, Resources(cpu_millis=900), "ended") | {"status": {"phase": "Succeeded"}}
    elsewhere = pod(config, Resources(cpu_millis=900), "elsewhere", "cordoned")
    nodes = [node(), node("cordoned", unschedulable=True)]
    survey = await look(config, [asking, plain], **{NODES: nodes, PODS: [asking, plain, other, ended, elsewhere]})
    total = survey.cluster.total
    assert total is not None
    # 4 processors, without another's half and the half that a job takes which asked for none.
    assert total.cpu_millis == 3000
    assert total.memory_bytes == 8 * GIB - 2 * GIB - (64 << 20)
    assert survey.cluster.nodes == (1, 2)
    assert survey.cluster.asked == {"cpu_millis": 2000, "memory_bytes": 3 * GIB + (64 << 20), "disk_bytes": 3 << 28}
    assert "what is in use is not known: nobody serves it" in survey.cluster.words()


async def test_the_smaller_of_nodes_and_quota_counts() -> None:
    """Whichever that is of each resource."""
    quota = {"status": {"hard": {"requests.cpu": "2", "requests.memory": "64Gi"}, "used": {"requests.cpu": "1500m"}}}
    config = KubernetesConfig()
    own = [pod(config, Resources(cpu_millis=1500))]
    survey = await look(config, own, **{NODES: [node()], PODS: own, QUOTA: quota})
    assert survey.cluster.total is not None
    assert survey.cluster.total.cpu_millis == 2000
    assert survey.cluster.total.memory_bytes == 7 * GIB


async def test_where_rights_are_missing_what_is_known_counts_and_the_rest_is_told() -> None:
    """Without the right to others' pods the nodes' all is taken; without that to nodes the quota alone."""
    config = KubernetesConfig()
    refused = ForbiddenError('cannot list resource "pods"')
    survey = await look(config, [], **{NODES: [node()], PODS: refused, USAGE: ForbiddenError("no")})
    assert survey.cluster.total == Resources(4000, 8 * GIB, 100 * GIB)
    assert (survey.cluster.asked, survey.cluster.used) == (None, None)
    assert 'what others\' pods ask is not known: cannot list resource "pods"' in survey.cluster.words()
    quota = {"status": {"hard": {"requests.cpu": "2"}, "used": {}}}
    survey = await look(config, [], **{NODES: ForbiddenError("no"), QUOTA: quota})
    assert survey.cluster.total == Resources(cpu_millis=2000)
    survey = await look(config, [], **{NODES: ForbiddenError("no")})
    assert survey.cluster.total is None


@pytest.mark.parametrize("nodes", [[node(unschedulable=True)], []])
async def test_a_cluster_whose_nodes_take_no_workers_has_nothing_left(nodes: list[Any]) -> None:
    """W15: where nobody adds nodes, jobs wait for one; that is not the same as no bound."""
    survey = await look(KubernetesConfig(), [], **{NODES: nodes, PODS: []})
    assert survey.cluster.total == Resources(1, 1, 1)
    assert f"0 of {len(nodes)} nodes take workers" in survey.cluster.words()


async def test_a_quota_that_may_not_be_read_is_told() -> None:
    """That there is none is not worth a word."""
    refused = ForbiddenError('cannot get resource "resourcequotas"')
    survey = await look(KubernetesConfig(), [], **{NODES: [node()], PODS: [], QUOTA: refused})
    assert survey.cluster.total == Resources(4000, 8 * GIB, 100 * GIB)
    assert 'what the quota leaves is not known: cannot get resource "resourcequotas"' in survey.cluster.words()
    survey = await look(KubernetesConfig(), [], **{NODES: [node()], PODS: []})
    assert "quota" not in survey.cluster.words()


async def test_a_node_that_does_not_tell_yet_what_it_has_counts_as_nothing() -> None:
    """W28: it is ready all the same; health and all else goes on."""
    silent = node("new")
    del silent["status"]["allocatable"]
    survey = await look(KubernetesConfig(), [], **{NODES: [node(), silent], PODS: []})
    assert survey.cluster.nodes == (2, 2)
    assert survey.cluster.total == Resources(4000, 8 * GIB, 100 * GIB)


async def test_what_is_used_up_is_not_taken_for_unbounded() -> None:
    """0 would mean that nothing bounds it."""
    config = KubernetesConfig()
    other = pod(config, Resources(cpu_millis=9000), "other")
    survey = await look(config, [], **{NODES: [node()], PODS: [other]})
    assert survey.cluster.total is not None
    assert survey.cluster.total.cpu_millis == 1


async def test_usage_is_told_where_it_is_measured() -> None:
    """Of the nodes that take workers."""
    usage = [
        {"metadata": {"name": name}, "usage": {"cpu": "1500000000n", "memory": "2Gi"}} for name in ("one", "cordoned")
    ]
    nodes = [node(), node("cordoned", unschedulable=True)]
    survey = await look(KubernetesConfig(), [], **{NODES: nodes, PODS: [], USAGE: usage})
    assert survey.cluster.used == {"cpu_millis": 1500, "memory_bytes": 2 * GIB}
    assert "1.5 processors and 2.0 GiB are in use" in survey.cluster.words()


class Weighed(dict[str, Any]):
    """A pod of which can be said whether it is still in memory."""


class Pages(Cluster):
    """A cluster of so many pages of pods, each of two that ask for 10m; it sees how many are in memory at once."""

    def __init__(self, pages: int) -> None:
        super().__init__(**{NODES: [node(cpu="1000")]})
        self.pages = pages
        self.looks = 0
        self.kept: list[weakref.ref[Weighed]] = []
        self.most = 0

    async def get(self, path: str, **query: str) -> Any:
        """Answer with a page."""
        if path != PODS:
            return await super().get(path, **query)
        at = int(query.get("continue", "1"))
        self.looks += at == 1
        self.most = max(self.most, sum(each() is not None for each in self.kept))
        container = {"resources": {"requests": {"cpu": "10m"}}}
        items = [
            Weighed(metadata={"uid": f"{at}-{each}"}, spec={"nodeName": "one", "containers": [container]})
            for each in range(2)
        ]
        self.kept += [weakref.ref(each) for each in items]
        return {"items": items, "metadata": {"continue": str(at + 1) if at < self.pages else ""}}


async def test_all_pods_are_counted_and_no_more_than_a_page_of_them_is_in_memory() -> None:
    """L08: a cluster may have tens of thousands of them."""
    cluster = Pages(20)
    survey = Survey(cluster, KubernetesConfig(), list)  # type: ignore[arg-type]  # it gets, and that is all
    await survey.look()
    assert survey.cluster.asked == {"cpu_millis": 2 * 20 * 10}
    assert len(cluster.kept) == 40
    assert cluster.most <= 2


async def test_a_cluster_of_many_pods_is_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """W28: by a clock that stands still, then moves; half a minute for six thousand of them."""
    now = [1000.0]
    monkeypatch.setattr("hodei_providers.kubernetes.survey.time", SimpleNamespace(monotonic=lambda: now[0]))
    cluster = Pages(3000)
    survey = Survey(cluster, KubernetesConfig(), list)  # type: ignore[arg-type]  # it gets, and that is all
    await survey.keep_current()
    now[0] += 29.9
    await survey.keep_current()
    assert cluster.looks == 1
    now[0] += 0.2
    await survey.keep_current()
    assert cluster.looks == 2
