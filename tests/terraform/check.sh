#!/usr/bin/env bash
# Checks terraform/: format, checkov, and where the AWS provider can be had validate and the tests of terraform/tests; with
# AWS_ENDPOINT_URL (an emulator) also plan, apply (without queues of training), an empty second plan, a request through the
# API, and destroy. What cannot run is said.
#
# Where provider 6 cannot be had and TF_PLUGIN_MIRROR (default /opt/tf-plugins) is a filesystem mirror with one of 5.x, a working
# copy with the two edits that 5.x needs is checked instead, and says so.
#
# Needs terraform. checkov: CHECKOV, the environment that this script's requirements.txt was installed into
# ($HOME/.cache/moola/checkov), or PATH. Bootstraps: ARTIFACTS_DIR (default target/lambda); without them stand-ins are used,
# which can be planned but answer nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

skipped() { echo "SKIPPED: $*"; }

echo "== terraform fmt"
if command -v terraform >/dev/null; then
  terraform fmt -check -recursive -diff terraform
else
  skipped "terraform is not installed"
fi

echo "== checkov"
checkov="${CHECKOV:-$HOME/.cache/moola/checkov/bin/checkov}"
[ -x "$checkov" ] || checkov="$(command -v checkov || true)"
if [ -n "$checkov" ]; then
  "$checkov" --directory terraform --framework terraform --compact --quiet --skip-download 2>/dev/null
else
  skipped "checkov is not installed (pip install -r tests/terraform/requirements.txt)"
fi

# Everything below works on a copy: no state and no lock file is left behind.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cp -r terraform infra "$work"
tf() { terraform -chdir="$work/terraform" "$@"; }

echo "== the AWS provider"
command -v terraform >/dev/null || exit 0
if ! tf init -backend=false -input=false -no-color >"$work/init.log" 2>&1; then
  grep -qE 'Failed to (query available provider packages|install provider)' "$work/init.log" || { cat "$work/init.log"; exit 1; }
  mirror="${TF_PLUGIN_MIRROR:-/opt/tf-plugins}"
  found="$(find "$mirror" -mindepth 4 -maxdepth 4 -path '*/hashicorp/aws/5.*' 2>/dev/null | sort -V | tail -1)"
  if [ -z "$found" ]; then
    skipped "validate, plan and apply: the AWS provider cannot be had here ($(grep -m1 -o 'Error: .*' "$work/init.log"))"
    exit 0
  fi
  echo "provider 6 cannot be had here; going on with ${found##*/} of $mirror, and two edits of the working copy:"
  edit() {
    echo "  $1"
    grep -rlE --include='*.tf' --exclude-dir=.terraform "$2" "$work/terraform" | xargs sed -i -E "s/$2/$3/"
  }
  edit 'version = ">= 6.0, < 7.0" -> ">= 5.0, < 6.0"' '">= 6\.0, < 7\.0"' '">= 5.0, < 6.0"'
  edit 'name_prefix of the compute environment -> compute_environment_name_prefix' \
    '^( *)name_prefix( *= "\$\{var\.prefix\}-\$\{each\.key\}-")' '\1compute_environment_name_prefix\2'
  printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$(realpath "$mirror")" >"$work/mirror.tfrc"
  export TF_CLI_CONFIG_FILE="$work/mirror.tfrc"
  tf init -backend=false -input=false -no-color >"$work/init.log" 2>&1 || { cat "$work/init.log"; exit 1; }
fi
tf version | grep provider
tf validate -no-color

artifacts="$(realpath -m "${ARTIFACTS_DIR:-${CARGO_TARGET_DIR:-target}/lambda}")"
is_real=true
for name in predict predict_native registry training compile drift react; do
  if [ ! -f "$artifacts/$name/bootstrap.zip" ]; then
    is_real=false
  fi
