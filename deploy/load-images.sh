#!/usr/bin/env bash
# Brings images of the local Docker engine to a cluster; run by `just k8s-load-image`.
#
#   HODEI_REGISTRY=registry.example/team/   tags and pushes them there; nodes pull them by that name
#   HODEI_K8S_IMPORT='COMMAND'              hands an archive of them to a command, for a node without a registry:
#                                           'ssh node1 sudo ctr -n k8s.io images import -', 'sudo k3s ctr images import -'
#   neither                                 the cluster of `just k8s-up`, by kind
set -euo pipefail
if [ $# -eq 0 ]; then
    echo "usage: $0 IMAGE..." >&2
    exit 2
fi
if [ -n "${HODEI_REGISTRY:-}" ]; then
    for image; do
        case $image in
        "$HODEI_REGISTRY"*) ;;
        *) docker tag "$image" "$HODEI_REGISTRY$image" ;;
        esac
        docker push "$HODEI_REGISTRY${image#"$HODEI_REGISTRY"}"
    done
elif [ -n "${HODEI_K8S_IMPORT:-}" ]; then
    docker save "$@" | sh -c "$HODEI_K8S_IMPORT"
else
    kind load docker-image --name hodei-test "$@"
fi
