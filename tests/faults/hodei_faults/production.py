"""What docs/kubernetes.md has for production, as it stands there: an example, and a checklist."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"


def production_variables() -> dict[str, str]:
    """Return the example's settings, by variable."""
    block = PAGE.read_text().split("## In production")[1].split("```sh\n")[1].split("```")[0]
    return dict(line.split("=", 1) for line in block.splitlines())


def production_checklist() -> dict[str, str]:
    """Return what covers each line of the checklist, by what it is to see to."""
    table = PAGE.read_text().split("| before it counts | covered by |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [row.strip("| ").partition(" | ") for row in table.splitlines()]
    return {need: covered for need, _, covered in rows}


def see_as_written(pod: Mapping[str, Any], image: str, weight: int) -> None:
    """See that the API server has taken a pod as the example says."""
    example = production_variables()
    spec, (worker,) = pod["spec"], pod["spec"]["containers"]
    label, _, value = example["HODEI_K8S_NODE_SELECTOR"].partition("=")
    assert spec["nodeSelector"] == {label: value}
    assert {"key": "pool", "operator": "Equal", "value": "jobs", "effect": "NoSchedule"} in spec["tolerations"]
    # The cluster's own admission has found the class.
    assert (spec["priorityClassName"], spec["priority"]) == (example["HODEI_K8S_PRIORITY_CLASS"], weight)
    assert spec["imagePullSecrets"] == [{"name": example["HODEI_K8S_IMAGE_PULL_SECRETS"]}]
    assert spec["serviceAccountName"] == example["HODEI_K8S_SERVICE_ACCOUNT"]
    assert (worker["image"], worker["imagePullPolicy"]) == (image, example["HODEI_K8S_IMAGE_PULL_POLICY"])
    for resource in ("CPU", "MEMORY"):
        for kind in ("REQUEST", "LIMIT"):
            written = example[f"HODEI_K8S_DEFAULT_{resource}_{kind}"]
            assert worker["resources"][f"{kind.lower()}s"][resource.lower()] == written
    assert pod["metadata"]["labels"]["team"] == "platform"
