#!/usr/bin/env bash
# errors.sh: T2 of reliability.md: every error at every call, once and from there on; short reads and writes. Speaks TAP.
# environment: B, SANITIZED=1 for a build with AddressSanitizer (leaks are violations then), JOBS (2), CRASH_EVERY (25:
# of the cases one in so many; 1: all), CRASH_DIR (where; else memory)
set -u
export CRASH_EVERY=${CRASH_EVERY:-25}
if [ "${SANITIZED:-}" = 1 ]; then export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1; fi
report=$(mktemp); trap 'rm -f "$report"' EXIT
"${B:-build}/crash" errors "$@" 2> "$report"
status=$?
grep -vE '^	0x' "$report" | head -30 >&2 # of a sanitizer, but for the maps of memory
if [ $status = 77 ]; then echo '1..0 # SKIP no seccomp notifications here (Linux 5.5)'; exit 0; fi
exit $status
