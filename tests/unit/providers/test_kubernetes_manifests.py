"""The infrastructure of a namespace, without a cluster."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from hodei_cli.commands import cli
from hodei_providers.kubernetes import KubernetesConfig, PodSecurityStandard
from hodei_providers.kubernetes.manifests import (
    make_files,
    make_limit_range,
    make_namespace,
    make_namespace_parts,
    make_network_policy,
    make_quota,
    make_service_account,
)
from hodei_providers.kubernetes.network import Place, written_place
from hodei_providers.kubernetes.rights import (
    JOBS_RULES,
    make_cluster_roles,
    make_infrastructure_role,
    make_role_binding,
    make_subject,
)

INSIDE = written_place(KubernetesConfig())
FOLDER = Path(__file__).parents[3] / "deploy" / "k8s"
IDENTITY = "system:serviceaccount:hodei:hodei-server"


def all_rights() -> list[dict[str, Any]]:
    """Return all that servers may be given, with one namespace or many."""
    configs = [KubernetesConfig(), KubernetesConfig(dynamic_namespaces=True)]
    return [part for config in configs for part in make_files(config, IDENTITY, INSIDE)["rbac.yaml"]]


def test_the_files_to_apply_are_what_the_command_makes(tmp_path: Path) -> None:
    """An administrator's copy and the provider's own are one, and each file of the folder comes from the command."""
    command = ["k8s", "manifests", "--folder", str(tmp_path), "--add", "server", "--add", "hpa", "--add", "prepull"]
    unset = dict.fromkeys([name for name in os.environ if name.startswith("HODEI_")])
    made = CliRunner().invoke(cli, command, env=unset)
    assert made.exit_code == 0, made.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in FOLDER.iterdir())
    for path in tmp_path.iterdir():
        assert path.read_text() == (FOLDER / path.name).read_text(), f"{path.name}: see 'just k8s-manifests'"
    for name, parts in make_files(KubernetesConfig(), IDENTITY, INSIDE).items():
        assert list(yaml.safe_load_all((tmp_path / name).read_text())) == parts


def test_a_namespace_enforces_audits_and_warns() -> None:
    """The standard that is set, restricted by default."""
    labels = make_namespace("space", KubernetesConfig())["metadata"]["labels"]
    modes = ("enforce", "audit", "warn")
    assert [labels[f"pod-security.kubernetes.io/{mode}"] for mode in modes] == ["restricted"] * 3
    weaker = KubernetesConfig(pod_security_standard=PodSecurityStandard.BASELINE)
    assert make_namespace("space", weaker)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"


def test_workers_have_no_rights_and_no_token() -> None:
    """Nothing is bound to their account."""
    config = KubernetesConfig()
    assert make_service_account("space", config)["automountServiceAccountToken"] is False
    parts = [*make_namespace_parts("space", config, IDENTITY, INSIDE), *all_rights()]
    subjects = [subject for part in parts for subject in part.get("subjects", [])]
    assert {subject["name"] for subject in subjects} == {"hodei-server"}


def test_the_server_runs_no_commands_in_pods_and_reads_no_secrets() -> None:
    """Even a stolen account of the server's reads no token back."""
    rules: dict[str, Any] = {resource: rule["verbs"] for rule in JOBS_RULES for resource in rule["resources"]}
    assert set(rules) == {"pods", "pods/log", "secrets", "events"}
    assert set(rules["secrets"]) == {"create", "patch", "delete"}
    for part in all_rights():
        for rule in part.get("rules", []):
            assert not {"pods/exec", "pods/attach", "*"} & {*rule["resources"], *rule["verbs"]}


