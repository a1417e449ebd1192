#!/bin/bash
# Memory of a server that is there before its device, and stays there: lock_memory.
. "$(dirname "$0")/lib.sh"

huge_pages=/sys/kernel/mm/transparent_hugepage/enabled
group=/run/ublk-script-test-memory swap=

tidy_case() {
  [ ! -e "$work/huge_pages" ] || cat "$work/huge_pages" >"$huge_pages"
  [ -z "$swap" ] || swapoff "$swap"
  ublk-script del --all >/dev/null
  [ ! -d "$group" ] || { rmdir "$group/one" && umount "$group" && rmdir "$group"; }
}

# One fault for each page that is touched, not for 512.
use_small_pages() {
  [ -e "$huge_pages" ] || return 0
  sed 's/.*\[\(.*\)\].*/\1/' "$huge_pages" >huge_pages
  echo never >"$huge_pages"
}

# Minor and major page faults of the threads of queues so far.
queue_faults() {
  local task name minor=0 major=0 stat
  for task in "/proc/$server/task"/*; do
    read -r name <"$task/comm"
    [[ $name == ublk-q* ]] || continue
    read -ra stat <"$task/stat"
    minor=$((minor + stat[9])) major=$((major + stat[11]))
  done
  echo "$minor $major"
}

# Does something; sets minor and major to how many faults the queues have had meanwhile.
count_faults() { # COMMAND...
  local before after
  read -ra before < <(queue_faults)
  "$@" >load.out 2>&1 || fail "$*: $(<load.out)"
  read -ra after < <(queue_faults)
  minor=$((after[0] - before[0])) major=$((after[1] - before[1]))
}

# Writes the whole disk and reads it, 32 IOs at a time.
load() {
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --iodepth=32 --rw=write --bs=64k --size=64M \
    --verify=crc32c --verify_fatal=1
}

locked_kib() { awk '$1 == "VmLck:" { print $2 }' "/proc/$server/status"; }

t_no_IO_waits_for_a_page_with_lock_memory() {
  use_small_pages
  script plain <<<'device { size = "64M", depth = 64, max_io = "64K", queues = 2 }'
  add_device plain
  expect_equal "locked without being asked for, KiB" "$(locked_kib)" 0
  count_faults load
  # each page of the store, to begin with
  [ $minor -ge 16000 ] || fail "$minor faults without it: nothing to compare with"
  ublk-script del "$id"
  add_device plain lock_memory=true
  [ "$(locked_kib)" -ge 65536 ] || fail "$(locked_kib) KiB are locked"
  count_faults load
  expect_between "minor faults" $minor 0 300
  expect_equal "major faults" $major 0
  # what a discard gives up is not given back
  blkdiscard "$dev"
  count_faults load
  expect_between "minor faults after a discard" $minor 0 300
}

t_a_file_and_a_handler_cause_no_fault_with_it_either() {
  use_small_pages
  script busy <<'LUA'
    device { size = "64M", file = "disk.img", depth = 64, max_io = "64K", lock_memory = true }
    rule { op = "read", seen = 3, delay = "1ms" }
    function write(io, offset) if offset % 131072 == 0 then return delay("1ms") end end
LUA
  add_device busy
  count_faults load # tables by block, and what Lua takes
  count_faults load
  expect_between "minor faults" $minor 0 300
  expect_equal "major faults" $major 0
}

# Adds a device from within a control group, as memory is charged to the one that a process was in when it took it.
add_in_group() { # OPTION...
  echo "$BASHPID" >"$group/one/cgroup.procs"
  exec ublk-script add "$work/plain.lua" --json "$@"
}

t_what_is_locked_is_not_swapped_out() {
  mkdir "$group"
  mount -t cgroup2 none "$group" || skip "this kernel has no cgroup2"
  echo +memory >"$group/cgroup.subtree_control" || skip "this kernel has no memory controller"
  mkdir "$group/one"
  [ -e "$group/one/memory.reclaim" ] || skip "this kernel cannot reclaim on request"
  modprobe zram 2>/dev/null || skip "this kernel has no zram to swap to"
  echo 256M >/sys/block/zram0/disksize
  mkswap /dev/zram0 >/dev/null
  swapon /dev/zram0
  swap=/dev/zram0
  script plain <<<'device { size = "64M", depth = 64, max_io = "64K" }'
  local record lock
  for lock in false true; do
    record=$(add_in_group "lock_memory=$lock")
    dev=$(json_value path <<<"$record") id=$(json_value id <<<"$record") server=$(json_value serverPID <<<"$record")
    load >load.out 2>&1
    # fails when it was less, as here it has to be
    echo 256M >"$group/one/memory.reclaim" || true
    count_faults load
    if [ $lock = false ]; then
      [ $major -gt 0 ] || fail "nothing was swapped out: nothing to compare with"
    else
      expect_equal "major faults" $major 0
    fi
    ublk-script del "$id"
  done
}

t_what_is_not_there_or_not_allowed_is_refused_before_anything_is_made() {
  script plain <<<'device { size = "64M", lock_memory = true }'
  expect_status 1 ublk-script add plain.lua size=1T
  expect_output "1 TiB for what is stored in memory" "this machine has" "Ask for less"
  expect_status 1 ublk-script add plain.lua depth=4096 max_io=32M --file disk.img
  expect_output "128 GiB for the data of IO"
  [ ! -e disk.img ] || fail "the file is left"
  expect_status 1 bash -c 'ulimit -l 64 &&
    exec setpriv --bounding-set=-ipc_lock,-sys_resource ublk-script add plain.lua'
  expect_output "mlockall failed" "CAP_IPC_LOCK" "the limit is 64 KiB"
  no_leftovers
}

run_cases "$@"
