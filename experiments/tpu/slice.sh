#!/usr/bin/env bash
# A TPU slice for a training run: create it, run, resume after a preemption, read the log, delete it.
#
#   slice.sh create --name NAME --zone ZONE --type v5litepod-16 [--spot]
#   slice.sh run    --name NAME --zone ZONE --preset PRESET --workdir gs://BUCKET/RUN [-- --steps 1000 ...]
#   slice.sh resume   with the options of create and run: a new slice if the old one was preempted, then run
#   slice.sh logs   --name NAME --zone ZONE [--worker 0|all]
#   slice.sh delete --name NAME --zone ZONE
#
# Without --execute it only prints the commands, for a slice that create finds missing, delete finds present
# and resume finds preempted. With --execute each command checks the state first and does only what is left to
# do, so that it can be repeated.
#
# It needs the gcloud program, logged in, with the TPU API enabled. The code is the commit checked out here.
set -euo pipefail
exec 3>&1 # for printed commands, also inside $(...)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root
readonly archive=vq-jax.tar.gz # the code, in the home directory of every worker
readonly log=vq-jax.log        # the run's log, beside the code

fail() {
  printf 'slice.sh: %s\n' "$1" >&2
  exit 2
}

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

# Prints a command, quoted for a shell.
show() {
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+~-]+$ ]] || word=${word@Q}
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

# Prints a command and, with --execute, runs it.
step() {
  show "$@"
  if [[ $execute == yes ]]; then
    "$@"
  fi
}

on_workers() {
  step gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker="$1" --batch-size=all --command="$2"
}

# State of the slice, empty if it does not exist; a dry run assumes `$1`.
state() {
  local query=(gcloud compute tpus queued-resources list "${place[@]}"
    "--filter=name~/$name\$" "--format=value(state.state)")
  show "${query[@]}" >&3
  if [[ $execute == yes ]]; then
    "${query[@]}"
  else
    printf '%s\n' "$1"
  fi
}

wait_until_active() {
  local now
  while true; do
    now=$(state ACTIVE)
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDING | SUSPENDED | '')
        fail "the slice $name is ${now:-gone}, for lack of capacity or by a preemption; try slice.sh resume"
        ;;
    esac
    sleep 30
  done
}

ask_for_slice() {
  step gcloud compute tpus queued-resources create "$name" "--node-id=$name" "${place[@]}" \
    "--accelerator-type=$type" "--runtime-version=$runtime" "${spot[@]}"
}

remove_slice() {
  step gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force --quiet
}

# The runtime's Python is too old, hence uv.
install() {
  local archived=$root/$archive
  wait_until_active
  step git -C "$root" archive --format=tar.gz --prefix=vq-jax/ "--output=$archived" HEAD
  step gcloud compute tpus tpu-vm scp "$archived" "$name:$archive" "${place[@]}" --worker=all
  on_workers all "set -e; command -v ~/.local/bin/uv || curl -LsSf https://astral.sh/uv/install.sh | sh; \
test -d ~/venv || ~/.local/bin/uv venv --python 3.12 ~/venv; \
~/.local/bin/uv pip install --python ~/venv \"./${archive}[tpu,lpips]\""
}

create() {
  local now
  require type
  now=$(state '')
  case $now in
    '') ask_for_slice ;;
    FAILED | SUSPENDED) fail "the slice $name is $now: slice.sh resume creates it again" ;;
    *) printf '# %s\n' "the slice $name already exists" ;;
  esac
  install
}

run() {
  require preset
  require workdir
  [[ $workdir == gs://* ]] || fail "expected --workdir gs://BUCKET/RUN, which all hosts can reach, got $workdir"
  local train
  train=$(show vq-jax train "$preset" --distributed --workdir "$workdir" "${overrides[@]}")
  # One run per worker: a run that is still going is left alone.
  on_workers all "if kill -0 \$(cat vq-jax.pid 2>/dev/null) 2>/dev/null; then echo already running; \
else PATH=~/venv/bin:\$PATH nohup $train >>$log 2>&1 </dev/null & echo \$! >vq-jax.pid; fi"
}

resume() {
  local now
  require type
  require preset
  require workdir
  now=$(state SUSPENDED)
  case $now in
    FAILED | SUSPENDING | SUSPENDED)
      remove_slice
      ask_for_slice
      ;;
    '') ask_for_slice ;;
  esac
  install
  run
}

logs() {
  on_workers "$worker" "tail -n 50 -F $log"
}

delete() {
  local now
  now=$(state ACTIVE)
  if [[ -z $now ]]; then
    printf '# %s\n' "the slice $name does not exist"
  else
    remove_slice
  fi
}

require() {
  [[ -n ${!1} ]] || fail "expected --$1 for $command; see slice.sh --help"
}

runtime_of() {
  case $1 in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v4-*) echo tpu-ubuntu2204-base ;;
    *) fail "expected --type v4-N, v5litepod-N, v5p-N or v6e-N, got $1" ;;
  esac
}

command=${1:-}
case $command in
  create | run | resume | logs | delete) shift ;;
  -h | --help)
    usage
    exit 0
    ;;
  *) fail "expected create, run, resume, logs or delete, got ${command:-nothing}; see slice.sh --help" ;;
esac

name='' zone='' project='' type='' runtime='' preset='' workdir='' worker=0 execute=no
spot=() overrides=()
while (($#)); do
  case $1 in
    --name | --zone | --project | --type | --runtime | --preset | --workdir | --worker)
      (($# > 1)) || fail "expected a value after $1"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --spot)
      spot=(--spot)
      shift
      ;;
    --execute)
      execute=yes
      shift
      ;;
    --)
      shift
      overrides=("$@")
      break
      ;;
    *) fail "unknown option $1; see slice.sh --help" ;;
  esac
done
require name
require zone
place=("--zone=$zone")
[[ -z $project ]] || place+=("--project=$project")
[[ -z $type || -n $runtime ]] || runtime=$(runtime_of "$type")
if [[ $execute == yes ]]; then
  type -P gcloud >/dev/null || fail "the program gcloud is missing: install the Google Cloud CLI"
fi
"$command"
