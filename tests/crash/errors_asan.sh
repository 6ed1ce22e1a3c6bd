#!/usr/bin/env bash
# errors_asan.sh: a part of errors.sh under AddressSanitizer, LeakSanitizer and UBSan: no byte is lost where a call fails.
# Speaks TAP. environment: B (its asan/ is used), ASAN_EVERY (149: of the cases one in so many)
set -u
export B=${B:-build}/asan SANITIZED=1 CRASH_EVERY=${ASAN_EVERY:-149}
if [ ! -x "$B/crash" ]; then echo "1..0 # SKIP there is no $B/crash"; exit 0; fi
exec bash "$(dirname "$0")/errors.sh" "${@:-several}" async recycled again recovery forgetful
