"""What the Kubernetes provider is told, validated before anything is asked of a cluster."""

from __future__ import annotations

import dataclasses

from hodei_providers.config import ConfigError, options_of
from hodei_providers.declared_types import mistyped
from hodei_providers.kubernetes.checks import violations
from hodei_providers.kubernetes.options import KubernetesOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class KubernetesConfig(KubernetesOptions):
    """Everything that can be said of one cluster; each field is the variable ``HODEI_K8S_<FIELD>``.

    Quantities are written as Kubernetes writes them: ``500m``, ``2``, ``1Gi``. In variables, maps are ``key=value,…``,
    lists are separated by commas, and what has a structure of its own is JSON, as in a pod's manifest. Built in code,
    it takes the values themselves: enumerations, numbers, tuples, mappings; those of another type are refused.

    :raise ConfigError: values can't be used; a line for each, with the variable and what was expected.
    """

    def __post_init__(self) -> None:
        """Check every field."""
        wrong = [
            f"{self.prefix}{field.upper()}: {getattr(self, field)!r} can't be used: {expected}"
            # Values of other types than these can't be judged any further.
            for field, expected in list(mistyped(self)) or violations(self)
        ]
        if wrong:
            raise ConfigError("\n".join(wrong))


KubernetesConfig.__doc__ = "\n    ".join(
    [
        f"{KubernetesConfig.__doc__}",
        *(f":param {info.name}: {info.description}" for info in options_of(KubernetesConfig)),
    ]
)
