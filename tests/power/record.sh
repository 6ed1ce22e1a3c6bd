#!/usr/bin/env bash
# record.sh WORK SCENARIO [BUG]: runs the saver on a file system whose disk logs every write and flush, in user space:
#
#   saver -> file system -> loop device -> disk.img, a FUSE export of qemu-storage-daemon -> blklogwrites -> log.img
#
# leaves in WORK: start.img (the disk before), log.img. Mounts are in a namespace of its own, so nothing stays mounted
# even if this is killed; the daemon goes with the script.
# environment: SAVER, POLICIES, FS (ext4), MKFS_ARGS, MOUNT_ARGS (-o ...), DISK_MB (16; the last one is for the acks)
set -eu
if [ -z "${RECORD_INSIDE:-}" ]; then RECORD_INSIDE=1 exec unshare --mount bash "$0" "$@"; fi
work=$1 scenario=$2 bug=${3:-none} fs=${FS:-ext4} mb=${DISK_MB:-16}
mkdir -p "$work/mnt"
cd "$work"
rm -f base.img log.img disk.img start.img
daemon='' loop=''
clean() {
  if mountpoint -q mnt; then umount mnt; fi
  if [ -n "$loop" ]; then losetup -d "$loop"; loop=''; fi
  if [ -n "$daemon" ]; then kill "$daemon" 2> /dev/null || true; wait "$daemon" 2> /dev/null || true; daemon=''; fi
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

truncate -s "$mb"M base.img
# shellcheck disable=SC2086 # several words
case $fs in
  ext4) mkfs.ext4 -q -F -b 4096 -J size=4 -E lazy_itable_init=0,lazy_journal_init=0 ${MKFS_ARGS:-} base.img $((mb - 1))M ;;
  xfs) mkfs.xfs -q -f -d size=$((mb - 1))m ${MKFS_ARGS:-} base.img ;;
  btrfs) mkfs.btrfs -q -f -b $((mb - 1))M ${MKFS_ARGS:-} base.img ;;
esac
truncate -s "$mb"M base.img
cp --sparse=always base.img start.img
truncate -s 16G log.img
: > disk.img
setpriv --pdeathsig KILL qemu-storage-daemon \
  --blockdev driver=file,node-name=data,filename=base.img,cache.no-flush=on \
  --blockdev driver=file,node-name=logfile,filename=log.img,cache.no-flush=on \
  --blockdev driver=blklogwrites,node-name=logged,file=data,log=logfile \
  --export type=fuse,id=disk,node-name=logged,mountpoint="$PWD/disk.img",writable=on &
daemon=$!
for _ in $(seq 100); do
  if [ -s disk.img ]; then break; fi
  sleep .05
done
[ -s disk.img ] || { echo 'qemu-storage-daemon exports no disk' >&2; exit 1; }
loop=$(losetup -f --show disk.img)
# shellcheck disable=SC2086
mount -t "$fs" ${MOUNT_ARGS:-} "$loop" mnt
"$SAVER" "$scenario" "$POLICIES" mnt/run disk.img $(((mb - 1) << 20)) "$bug"
