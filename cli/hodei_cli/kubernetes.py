"""Commands around a Kubernetes cluster; they ask nothing of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

IDENTITY = "system:serviceaccount:hodei:hodei-server"


@click.group("k8s")
def k8s_command() -> None:
    """A Kubernetes cluster for workers."""


@k8s_command.command("manifests")
@click.option(
    "--identity",
    default=IDENTITY,
    show_default=True,
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
def manifests_command(identity: str, folder: Path | None, provider: str | None, tenant: str) -> None:
    """Print what an administrator applies for the server, by the HODEI_K8S_* variables.

    For 'kubectl apply -f -'. A server with an administrator's rights makes it all by itself.
    """
    from hodei_providers.config import given_options, read_config  # noqa: PLC0415 - for this command alone
    from hodei_providers.kubernetes.config import KubernetesConfig  # noqa: PLC0415 - the same
    from hodei_providers.kubernetes.manifests import make_files, make_namespace_parts  # noqa: PLC0415 - the same
    from hodei_providers.kubernetes.names import is_dns_label  # noqa: PLC0415 - the same

    if provider is None:
        given = given_options(KubernetesConfig, environment=os.environ, own={}, shared={})
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
    if tenant:
        if not is_dns_label(tenant):
            raise click.BadParameter("expected a DNS label: lower-case letters, digits and '-'", param_hint="--tenant")
        space = f"{config.namespace_prefix}{tenant}"
        files = {"tenant.yaml": make_namespace_parts(space, config, identity, tenant=tenant)}
    else:
        files = make_files(config, identity)
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
