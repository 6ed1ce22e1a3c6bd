#!/usr/bin/env bash
# symlinks.sh: T13 of reliability.md: another process exchanges the names of a run with symbolic links. Speaks TAP.
# environment: B, CRASH_SWAPS (100000)
set -u
exec "${B:-build}/crash" symlinks
