#!/usr/bin/env bash
# Brings an overlay with one image into the cluster of the current context, and waits until it serves:
#   deploy/ci/deploy.sh OVERLAY REGISTRY/midfill@sha256:…
# When the roll-out does not come through, the release before is restored and the exit status is 1.
set -euo pipefail
cd "$(dirname "$0")/../kubernetes"
overlay=${1:?usage: deploy.sh OVERLAY IMAGE@DIGEST}
image=${2:?usage: deploy.sh OVERLAY IMAGE@DIGEST}
case $image in *@sha256:*) ;; *) echo "deploy.sh: name the image by its digest, not by a tag that may move" >&2 && exit 2 ;; esac
[ -d "overlays/$overlay" ] || { echo "deploy.sh: no overlay $overlay; there are: $(ls overlays)" >&2 && exit 2; }

made=$(mktemp -d ./.release-XXXXXX)
trap 'rm -rf "$made"' EXIT
placed() { # DIRECTORY: its manifests with the image
  local was
  was=$(sed -n 's/^ *newName: *//p' "$1/kustomization.yaml" | head -n 1)
  cat >"$made/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../$1]
images:
  - {name: $was, newName: ${image%@*}, digest: ${image#*@}}
YAML
  kubectl kustomize "$made"
}

# the tables first: a release knows those of the next one, not the other way round
kubectl --namespace midfill delete job midfill-database-upgrade --ignore-not-found --wait
placed jobs/database-upgrade | kubectl apply --filename -
kubectl --namespace midfill wait --for=condition=complete --timeout=600s job/midfill-database-upgrade

placed "overlays/$overlay" | kubectl apply --filename -
if ! kubectl --namespace midfill rollout status deployment/midfill --timeout=900s; then
  echo "deploy.sh: the roll-out did not come through; going back" >&2
  kubectl --namespace midfill get pods --selector app.kubernetes.io/name=midfill >&2
  kubectl --namespace midfill rollout undo deployment/midfill
  kubectl --namespace midfill rollout status deployment/midfill --timeout=900s
  exit 1
fi
