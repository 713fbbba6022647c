# What .ci/run and .ci/soak share: where things are, timed parts, the demo's proof, the fuzzer.
# Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
exec </dev/null

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
[[ -d ${CARGO_HOME:-$HOME/.cargo}/bin ]] && PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

scratch=$CARGO_TARGET_DIR/ci
rm -rf "$scratch"
mkdir -p "$scratch/tmp"

report=()
failures=0

# part NAME COMMAND...: runs a part, times it, remembers how it ended; what comes behind it runs anyway.
part() {
  local name=$1 began=$SECONDS code=0
  shift
  echo "=== $name"
  # Not in a condition: there `set -e` would be off inside the part.
  set +e
  (set -euo pipefail; "$@") 2>&1
  code=$?
  set -e
  ended "$name" "$code" $((SECONDS - began))
}

# ended NAME CODE SECONDS: counts a part and prints how it ended.
ended() {
  local verdict=ok
  if [[ $2 -ne 0 ]]; then
    verdict="FAILED ($2)"
    failures=$((failures + 1))
  fi
  report+=("$(awk -v s="$3" -v n="$1" -v v="$verdict" \
    'BEGIN { printf "%6.1f min  %-16s %s", s / 60, n, v }')")
  echo "--- $1: $verdict"
}

# beside NAME COMMAND...: begins a part that needs one core only; those that follow run beside it, until `joined NAME`
# prints what it said and counts it.
beside() {
  local name=$1
  shift
  (
    began=$SECONDS code=0
    set +e
    (set -euo pipefail; "$@") >"$scratch/beside-$name.txt" 2>&1
    code=$?
    echo "$code $((SECONDS - began))" >"$scratch/beside-$name.end"
  ) &
}

joined() {
  local name=$1 code=1 seconds=0
  echo "=== $name"
  wait
  [[ ! -f $scratch/beside-$name.txt ]] || cat "$scratch/beside-$name.txt"
  [[ ! -f $scratch/beside-$name.end ]] || read -r code seconds <"$scratch/beside-$name.end"
  ended "$name" "$code" "$seconds"
}

# Prints each part's time and end.
print_report() {
  echo "=== parts"
  local line
  for line in "${report[@]}"; do echo "$line"; done
  awk -v s=$SECONDS 'BEGIN { printf "%6.1f min  in all\n", s / 60 }'
}

die() {
  echo "ci: $*" >&2
  exit 1
}

# limit SECONDS COMMAND...: a part that hangs fails. In CI the whole process group ends with it; at a
# terminal the group is left alone, so that Ctrl-C reaches it.
limit() {
  if [[ ${CI:-} == true ]]; then timeout -k 10 "$@"; else timeout --foreground -k 10 "$@"; fi
}

# Installs what a fresh machine lacks. Rust itself comes with rustup.
need_tools() {
  command -v cargo >/dev/null || die "no cargo: install Rust 1.90 or newer with rustup"
  if ! command -v cc >/dev/null || ! command -v c++ >/dev/null; then
    command -v apt-get >/dev/null || die "no C and C++ compiler, and no apt-get to install one with"
    local sudo=
    [[ $(id -u) -eq 0 ]] || sudo="sudo -n"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends \
      gcc g++ libc6-dev
  fi
  # Hosts as network namespaces: where they cannot be had, the part that needs them says so loudly.
  if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null && ! { command -v nft && command -v ip; } >/dev/null; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive limit 120 apt-get install -y -qq \
      --no-install-recommends nftables iproute2; } >/dev/null 2>&1 || echo "nft or ip cannot be installed"
  fi
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
  cargo --version
  rustc --version
}

# Processes of this clone's binary; none may outlive what started it.
processes_left() {
  local exe link left=0
  for exe in /proc/[0-9]*/exe; do
    link=$(readlink "$exe" 2>/dev/null) || continue
    if [[ ${link% (deleted)} == "$CARGO_TARGET_DIR/release/outrigger" ]]; then
      echo "still running: ${exe//[!0-9]/}"
      left=1
    fi
  done
  return $left
}

# field NAME JSON: a number or a flag out of a JSON object; nothing when it is not there.
field() {
  sed -nE "s/.*\"$1\": ?(-?[0-9]+|true|false).*/\1/p" <<<"$2"
}

# expect WHAT NUMBER OPERATOR NUMBER
expect() {
  if [[ -z $2 || -z $4 ]] || ! (($2 $3 $4)); then
    echo "demo: $1: ${2:-missing} $3 ${4:-missing} does not hold"
    return 1
  fi
}

