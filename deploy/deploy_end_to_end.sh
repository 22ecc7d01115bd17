#!/usr/bin/env bash
# From a folder of code to a served, monitored cluster on this machine:
#
#     deploy/deploy_end_to_end.sh CODE MEASURED [WORK]           keeps serving until Ctrl-C
#     deploy/deploy_end_to_end.sh --smoke CODE MEASURED [WORK]   a model of a few training steps; ends after its checks
#
# CODE is trained on, MEASURED (another repository) tells how good the model got. WORK (.runs/end-to-end) keeps what was
# made; run again, training goes on from there. Needs the extras cluster and train, and from Debian nginx, redis-server,
# postgresql, prometheus, curl and jq.
set -euo pipefail

smoke=false
if [[ ${1:-} == --smoke ]]; then smoke=true && shift; fi
if [[ $# -lt 2 || ! -d $1 || ! -d $2 ]]; then
    sed -n '3,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
code=$(realpath "$1") measured=$(realpath "$2")
cd "$(dirname "$0")/.."
work=$(realpath -m "${3:-.runs/end-to-end}")
python=${PYTHON:-$PWD/.venv/bin/python}
[[ -x $python ]] || python=$(command -v python3)
prometheus=$(command -v prometheus) || { echo "prometheus is missing: apt-get install prometheus" >&2 && exit 1; }
for program in curl jq; do
    command -v $program >/dev/null || { echo "$program is missing: apt-get install $program" >&2 && exit 1; }
done
mkdir -p "$work"
train() { "$python" -m training "$@"; }
say() { printf '\n== %s\n' "$*"; }

running=()
finish() {
    local pid
    for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${running[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap finish EXIT

# until CONDITION... : true within so many seconds, or the end
within() {
    local seconds=$1 what=$2 end=$((SECONDS + $1))
    shift 2
    until "$@"; do
        if ((SECONDS >= end)); then echo "not within $seconds seconds: $what" >&2 && exit 1; fi
        sleep 1
    done
}

say "1/7 collect"
train collect --folder "$code" --hold-out "$measured" --out "$work/corpus"

say "2/7 tokenizer and token shards"
train tokenizer --init inference_service/bundled/nano --corpus "$work/corpus" --data "$work/data"
train prepare --corpus "$work/corpus" --data "$work/data"

say "3/7 fine-tune the bundled model"
recipe=finetune holes=300 options=()
if $smoke; then
    recipe=$work/smoke.toml holes=10 options=(--eager --threads 1)
    sed -e 's/^total_tokens = .*/total_tokens = 8_192/' -e 's/^batch_tokens = .*/batch_tokens = 2048/' \
        -e 's/^row_tokens = .*/row_tokens = 256/' -e 's/^warmup_steps = .*/warmup_steps = 1/' \
        -e 's/^head_tokens = .*/head_tokens = 1024/' -e 's/^adam_lr = .*/adam_lr = 0.00003/' training/recipes/finetune.toml >"$recipe"
fi
train train "$recipe" --init inference_service/bundled/nano --data "$work/data" --out "$work/run" "${options[@]}"

say "4/7 publish: quantize, check, measure"
rm -rf "$work/model"
train publish "$recipe" --run "$work/run" --data "$work/data" --corpus "$work/corpus" --out "$work/model" --holes $holes

say "5/7 start the cluster"
"$python" -u -m deploy.cluster >"$work/cluster.log" 2>&1 &
cluster=$!
running+=("$cluster")
ready() { grep -q '^Ctrl-C ends' "$work/cluster.log" || { kill -0 $cluster 2>/dev/null || { cat "$work/cluster.log" >&2 && exit 1; } && false; }; }
within 300 "the cluster is up ($work/cluster.log)" ready
field() { sed -n "s/^  $1  *\([^ ]*\).*/\1/p" "$work/cluster.log"; }
url=$(sed -n 's/^Midfill serves on \([^ ,]*\),.*/\1/p' "$work/cluster.log")
certificate=$(sed -n 's/^Midfill serves on [^,]*, with \(.*\) as the authority.*/\1/p' "$work/cluster.log")
operator=$(field operators) key=$(field key) admin_key=$(field 'admin key')
mapfile -t replicas < <(sed -n '/^  replicas /s/^  replicas *//p' "$work/cluster.log" | grep -o 'http://[0-9.:]*')
# keys are told to curl in a file and not on its command line, which everybody on the machine can read
(umask 077 && printf 'Authorization: Bearer %s\n' "$key" >"$work/user" && printf 'Authorization: Bearer %s\n' "$admin_key" >"$work/admin")
(umask 077 && printf '%s' "$admin_key" >"$work/metrics-key")
ask() { curl -sS --fail-with-body --noproxy '*' --cacert "$certificate" -H @"$work/user" -H 'Content-Type: application/json' "$@"; }
administer() { curl -sS --fail-with-body --noproxy '*' -H @"$work/admin" "$@"; }
echo "$url, ${#replicas[@]} replicas"

say "6/7 roll the model out, and ask it"
cp -r "$work/model" "$(dirname "$certificate")/models/team"
known() { administer -o "$work/models.json" "$1/admin/models" 2>/dev/null; }
for replica in "${replicas[@]}"; do within 30 "$replica knows the new keys" known "$replica"; done
version=$(jq -r '.models[] | select(.folder == "team").version' "$work/models.json")
administer -X POST "$operator/admin/models/$version/activate" | jq -c .
serves() { [[ $(administer "$1/v1/models" | jq --arg v "$version" 'any(.. | strings; . == $v)') == true ]]; }
for replica in "${replicas[@]}"; do within 60 "$replica serves version $version" serves "$replica"; done
answer=$(ask "$url/v1/completions" -d '{"prompt": "def area(width, height):\n    return ", "suffix": "\n", "max_tokens": 16}')
jq -c '{text: .choices[0].text, version: .midfill.model_version, usage}' <<<"$answer"
[[ $(jq -r .midfill.model_version <<<"$answer") == "$version" ]]

say "7/7 watch it"
port=${MIDFILL_PROMETHEUS_PORT:-9090}
"$python" -m deploy.monitoring.render "$work/prometheus" --interval 2s --key-file "$work/metrics-key" \
    "${replicas[@]/#http:\/\//--target=}"
"$prometheus" --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/prometheus/data" \
    --web.listen-address="127.0.0.1:$port" >"$work/prometheus.log" 2>&1 &
running+=("$!")
query() { curl -sS --noproxy '*' --get "http://127.0.0.1:$port/api/v1/query" --data-urlencode "query=$1" | jq -r "$2"; }
watched() { [[ $(query 'count(midfill_model_info * on (instance) up)' '.data.result[0].value[1]' 2>/dev/null) == "${#replicas[@]}" ]]; }
within 60 "Prometheus sees every replica ($work/prometheus.log)" watched
query 'midfill_model_info' '.data.result[].metric | "\(.instance) serves \(.version)"'
query 'ALERTS{alertstate="firing",severity="page"}' '.data.result[].metric.alertname | "firing: \(.)"'

say "done: $url (see $work/cluster.log), Prometheus http://127.0.0.1:$port, model $work/model"
if ! $smoke; then
    echo "Ctrl-C ends everything."
    wait $cluster
fi
