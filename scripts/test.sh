#!/usr/bin/env bash
# Runs the tests. What failed is run once more, alone: many tests wait for real servers, and a small machine that runs
# four at a time can be late. A test that fails alone too has failed; one that passes alone is named loudly, for it has
# either too little patience or found a race, and both are to be mended.
#
#   scripts/test.sh THREADS
set -uo pipefail
cd "$(dirname "$0")/.."
threads=${1:-4}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# A test that hangs is to be seen in the log, and not to be waited for.
timeout 3600 cargo test --locked --no-fail-fast --lib --bins --tests -- --test-threads="$threads" --skip soak_ 2>&1 | tee "$log"
[ "${PIPESTATUS[0]}" = 0 ] && exit 0

mapfile -t failed < <(sed -n 's/^test \([^ ]*\) \.\.\. FAILED$/\1/p' "$log" | sort -u)
# Nothing to repeat: it did not compile, or a process died. Many: it is no accident.
if [ ${#failed[@]} = 0 ] || [ ${#failed[@]} -gt 5 ]; then
  exit 1
fi
printf '\n== failed, now once more and alone: %s\n' "${failed[*]}"
cargo test --locked --no-fail-fast --lib --bins --tests -- --test-threads=1 --exact "${failed[@]}" || exit 1
printf '\n== PASSED ONLY WHEN ALONE, look at them: %s\n' "${failed[*]}"
# The runner's closing line for all of it.
passed=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log" | awk '{ n += $1 } END { print n }')
printf '%s passed, 0 failed\n' "$((passed + ${#failed[@]}))"
