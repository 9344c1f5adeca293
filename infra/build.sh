#!/usr/bin/env bash
# Step 1 of docs/deploy.md: builds the functions, and builds and pushes the trainer's image.
#
#   infra/build.sh               functions and image
#   infra/build.sh functions     functions only (nothing in AWS is touched)
#   infra/build.sh images        image only
#
# Environment: ARCHITECTURE (arm64 or x86_64, as Terraform's `architecture`), IMAGE_TAG (as `trainer.image_tag`; tags are
# immutable, so a new image needs a new one), VARIANTS ("cpu", "gpu" or "cpu gpu"; gpu needs the trainer's feature cuda). Functions
# need cargo-lambda, images Docker, Terraform and the AWS command line.
set -euo pipefail
cd "$(dirname "$0")/.."

what="${1:-all}"
architecture="${ARCHITECTURE:-arm64}"
tag="${IMAGE_TAG:-0.1.0}"
read -ra variants <<<"${VARIANTS:-cpu}"

functions() {
  local flag
  case "$architecture" in
    arm64) flag=--arm64 ;;
    x86_64) flag=--x86-64 ;;
    *) echo "ARCHITECTURE is \`$architecture\`; arm64 or x86_64 is accepted" >&2; exit 2 ;;
  esac
  # One package at a time: packages that are built together share the features of their dependencies, and predict would get
  # the compiler of compile.
  local package
  for package in moola-control moola-predict moola-predict-native; do
    cargo lambda build --profile lambda "$flag" --output-format zip -p "$package"
  done
  ls -l "${CARGO_TARGET_DIR:-target}"/lambda/*/bootstrap.zip
}

images() {
  local made repository variant features
  terraform -chdir=terraform init -input=false
  # The repository must be there before the image: the first time Terraform makes it, and the key that encrypts it, ahead of
  # the rest.
  made="$(terraform -chdir=terraform state list 2>/dev/null || true)"
  if ! grep -qx module.batch.aws_ecr_repository.trainer <<<"$made"; then
    terraform -chdir=terraform apply -input=false -auto-approve -target=module.batch.aws_ecr_repository.trainer
  fi
  repository="$(echo 'module.batch.repository_url' | terraform -chdir=terraform console | tr -d '"')"
  aws ecr get-login-password --region "$(cut -d. -f4 <<<"$repository")" \
    | docker login --username AWS --password-stdin "${repository%%/*}"
  for variant in "${variants[@]}"; do
    features=aws
    [ "$variant" = gpu ] && features=aws,cuda
    docker build --platform linux/amd64 -f infra/trainer.Dockerfile --target "$variant" \
      --build-arg FEATURES="$features" -t "$repository:$tag-$variant" .
    docker push "$repository:$tag-$variant"
  done
}

case "$what" in
  all) functions; images ;;
  functions) functions ;;
  images) images ;;
  *) echo "usage: infra/build.sh [functions|images]" >&2; exit 2 ;;
esac
