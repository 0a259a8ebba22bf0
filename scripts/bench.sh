#!/usr/bin/env bash
# Measures Switchyard beside its peers and prints tables for docs/benchmarks.md.
#
#   scripts/bench.sh [copy] [stream] [capture] [rules] [latency] [memory] [verify] [micro] [option…]
#   scripts/bench.sh [my-copy] [pg-my-copy] [my-stream] [my-capture] [my-memory] [option…]
#   scripts/bench.sh [mongo-copy] [mongo-stream] [mongo-capture] [option…]
#
# Without names everything runs: about 40 minutes on a quiet machine with two cores. Options go to the benchmark:
# --rounds N, --scale N, --transactions N, --seconds N, --my-rows N, --my-transactions N, --documents N, --mongo-events N,
# --gigabytes N (the large table of `memory` and `my-memory`), --alone (no peers).
# --smoke takes tiny sizes and one round: whether everything runs, not how fast.
# Everything runs on private servers on 127.0.0.1 that are gone afterwards; needs 8 GB of disk.
set -euo pipefail

cd "$(dirname "$0")/.."
names=() options=() micro=no smoke=no
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set -e/{/^set -e/!s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    micro) micro=yes ;;
    copy | stream | capture | rules | latency | memory | verify) names+=("$1") ;;
    my-copy | pg-my-copy | my-stream | my-capture | my-memory) names+=("$1") ;;
    mongo-copy | mongo-stream | mongo-capture) names+=("$1") ;;
    --smoke)
      smoke=yes
      options+=(--rounds 1 --scale 1 --transactions 1000 --seconds 2 --rows 20000
        --my-rows 20000 --my-transactions 800 --my-table-rows 1000 --documents 20000 --mongo-events 2000) ;;
    *) options+=("$1") ;;
  esac
  shift
done
if [ ${#names[@]} = 0 ] && [ "$micro" = no ]; then
  names=(copy stream capture rules latency memory verify my-copy pg-my-copy my-stream my-capture my-memory mongo-copy mongo-stream mongo-capture)
  [ "$smoke" = yes ] || micro=yes
fi
case " ${options[*]-} " in
  *" --alone "*) ;;
  *)
    for peer in "copy pgcopydb" "verify pgcopydb" "my-copy pgloader"; do
      case " ${names[*]-} " in
        *" ${peer% *} "*)
          command -v "${peer#* }" >/dev/null || {
            echo "bench: error: ${peer#* } is not installed: run scripts/servers.sh bench, or give --alone" >&2
            exit 1
          } ;;
      esac
    done ;;
esac
if [ ${#names[@]} -gt 0 ]; then
  cargo bench --locked --bench peers -- "${names[@]}" ${options[@]+"${options[@]}"}
fi
if [ "$micro" = yes ]; then
  cargo bench --locked --bench micro
fi