def test_the_server_gives_itself_nothing_but_the_role_of_jobs() -> None:
    """By `bind` on that one name."""
    rules = [rule for part in all_rights() for rule in part.get("rules", [])]
    binds = [rule["resourceNames"] for rule in rules if "bind" in rule["verbs"]]
    assert binds
    assert all(names == ["hodei-server-jobs"] for names in binds)
    bound = make_role_binding("space", "someone", "ClusterRole")
    assert bound["roleRef"]["name"] == "hodei-server-jobs"
    assert bound["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "someone"}]


def bound_everywhere(parts: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return what a server may do in every namespace, and beyond: verbs and resources."""
    names = [part["roleRef"]["name"] for part in parts if part["kind"] == "ClusterRoleBinding"]
    roles = [part for part in parts if part["kind"] == "ClusterRole" and part["metadata"]["name"] in names]
    rules = [rule for role in roles for rule in role["rules"]]
    return {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}


NODES = {("get", "nodes"), ("list", "nodes"), ("watch", "nodes")}


def test_with_one_namespace_the_server_has_rights_there_alone_and_reads_nodes() -> None:
    """W24: what it makes is made by a Role; where an administrator makes it, that is not there either."""
    for ensure in (True, False):
        config = KubernetesConfig(namespace="space", ensure=ensure)
        parts = make_files(config, IDENTITY, INSIDE)["rbac.yaml"]
        assert bound_everywhere(parts) == NODES
        bound = [part["roleRef"]["name"] for part in parts if part["kind"] == "RoleBinding"]
        assert bound == ["hodei-server", *["hodei-server-infrastructure"] * ensure]
        assert {part["metadata"].get("namespace") for part in parts if not part["kind"].startswith("Cluster")} == {
            "space"
        }
    role = make_infrastructure_role(KubernetesConfig(), IDENTITY)[0]
    (space,) = [rule for rule in role["rules"] if rule["resources"] == ["namespaces"]]
    assert (space["resourceNames"], space["verbs"]) == (["hodei-jobs-workers"], ["get", "patch"])


def test_only_a_server_that_makes_tenants_namespaces_has_rights_in_all_of_them() -> None:
    """W24: one whose namespaces an administrator makes reads which there are."""
    config = KubernetesConfig(dynamic_namespaces=True)
    everywhere = bound_everywhere(make_cluster_roles(config, IDENTITY))
    assert everywhere >= {*NODES, ("create", "namespaces"), ("create", "rolebindings"), ("bind", "clusterroles")}
    given = dataclasses.replace(config, ensure=False)
    assert bound_everywhere(make_cluster_roles(given, IDENTITY)) == {*NODES, ("list", "namespaces")}


def test_what_is_applied_for_one_server_takes_no_right_from_another() -> None:
    """Of one cluster, where an object that is there under a name is replaced: whoever they are, in whatever order."""
    one = KubernetesConfig()
    many = dataclasses.replace(one, dynamic_namespaces=True)
    servers = {
        IDENTITY: one,
        "system:serviceaccount:hodei:another": one,
        "system:serviceaccount:other:hodei-server": many,
        "someone": dataclasses.replace(many, ensure=False),
        "arn:aws:iam::1:role/hodei": one,
        "arn:aws:iam::1:role-hodei": one,
        "a" * 300: one,
        "a" * 301: one,
    }
    for order in (list(servers), list(reversed(servers))):
        there = {}
        for identity in order:
            for part in make_cluster_roles(servers[identity], identity):
                there[part["kind"], part["metadata"]["name"]] = part
        assert all(len(name) <= 253 and not {"/", "%"} & {*name} for _, name in there)
        for identity, config in servers.items():
            theirs = [
                part
                for part in there.values()
                if part.get("subjects", [make_subject(identity)]) == [make_subject(identity)]
            ]
            assert bound_everywhere(theirs) == bound_everywhere(make_cluster_roles(config, identity))


def test_the_bounds_are_those_that_were_ordered() -> None:
    """Of all workers together, and of one that says nothing."""
    config = KubernetesConfig()
    assert make_quota("space", config)["spec"]["hard"] == {
        "pods": "100",
        "requests.cpu": "50",
        "requests.memory": "200Gi",
        "limits.cpu": "200",
        "limits.memory": "400Gi",
    }
    limits = make_limit_range("space", config)["spec"]["limits"][0]
    assert (limits["default"], limits["defaultRequest"]) == (
        {"cpu": "2", "memory": "4Gi"},
        {"cpu": "500m", "memory": "1Gi"},
    )


def test_workers_call_out_and_nobody_calls_them() -> None:
    """To names and to the server, and to what a setting adds."""
    extra = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}
    config = KubernetesConfig(network_egress=(extra,))
    spec = make_network_policy("space", config, Place([{"ipBlock": {"cidr": "10.0.0.1/32"}}], 6000))["spec"]
    assert spec["podSelector"] == {"matchLabels": {"app": "hodei-jobs-worker"}}
    assert (spec["ingress"], spec["policyTypes"]) == ([], ["Ingress", "Egress"])
    dns, server, more = spec["egress"]
    assert dns == {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    assert server == {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [{"protocol": "TCP", "port": 6000}]}
    assert more == extra


def test_names_are_asked_of_those_that_a_setting_names() -> None:
    """Else port 53 of any address is a way out."""
    peers = ({"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}, {"ipBlock": {"cidr": "169.254.20.10/32"}})
    dns = make_network_policy("space", KubernetesConfig(dns_peers=peers), INSIDE)["spec"]["egress"][0]
    assert dns["to"] == list(peers)
    assert [each["port"] for each in dns["ports"]] == [53, 53]


def test_a_server_that_is_nowhere_is_not_everywhere() -> None:
    """A rule without peers would let workers reach everything: there is none."""
    assert make_network_policy("space", KubernetesConfig(), None)["spec"]["egress"] == [
        {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    ]


def test_pull_secrets_can_be_read_by_name_only_where_they_are_copied() -> None:
    """Those that are named, in the one namespace, for tenants' namespaces."""
    plain = KubernetesConfig(image_pull_secrets=("registry",))
    assert "hodei-server-pull-secrets" not in str(make_files(plain, IDENTITY, INSIDE))
    config = KubernetesConfig(image_pull_secrets=("registry",), dynamic_namespaces=True)
    role, binding = make_files(config, IDENTITY, INSIDE)["rbac.yaml"][-2:]
    assert role["metadata"]["namespace"] == "hodei-jobs-workers"
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["registry"], "verbs": ["get"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_right_to_see_all_pods_is_bound_to_nobody() -> None:
    """An administrator gives it, where one watch for all tenants is worth it."""
    parts = make_cluster_roles(KubernetesConfig(), IDENTITY)
    (role,) = [part for part in parts if part["metadata"]["name"] == "hodei-server-watch"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    assert "hodei-server-watch" not in [part.get("roleRef", {}).get("name") for part in parts]


def test_an_administrator_gets_what_one_tenants_namespace_needs() -> None:
    """Where the server may not make it."""
    command, variables = ["k8s", "manifests", "--tenant"], {"HODEI_K8S_NAMESPACE_PREFIX": "t-"}
    printed = CliRunner().invoke(cli, [*command, "acme"], env=variables)
    assert printed.exit_code == 0, printed.output
    parts = list(yaml.safe_load_all(printed.output))
    expected = make_namespace_parts("t-acme", KubernetesConfig(), IDENTITY, INSIDE, tenant="acme")
    assert parts == expected
    assert parts[0]["metadata"]["labels"]["hodei.io/tenant"] == "acme"
    refused = CliRunner().invoke(cli, [*command, "Not a tenant"], env=variables)
    assert refused.exit_code == 2
    assert "--tenant" in refused.output


def test_what_is_printed_is_bound_to_whom_the_command_or_a_setting_names() -> None:
    """The command's word before the setting's, and the server's own account in the cluster without either."""
    setting = {"HODEI_K8S_SERVER_IDENTITY": "system:serviceaccount:control:hodei"}
    for arguments, variables, named in (
        ([], {}, ("hodei", "hodei-server")),
        ([], setting, ("control", "hodei")),
        (["--identity", "system:serviceaccount:other:one"], setting, ("other", "one")),
    ):
        for more in ([], ["--tenant", "acme"]):
            printed = CliRunner().invoke(cli, ["k8s", "manifests", *more, *arguments], env=variables)
            parts = list(yaml.safe_load_all(printed.output))
            subjects = [subject for part in parts for subject in part.get("subjects", [])]
            assert subjects
            assert {(subject["namespace"], subject["name"]) for subject in subjects} == {named}
