#!/usr/bin/env bash
# Measures Switchyard beside its peers and prints tables for docs/benchmarks.md.
#
#   scripts/bench.sh [copy] [stream] [capture] [rules] [latency] [memory] [micro] [option…]
#
# Without names everything runs: about 20 minutes on a quiet machine with two cores. Options go to the benchmark:
# --rounds N, --scale N, --transactions N, --seconds N, --gigabytes N (the large table of `memory`), --alone (no peers).
# Everything runs on private servers on 127.0.0.1 that are gone afterwards; needs 8 GB of disk.
set -euo pipefail

cd "$(dirname "$0")/.."
names=() options=() micro=no
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set -e/{/^set -e/!s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    micro) micro=yes ;;
    copy | stream | capture | rules | latency | memory) names+=("$1") ;;
    *) options+=("$1") ;;
  esac
  shift
done
if [ ${#names[@]} = 0 ] && [ "$micro" = no ]; then
  names=(copy stream capture rules latency memory)
  micro=yes
fi
case " ${options[*]-} " in
  *" --alone "*) ;;
  *)
    case " ${names[*]-} " in
      *" copy "*)
        command -v pgcopydb >/dev/null || {
          echo "bench: error: pgcopydb is not installed: run scripts/servers.sh bench, or give --alone" >&2
          exit 1
        } ;;
    esac ;;
esac
if [ ${#names[@]} -gt 0 ]; then
  cargo bench --locked --bench peers -- "${names[@]}" ${options[@]+"${options[@]}"}
fi
if [ "$micro" = yes ]; then
  cargo bench --locked --bench micro
fi
