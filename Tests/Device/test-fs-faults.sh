#!/bin/bash
# What filesystems make of faults in their metadata alone, in data alone, in one inode. The kernel's log and the
# ledger tell of the same requests.
. "$(dirname "$0")/lib.sh"

# ---- what is told of faults ----

# From here on the kernel's log and the ledger are looked at, and rules that wait for the mark "go" act.
begin() {
  wait_for_rate_limit
  start="test-fs-faults $$ $RANDOM"
  echo "$start" >/dev/kmsg
  ublk-script ctl "$id" mark go
}

kernel_log() { dmesg | awk -v start="$start" 'found; index($0, start) { found = 1 }'; }

expect_in_kernel_log() { # PATTERN...
  local pattern
  kernel_log >log
  for pattern in "$@"; do
    grep -qE -- "$pattern" log || fail "\"$pattern\" is expected in the kernel log: $(<log)"
  done
}

# The requests that failed, as the kernel tells it, sorted: OPERATION OFFSET ERRNO [meta].
failed_in_kernel_log() {
  local operation sector flags kind errno
  kernel_log |
    sed -n "s/.*\] \(.*\) error, dev ublkb$id, sector \(.*\) op 0x.:(\(.*\)) flags \(0x[^ ]*\) .*/\3 \2 \4 \1/p" |
    while read -r operation sector flags kind; do
      case $kind in
        I/O) errno=EIO ;;
        'critical medium') errno=ENODATA ;;
        *) errno="($kind)" ;;
      esac
      echo "${operation,,} $((sector * 512)) $errno$([ $((flags & 0x1000)) = 0 ] || echo ' meta')"
    done | sort
}

# The same as the ledger tells it.
failed_in_ledger() {
  local request='.*"op":"\([^"]*\)","offset":\([0-9]*\),.*"errno":"\([A-Z]*\)".*'
  ublk-script ledger "$id" --json --since go |
    sed -n "/\"flags\":\[[^]]*\"meta\"/{s/$request/\1 \2 \3 meta/p;d};s/$request/\1 \2 \3/p" | sort
}

# What both tell is in the file failed then.
expect_log_and_ledger_agree() {
  failed_in_kernel_log >in-log
  failed_in_ledger >failed
  diff in-log failed >differences || fail "kernel log (<) and ledger (>) differ: $(<differences)"
  [ -s failed ] || fail "nothing failed"
}

# ---- ext4 ----

# Makes a filesystem with a file of 64 KiB on it, from the script NAME.lua.
add_ext4() { # NAME
  add_device "$1"
  mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$dev"
  mkdir mnt
  mount -o errors=remount-ro "$dev" mnt
  head -c 64K /dev/urandom >mnt/file
  sync -f mnt
}

rewrite_errno() { # FILE
  errno_of dd if=/dev/zero of="$1" bs=64K count=1 oflag=direct conv=notrunc
}

t_ext4_whose_metadata_cannot_be_written_becomes_read_only() {
  script meta <<'LUA'
    device { size = "64M" }
    rule { op = "write", flags = "meta", after = { mark = "go" }, error = "EIO" }
LUA
  add_ext4 meta
  begin
  expect_equal "rewriting data" "$(rewrite_errno mnt/file)" ok
  expect_equal "mkdir" "$(errno_of mkdir mnt/one)" ok
  expect_equal "sync" "$(errno_of sync mnt/one)" EIO
  expect_equal "mkdir after that" "$(errno_of mkdir mnt/two)" EROFS
  expect_in_kernel_log "Aborting journal on device ublkb$id" "EXT4-fs \(ublkb$id\): Remounting filesystem read-only"
  umount mnt
  expect_log_and_ledger_agree
  ! grep -v "^write [0-9]* EIO meta$" failed || fail "something else failed"
}

t_ext4_whose_data_cannot_be_written_stays_writable() {
  script data <<'LUA'
    device { size = "64M" }
    rule { op = "write", flags = "!meta", after = { mark = "go" }, error = "EIO" }
LUA
  add_ext4 data
  local sector
  sector=$(filefrag -v -b512 mnt/file | awk '$1 == "0:" { print int($4) }')
  begin
  expect_equal "rewriting data" "$(rewrite_errno mnt/file)" EIO
  expect_equal "mkdir" "$(errno_of mkdir mnt/one)" ok
  expect_equal "sync" "$(errno_of sync mnt/one)" ok
  expect_equal "mkdir after that" "$(errno_of mkdir mnt/two)" ok
  ublk-script ctl "$id" rule off all
  expect_equal "rewriting data without the fault" "$(rewrite_errno mnt/file)" ok
  umount mnt
  expect_log_and_ledger_agree
  expect_equal "what failed" "$(<failed)" "write $((sector * 512)) EIO"
  ! kernel_log | grep -E "Aborting journal|read-only" || fail "the filesystem minds"
  e2fsck -f -n "$dev"
}

# ---- XFS ----

t_XFS_that_cannot_read_a_chunk_of_inodes_says_ENODATA() {
  script inode <<'LUA'
    device { size = "320M" }
    rule { op = "read", range = ranges("bad"), error = "ENODATA" }
LUA
  add_device inode
  mkfs.xfs -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  # the root's own inode is in the first chunk, of 64
  local i number sector offset
  for i in {1..100}; do : >"mnt/$i"; done
  number=$(stat -c %i mnt/100)
  umount mnt
  sector=$(xfs_db -r -c "convert ino $number daddr" "$dev" | sed -n 's/.*(\([0-9]*\)).*/\1/p')
  mount "$dev" mnt
  ublk-script ctl "$id" ranges bad add $((sector * 512)) 512
  begin
  expect_equal "stat of a file elsewhere" "$(errno_of stat mnt/1)" ok
  expect_equal "stat" "$(errno_of stat mnt/100)" ENODATA
  expect_equal "opening" "$(errno_of cat mnt/100)" ENODATA
  expect_log_and_ledger_agree
  read -r _ offset _ <failed
  # XFS reads inodes in clusters of at least 8 KiB
  expect_between "the place of the inode in what failed" $((sector * 512 - offset)) 0 32767
  expect_equal "what failed" "$(uniq failed)" "read $offset ENODATA meta"
  expect_in_kernel_log "XFS \(ublkb$id\): metadata I/O error .* at daddr $(printf 0x%x $((offset / 512))) .* error 61"
  ublk-script ctl "$id" ranges bad clear
  expect_equal "stat without the fault" "$(errno_of stat mnt/100)" ok
  umount mnt
}

run_cases "$@"
