"""Commands around a Kubernetes cluster; they ask nothing of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


@click.group("k8s")
def k8s_command() -> None:
    """A Kubernetes cluster for workers."""


@k8s_command.command("manifests", short_help="Print what an administrator applies.")
@click.option(
    "--identity",
    default="",
    show_default="HODEI_K8S_SERVER_IDENTITY, else the account hodei-server in HODEI_K8S_SERVER_NAMESPACE",
    help="Whom the server is to the cluster: a user, or system:serviceaccount:NAMESPACE:NAME.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a file for each subject there, instead of everything to stdout.",
)
@click.option(
    "--provider",
    metavar="NAME",
    help="For the provider of this name, with its own options, instead of the HODEI_K8S_* variables alone.",
)
@click.option("--tenant", default="", help="Only what this tenant's namespace needs (HODEI_K8S_DYNAMIC_NAMESPACES).")
@click.option(
    "--add",
    type=click.Choice(["server", "hpa", "prepull"]),
    multiple=True,
    help="Also the server itself, an autoscaler for it, or a DaemonSet that pulls the worker's image ahead.",
)
@click.option("--server-image", default="hodei-jobs-server:latest", show_default=True, help="Of the server.")
@click.option(
    "--tls-secret",
    default="",
    metavar="NAME",
    help="A Secret (tls.crt, tls.key, ca.crt) with which the server takes clients beyond its pod.",
)
@click.option("--prepull-image", multiple=True, metavar="IMAGE", help="Another image to pull ahead.")
def manifests_command(
    *,
    identity: str,
    folder: Path | None,
    provider: str | None,
    tenant: str,
    add: Sequence[str],
    server_image: str,
    tls_secret: str,
    prepull_image: Sequence[str],
) -> None:
    """Print what an administrator applies for the server, by the HODEI_K8S_* variables.

    For 'kubectl apply -f -'. A server with an administrator's rights makes it all by itself, but for what '--add'
    names. The server that '--add server' prints has the settings that this command was given. The network policy lets
    workers reach HODEI_K8S_SERVER_ADDRESS; without it, a server in the cluster, in HODEI_K8S_SERVER_NAMESPACE.
    """
    from hodei_providers.config import given_options, options_of, read_config  # noqa: PLC0415 - for this command alone
    from hodei_providers.kubernetes.config import KubernetesConfig  # noqa: PLC0415 - the same
    from hodei_providers.kubernetes.manifests import make_files, make_namespace_parts  # noqa: PLC0415 - the same
    from hodei_providers.kubernetes.names import is_dns_label  # noqa: PLC0415 - the same
    from hodei_providers.kubernetes.network import written_place  # noqa: PLC0415 - the same
    from hodei_providers.kubernetes.serving import make_hpa, make_prepull, make_server  # noqa: PLC0415 - the same

    if provider is None:
        shared = {"worker_image": os.environ.get("HODEI_WORKER_IMAGE", "")}
        given = given_options(KubernetesConfig, environment=os.environ, own={}, shared=shared)
    else:
        from hodei_server.settings import load_settings  # noqa: PLC0415 - needs the extra "server"

        settings = load_settings()
        kinds = settings.provider_kinds
        if kinds.get(provider) != "kubernetes":
            known = ", ".join(name for name, kind in kinds.items() if kind == "kubernetes") or "none"
            raise click.BadParameter(
                f"there is no provider of Kubernetes named {provider!r}; there are: {known}", param_hint="--provider"
            )
        given = settings.provider_config(provider)
    config = read_config(KubernetesConfig, given)
    identity = identity or config.server_identity or f"system:serviceaccount:{config.server_namespace}:hodei-server"
    place = written_place(config)
    if tenant:
        if not is_dns_label(tenant):
            raise click.BadParameter("expected a DNS label: lower-case letters, digits and '-'", param_hint="--tenant")
        space = f"{config.namespace_prefix}{tenant}"
        files = {"tenant.yaml": make_namespace_parts(space, config, identity, place, tenant=tenant)}
    else:
        files = make_files(config, identity, place)
        if "server" in add:
            names = {info.name: info.variable for info in options_of(KubernetesConfig)}
            variables = {names[name]: each.text for name, each in given.items()}
            files["server.yaml"] = make_server(config, variables, image=server_image, tls_secret=tls_secret)
        if "hpa" in add:
            files["hpa.yaml"] = make_hpa(config)
        if "prepull" in add:
            files["prepull.yaml"] = make_prepull(config, prepull_image)
    if folder is None:
        if not tenant:
            # The namespace comes first: what is in it can't be applied before.
            files = {"namespace.yaml": files.pop("namespace.yaml"), **files}
        click.echo("---\n".join(map(_written, files.values())), nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in files.items():
        (folder / name).write_text(_written(parts))
        click.echo(folder / name)


def _written(parts: list[dict[str, Any]]) -> str:
    import yaml  # noqa: PLC0415 - for this command alone

    class Plain(yaml.SafeDumper):
        """Writes equal parts out again: people read no aliases."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's shape
            return True

    return yaml.dump_all(parts, Dumper=Plain, sort_keys=False)
