#!/usr/bin/env bash
# full.sh: T3 of reliability.md: a disk that is full at every size, without inodes, with a limit on files. Speaks TAP.
# environment: B
set -u
if [ "${SANITIZED:-}" = 1 ]; then echo '1..0 # SKIP a sanitizer needs no limit on files'; exit 0; fi
"${B:-build}/crash" full "$@"
status=$?
if [ $status = 77 ]; then echo '1..0 # SKIP file systems cannot be mounted here'; exit 0; fi
exit $status