done
if ! $is_real; then
  artifacts="$work/artifacts"
  for name in predict predict_native registry training compile drift react; do
    mkdir -p "$artifacts/$name"
    printf 'PK\005\006%018d' 0 | tr 0 '\000' >"$artifacts/$name/bootstrap.zip"
  done
fi

echo "== terraform test"
tf test -no-color -var "artifacts_dir=$artifacts"

if [ -z "${AWS_ENDPOINT_URL:-}" ]; then
  skipped "plan and apply: AWS_ENDPOINT_URL names no emulator"
  exit 0
fi
variables=(
  -input=false -no-color
  -var "endpoint_url=$AWS_ENDPOINT_URL"
  -var "artifacts_dir=$artifacts"
  -var authorization=NONE
  # MiniStack's Batch cannot take job definitions back, and answers other ones than it is asked for.
  -var 'trainer={ cpu_max_vcpus = 0 }'
)
[ "$(uname -m)" = x86_64 ] && variables+=(-var architecture=x86_64)
echo "== plan"
tf plan "${variables[@]}" >"$work/plan.log" || { cat "$work/plan.log"; exit 1; }
grep '^Plan:' "$work/plan.log"
echo "== apply"
tf apply -auto-approve "${variables[@]}" >"$work/apply.log" || { cat "$work/apply.log"; exit 1; }
grep '^Apply' "$work/apply.log"
echo "== a second plan is empty"
if tf plan -detailed-exitcode "${variables[@]}" >"$work/second.log"; then
  grep '^No changes' "$work/second.log"
elif [ $? -ne 2 ] || grep '^  # .* \(must be\|will be\)' "$work/second.log" | grep -v 'aws_cloudwatch_metric_alarm.* updated in-place$'; then
  cat "$work/second.log"
  exit 1
else
  # MiniStack leaves most fields out when it describes alarms.
  skipped "alarms in the second plan: the emulator does not tell their fields; nothing else changes"
fi
if $is_real; then
  echo "== a model is registered, and predicts, through the API"
  api="$(tf output -raw api_url)"
  python3 - tests/terraform/constant.onnx >"$work/register.json" <<'PYTHON'
import base64, json, sys
manifest = {"task": "classification", "inputs": [{"kind": "raw_bars"}], "classes": ["down", "up"], "window_bars": 4}
print(json.dumps({"manifest": manifest, "model_base64": base64.b64encode(open(sys.argv[1], "rb").read()).decode()}))
PYTHON
  ask() { curl --fail-with-body --silent --show-error --max-time 60 -H 'content-type: application/json' "$@"; echo; }
  ask "$api/api/v2/models/constant/versions" --data "@$work/register.json" | cut -c 1-120
  window='[[1,1,1,1],[1,1,1,1],[1,1,1,1],[1,1,1,1]]'
  ask "$api/api/v2/inference/predict" --data "{\"model_version\":\"constant/1\",\"input_data\":{\"ohlc_data\":[$window]}}" |
    tee "$work/prediction.json"
  grep -q '"up":0.7[45]' "$work/prediction.json"
else
  skipped "the prediction: there are no bootstraps in ${ARTIFACTS_DIR:-target/lambda}"
fi
echo "== destroy is refused while data is protected, and touches nothing"
if tf destroy -auto-approve "${variables[@]}" >"$work/refused.log" 2>&1; then cat "$work/refused.log"; exit 1; fi
grep -m1 'protect_data is true' "$work/refused.log" || { cat "$work/refused.log"; exit 1; }
if grep 'Destruction complete' "$work/refused.log"; then exit 1; fi
echo "== destroy"
tf apply -auto-approve "${variables[@]}" -var protect_data=false >"$work/lifted.log" || { cat "$work/lifted.log"; exit 1; }
tf destroy -auto-approve "${variables[@]}" -var protect_data=false >"$work/destroy.log" || { cat "$work/destroy.log"; exit 1; }
grep '^Destroy' "$work/destroy.log"
