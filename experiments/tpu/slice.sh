#!/usr/bin/env bash
# A TPU slice for a training run: made, started, gone on with after a preemption, read, removed.
#
#   slice.sh create --name NAME --zone ZONE --type v5litepod-16 [--spot]
#   slice.sh run    --name NAME --zone ZONE --preset PRESET --workdir gs://BUCKET/RUN [-- --steps 1000 ...]
#   slice.sh resume   what create and run take: a new slice where the old one was preempted, then run
#   slice.sh logs   --name NAME --zone ZONE [--worker 0|all]
#   slice.sh delete --name NAME --zone ZONE
#
# Without --execute it runs nothing and prints the commands, as they would be for a slice that create and
# delete find as they expect it, and that resume finds preempted. With --execute each command looks first,
# and does again only what is not done: twice is as good as once.
#
# Needs the gcloud program, logged in, with the TPU API on. The code is the commit that is checked out here.
set -euo pipefail
exec 3>&1 # where commands are shown, also where the output is taken

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root
readonly archive=vq-jax.tar.gz # of the code, in the home directory of every worker
readonly log=vq-jax.log        # of the run, beside it

fail() {
  printf 'slice.sh: %s\n' "$1" >&2
  exit 2
}

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

# Prints a command as a shell would read it back.
show() {
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+~-]+$ ]] || word=${word@Q}
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

# Shows a command and, with --execute, runs it.
step() {
  show "$@"
  if [[ $execute == yes ]]; then
    "$@"
  fi
}

on_workers() {
  step gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker="$1" --batch-size=all --command="$2"
}

# State of the slice, empty where there is none; `$1` is what a dry run takes it to be.
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
        fail "the slice $name is ${now:-gone}: no capacity, or it was preempted; try slice.sh resume"
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

# The runtime's own Python is too old, hence uv's.
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
    FAILED | SUSPENDED) fail "there was a slice $name, now lost: slice.sh resume makes it anew" ;;
    *) printf '# %s\n' "the slice $name is there already" ;;
  esac
  install
}

run() {
  require preset
  require workdir
  [[ $workdir == gs://* ]] || fail "expected --workdir gs://BUCKET/RUN, which every host sees, got $workdir"
  local train
  train=$(show vq-jax train "$preset" --distributed --workdir "$workdir" "${overrides[@]}")
  # One run a worker: where it goes on already, it is left alone.
  on_workers all "if kill -0 \$(cat vq-jax.pid 2>/dev/null) 2>/dev/null; then echo runs already; \
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
    printf '# %s\n' "there is no slice $name"
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
  type -P gcloud >/dev/null || fail "the gcloud program is not there: install the Google Cloud CLI"
fi
"$command"
