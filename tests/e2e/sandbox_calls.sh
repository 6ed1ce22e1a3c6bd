#!/usr/bin/env bash
# sandbox_calls.sh: the system calls of a hostile policy (T19). What tests/c/test_sandbox_reach.c tries is run under strace:
# but for the test's own files and the libraries of the program nothing may be opened, nothing run, no socket made.
set -u
cd "${CKPT_TOP:-$(dirname "$0")/../..}" || exit 2
B=${B:-build}
program=$B/tests/test_sandbox_reach
if [ "${SANITIZED:-}" = 1 ]; then echo '1..0 # SKIP a sanitizer makes calls of its own'; exit 0; fi
if ! command -v strace > /dev/null; then echo '1..0 # SKIP no strace here'; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
if ! strace -o "$work/probe" true 2> /dev/null; then echo '1..0 # SKIP strace cannot trace here'; exit 0; fi
[ -x "$program" ] || make --no-print-directory B="$B" "$program" > "$work/build" 2>&1 || { cat "$work/build"; exit 1; }

echo '1..4'
n=0
ok() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; sed 's/^/# /' "$work/found" | head -20; fi; }

# Only the tests that run attempts of scripts; the process alone, so that the test's own `rm` is not looked at.
CKPT_ONLY_ATTEMPTS=1 TMPDIR=$work strace -o "$work/trace" "$program" > "$work/out" 2>&1
ok $? 'the attempts end well under strace'

# From the first file of the test on: what comes before is the loader's.
sed -n '/policies/,$p' "$work/trace" > "$work/calls"
grep -E '^(open|openat|creat)' "$work/calls" | grep -vE '"(policies/[A-Za-z_/.]*)"' > "$work/found"
ok $(($(wc -l < "$work/found") > 0)) 'no file is opened beside the policies'
grep -E '^(execve|execveat|fork|vfork|clone3?)\(' "$work/calls" > "$work/found"
ok $(($(wc -l < "$work/found") > 0)) 'no program is run'
grep -E '^(socket|connect|bind|sendto|memfd_create|ptrace|prctl|mprotect.*PROT_EXEC)' "$work/calls" > "$work/found"
ok $(($(wc -l < "$work/found") > 0)) 'no socket is made, no memory becomes a program'
echo "# $(wc -l < "$work/calls") system calls looked at"