# demo_once ARGUMENTS...: one run of the demo, which must prove what it promises, within two minutes.
demo_once() {
  local out=$scratch/demo.txt json missed code=0 ok=0
  # What the demo leaves behind in its TMPDIR must be nothing.
  TMPDIR=$scratch/tmp limit 120 "$CARGO_TARGET_DIR/release/outrigger" demo --json "$@" >"$out" || code=$?
  if [[ $code -ne 0 ]]; then
    cat "$out"
    echo "demo: exit code $code"
    ok=1
  fi
  json=$(tail -n 1 "$out")
  echo "$json"
  expect "rows_acked" "$(field rows_acked "$json")" '>=' 1000 || ok=1
  expect "rows_acked" "$(field rows_acked "$json")" '>' "$(field acked_before_kill "$json")" || ok=1
  expect "rows_lost" "$(field rows_lost "$json")" == 0 || ok=1
  if [[ $json == *'"start_refused":null'* ]]; then
    expect "requests_failed" "$(field requests_failed "$json")" == 0 || ok=1
    expect "out_of_role" "$(field out_of_role "$json")" == 0 || ok=1
    expect "failover_ms" "$(field failover_ms "$json")" '>=' 0 || ok=1
  fi
  if [[ $json == *'"recover_mode":"'* ]]; then
    missed=$(field missed_bytes "$json")
    expect "missed_bytes" "$missed" '>=' 1048576 || ok=1
    expect "recover_bytes" "$(field recover_bytes "$json")" '<=' \
      "$((${missed:-0} + ${missed:-0} / 100 + 65536))" || ok=1
  fi
  if [[ $(field logs_identical "$json") != true ]]; then
    echo "demo: logs_identical is not true"
    ok=1
  fi
  processes_left || ok=1
  if [[ -n $(ls -A "$scratch/tmp") ]]; then
    echo "demo: left behind: $(ls -A "$scratch/tmp")"
    rm -rf "$scratch/tmp"
    mkdir "$scratch/tmp"
    ok=1
  fi
  return $ok
}

# chaos_once ARGUMENTS...: a cluster of processes is hurt; nothing may be lost, nothing left. Its seed is in its line.
chaos_once() {
  local code=0
  TMPDIR=$scratch/tmp "$CARGO_TARGET_DIR/release/outrigger" bench chaos --json "$@" | tee -a "$scratch/chaos.txt" || code=$?
  processes_left || code=1
  return $code
}

# Whether hosts can be network namespaces here.
namespaces() {
  [[ $(id -u) -eq 0 ]] && command -v nft >/dev/null && command -v ip >/dev/null
}

# A nightly toolchain's name, or nothing: the fuzzer needs one.
nightly() {
  rustup toolchain list 2>/dev/null | sed -n 's/^\(nightly[^ ]*\).*/\1/p' | head -n 1
}

# Installs cargo-fuzz where it is not; false when that cannot be done.
have_cargo_fuzz() {
  cargo fuzz --version >/dev/null 2>&1 && return
  local began=$SECONDS
  limit 600 cargo install cargo-fuzz --locked --quiet --target-dir "$scratch/cargo-fuzz" || return 1
  rm -rf "$scratch/cargo-fuzz"
  echo "cargo-fuzz installed in $((SECONDS - began)) s"
}

# fuzz_all SECONDS: each target for that long. What is found goes to fuzz/artifacts; what is new in
# reach goes to the first folder, which is scratch: the corpus in the tree changes by hand.
fuzz_all() {
  local seconds=$1 toolchain file target bad=0
  toolchain=$(nightly)
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz limit 1200 cargo "+$toolchain" fuzz build || return 1
  for file in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$file" .rs)
    mkdir -p "$scratch/corpus/$target" "fuzz/corpus/$target"
    echo "fuzz $target, $seconds s"
    CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz limit $((seconds + 120)) \
      cargo "+$toolchain" fuzz run "$target" "$scratch/corpus/$target" "fuzz/corpus/$target" -- \
      -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
      >"$scratch/fuzz-$target.txt" 2>&1 || { tail -n 40 "$scratch/fuzz-$target.txt"; bad=1; }
    grep -E '^stat::(number_of_executed_units|peak_rss_mb)' "$scratch/fuzz-$target.txt" || true
  done
  return $bad
}
