#!/bin/sh
# Fuzzes every reader: fuzz/run.sh [SECONDS a target, default 600] [JOBS at a time, default 1] [TARGET...]
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler. New inputs go to fuzz/found, crashes to fuzz/artifacts;
# the committed seeds in fuzz/corpus stay as they are. Ends with status 1 when a target crashed.
set -u
cd "$(dirname "$0")/.." || exit 2
seconds=${1:-600}
jobs=${2:-1}
[ $# -gt 2 ] && shift 2 || set --
targets=${*:-$(ls fuzz/fuzz_targets | sed 's/\.rs$//')}

# libFuzzer's instrumentation is behind a nightly flag; this makes the stable compiler take it.
export RUSTC_BOOTSTRAP=1
# Outside the repository's target folder, whose flags (the path of libtorch) are of no use here.
export CARGO_TARGET_DIR="${FUZZ_TARGET_DIR:-${TMPDIR:-/tmp}/fuzz-target}"
mkdir -p fuzz/found fuzz/artifacts
cargo fuzz build || exit 2

one() {
    target=$1
    mkdir -p "fuzz/found/$target" "fuzz/artifacts/$target"
    log="fuzz/found/$target.log"
    # Twice the memory of the largest allocation that the mutation test allows, on top of the sanitizer's own.
    if cargo fuzz run "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=64 -timeout=10 -print_final_stats=1 >"$log" 2>&1
    then
        echo "ok       $target: $(grep -o 'number_of_executed_units: *[0-9]*' "$log" | grep -o '[0-9]*$') runs"
    else
        echo "CRASHED  $target: see $log and fuzz/artifacts/$target"
        return 1
    fi
}

status=0
running=0
pids=
for target in $targets; do
    one "$target" &
    pids="$pids $!"
    running=$((running + 1))
    if [ "$running" -ge "$jobs" ]; then
        for pid in $pids; do wait "$pid" || status=1; done
        pids=
        running=0
    fi
done
for pid in $pids; do wait "$pid" || status=1; done
exit $status
