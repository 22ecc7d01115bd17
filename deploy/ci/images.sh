#!/usr/bin/env bash
# Builds the images, with SBOM and provenance, and pushes them: deploy/ci/images.sh REGISTRY/midfill [cpu cuda train]
# The references by digest, which is what gets deployed, are written to dist/images.
#   PIP_CONF     pip.conf that names the indexes (PyTorch's for the CPU build); "NAME.DEVICE" is looked for, too
#   COSIGN_KEY   where it is set the digests are signed with it
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=${1:?usage: images.sh REGISTRY/midfill [target…]}
shift
[ $# -gt 0 ] || set -- cpu cuda
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse --short=12 HEAD)
mkdir -p dist && : >dist/images
for target in "$@"; do
  device=cpu extras=cluster,grpc,otel,s3
  case $target in
  cuda) device=cuda ;;
  train) device=cuda extras=train ;;
  esac
  secret=()
  for file in "${PIP_CONF:-}.$device" "${PIP_CONF:-}"; do
    if [ -f "$file" ]; then secret=(--secret "id=pip,src=$file") && break; fi
  done
  tag=$repository:$version-$target
  docker buildx build --file deploy/docker/Dockerfile --target "$target" --tag "$tag" --push \
    --build-arg DEVICE=$device --build-arg EXTRAS=$extras --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    ${BASE_IMAGE:+--build-arg BASE_IMAGE="$BASE_IMAGE"} "${secret[@]}" \
    --sbom=true --provenance=mode=max --metadata-file "dist/$target.json" .
  digest=$(sed -n 's/.*"containerimage.digest": "\(sha256:[0-9a-f]*\)".*/\1/p' "dist/$target.json")
  [ -n "$digest" ] || { echo "images.sh: docker told no digest for $tag" >&2 && exit 1; }
  if [ -n "${COSIGN_KEY:-}" ]; then cosign sign --yes --key "$COSIGN_KEY" "$repository@$digest"; fi
  echo "$target $repository@$digest" | tee -a dist/images
done
