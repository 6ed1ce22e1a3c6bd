#!/usr/bin/env bash
# run.sh: power loss replayed on a real file system. Each scenario is recorded once (record.sh) and its power cut at every
# flush, with random parts of what was pending (replay.c); savers with a bug must be caught by the same checks. TAP.
#
# environment: B (build); POWER_STATES (0: no bar) states that must be seen in all; POWER_SUBSETS (20) at each flush;
# POWER_SEED (1); POWER_JOBS (8: most of the time is spent waiting for mounts); POWER_ROUNDS (1) recordings of each
# scenario, each under a seed of its own; FS (ext4, xfs, btrfs); SCENARIOS (waited async recycled over copies);
# MKFS_ARGS, MOUNT_ARGS of record.sh
set -u
cd "$(dirname "$0")/../.." || exit 2
B=$(realpath "${B:-build}")
export POLICIES=$PWD/tests/power SAVER=$B/power_saver FS=${FS:-ext4} MOUNT_ARGS=${MOUNT_ARGS:-} MKFS_ARGS=${MKFS_ARGS:-}
seed=${POWER_SEED:-1} jobs=${POWER_JOBS:-8} subsets=${POWER_SUBSETS:-20}

# Pieces of a write that a power loss may leave. XFS and btrfs count on blocks of 4 KiB that are written whole; btrfs
# took two disks with one identity for one before Linux 6.7.
atom=512 options=()
case $FS in
  ext4) ;;
  xfs) atom=4096 options=(-o nouuid) ;;
  btrfs)
    atom=4096
    [ "$(printf '%s\n' 6.7 "$(uname -r)" | sort -V | head -1)" = 6.7 ] || jobs=1
    ;;
  *) echo "Bail out! FS=$FS: ext4, xfs or btrfs" ; exit 2 ;;
esac
disk_mb() { # SCENARIO
  case $FS:$1 in ext4:large) echo 120 ;; ext4:*) echo 16 ;; xfs:*) echo 321 ;; btrfs:large) echo 301 ;; *) echo 129 ;; esac
}

why_not() { # what this machine lacks, one line
  local tool
  for tool in qemu-storage-daemon "mkfs.$FS" losetup unshare setpriv mountpoint; do
    command -v "$tool" > /dev/null || { echo "$tool is not installed"; return; }
  done
  [ "$(id -u)" = 0 ] || { echo 'mounting needs root'; return; }
  [ -c /dev/fuse ] || { echo 'there is no /dev/fuse'; return; }
  [ -c /dev/loop-control ] || { echo 'there are no loop devices'; return; }
  qemu-storage-daemon --help | grep -q 'type=\]fuse' || { echo 'qemu-storage-daemon has no FUSE export'; return; }
  unshare --mount true 2> /dev/null || { echo 'no mount namespace can be had'; return; }
  modprobe -q "$FS" 2> /dev/null
  grep -qw "$FS" /proc/filesystems || echo "the kernel has no $FS"
}
lacking=$(why_not)
if [ -n "$lacking" ]; then
  echo "ok 1 - power loss replayed on $FS # SKIP $lacking"
  echo 1..1
  exit 0
fi

# In memory, where there is room for it.
room=$(df -m --output=avail /dev/shm 2> /dev/null | tail -1)
work=$(mktemp -d -p "$([ "${room:-0}" -gt 1024 ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" ckpt-power.XXXXXX) || exit 2
child=''
clean() {
  trap '' INT TERM
  if [ -n "$child" ]; then kill "$child" 2> /dev/null; wait "$child" 2> /dev/null; fi
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' INT TERM HUP
mkdir "$work/checked"

n=0 failed=0 all=0
check() { # STATUS NAME
  n=$((n + 1))
  if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=$((failed + 1)); fi
}

# beside COMMAND...: its exit status; a signal to this script reaches it
beside() {
  "$@" &
  child=$!
  wait $child
  local status=$?
  child=''
  return $status
}

record() { # SCENARIO BUG
  DISK_MB=$(disk_mb "$1") beside bash tests/power/record.sh "$work" "$1" "$2" > "$work/out" 2>&1 && return
  sed 's/^/# /' "$work/out"
  return 1
}

replay() { # SCENARIO SEED ARGUMENT...
  local scenario=$1 with=$2
  shift 2
  beside "$B/power_replay" -s "$scenario" -p "$POLICIES" -f "$FS" -m "$work/checked" -a "$atom" -n "$subsets" \
    -j "$jobs" -r "$with" "${options[@]}" "$@" "$work" > "$work/out" 2> "$work/err"
  local status=$?
  states=$(sed -n 's/^\([0-9]*\) states, .*/\1/p' "$work/out")
  all=$((all + ${states:-0}))
  return $status
}
told() { sed 's/^[^#]/# &/' "$work/out" "$work/err"; }

one_scenario() { # NAME
  local round states sum=0 bad=0
  for ((round = 0; round < ${POWER_ROUNDS:-1}; round++)); do
    if ! record "$1" none || ! replay "$1" $((seed + round)); then bad=1; told; fi
    sum=$((sum + ${states:-0}))
  done
  check $bad "$1: power lost $sum times on $FS, nothing acknowledged is lost, nothing torn is found"
}

one_bug() { # BUG SCENARIO
  local states caught=1
  record "$2" "$1" && { replay "$2" "$seed" -c; [ $? -eq 1 ]; } && caught=0
  told | head -2
  check $caught "a saver with a bug is caught: $1, within ${states:-0} states"
}

for scenario in ${SCENARIOS:-waited async recycled over copies}; do one_scenario "$scenario"; done
right=$all
one_bug no-file-sync waited
one_bug no-dir-sync over
if [ "$FS" = btrfs ]; then
  check 0 'a saver with a bug is caught: in-place # SKIP btrfs never writes over a block: what is synced is whole'
else
  one_bug in-place over
fi
if [ "${POWER_STATES:-0}" -gt 0 ]; then
  [ "$right" -ge "$POWER_STATES" ]
  check $? "$right states of a saver without a bug, at least $POWER_STATES"
fi
echo "1..$n"
[ "$failed" = 0 ]
