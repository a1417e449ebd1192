#!/bin/bash
# time limit: 240
# any kernel: the bytes are in files of the server; the driver's part is in test-recover
# Stores in memory outlive their server: beside the record, in N.memory. Killed under load, with all its processes, and
# by an upgrade; what is given back, what is refused, and what a full /run does.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/next-server.sh"

kills=${RECOVER_KILLS:-5}

memory_script() {
  script memory <<'LUA'
    device { size = "16M" }
LUA
}

add_memory() { # MODE [OPTION...]
  local mode=$1
  shift
  [ "$mode" != fail ] || driver_has USER_RECOVERY_FAIL_IO || skip "this kernel has no recovery=fail"
  memory_script
  add_device memory "recovery=$mode" "$@"
  kept=$state_directory/$id.memory
}

# Of the store, KiB.
memory_taken() { du -k "$kept" | cut -f 1; }

expect_bytes_outlive() { # MODE
  add_memory "$1" queues=2
  fill "$dev" 1M 65536 5a
  fill "$dev" 15M 4096 77
  kill_server
  recover
  expect_equal "the data" "$(bytes_in "$dev" 1M 65536)" 5a
  expect_equal "its last MiB" "$(bytes_in "$dev" 15M 4096)" 77
  expect_equal "what was never written" "$(bytes_in "$dev" 8M 1048576)" 00
  fill "$dev" 2M 4096 33
  kill_server
  recover
  expect_equal "the data" "$(bytes_in "$dev" 1M 65536)" 5a
  expect_equal "what the second server got" "$(bytes_in "$dev" 2M 4096)" 33
  ublk-script del "$id"
  no_leftovers
}

t_bytes_outlive_the_server_with_wait() { expect_bytes_outlive wait; }
t_bytes_outlive_the_server_with_reissue() { expect_bytes_outlive reissue; }
t_bytes_outlive_the_server_with_fail() { expect_bytes_outlive fail; }

t_bytes_outlive_all_processes_of_the_server() {
  add_memory wait --restart
  fill "$dev" 1M 65536 5a
  # shellcheck disable=SC2046
  kill -KILL $(processes)
  wait_until 20 no_process
  wait_until 40 waits_for_server
  recover
  expect_equal "the data" "$(bytes_in "$dev" 1M 65536)" 5a
}

no_process() { [ -z "$(processes)" ]; }

# fio ends with the first error, and with the first wrong byte.
t_with_reissue_fio_sees_no_error_and_no_wrong_byte_in_memory() {
  local round moment seed load
  add_memory reissue queues=2
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bs=4k --size=8M --iodepth=16 \
    --verify=crc32c --verify_backlog=256 --time_based --runtime=1000 >fio.out 2>&1 &
  load=$!
  wait_until 20 writes_arrive
  seed=${RECOVER_SEED:-$((SRANDOM % 32768))}
  echo "RECOVER_SEED=$seed"
  RANDOM=$seed
  for ((round = 0; round < kills; round++)); do
    moment=$((RANDOM % 700))
    echo "round $round: killed after $moment ms"
    sleep "0.$(printf %03d $moment)"
    kill_server
    recover
  done
  wait_until 20 writes_arrive
  jobs -rp | has_line -x $load || { cat fio.out && fail "fio ended before its time"; }
  kill -INT $load
  wait $load || true # it says that it was interrupted
  grep -q "err= 0" fio.out && ! grep -q "verify:" fio.out || { cat fio.out && fail "fio saw an error"; }
}

writes_arrive() { [ "$(counter write)" -gt 50 ]; }

t_an_upgrade_keeps_them() {
  driver_has QUIESCE || skip "the driver can do this from 6.16 on"
  add_memory reissue
  fill "$dev" 1M 65536 5a
  ublk-script quiesce "$id"
  wait_until 10 waits_for_server
  recover
  expect_equal "the data" "$(bytes_in "$dev" 1M 65536)" 5a
}

t_each_store_of_a_target_in_memory_outlives_the_server() {
  script two <<'LUA'
    local a, b = backing { size = "8M" }, backing { size = "8M" }
    device { size = "16M", backing = "null", recovery = "wait" }
    local half <const> = 8 << 20
    local function place(io, offset)
      if offset < half then return to(offset, a) end
      return to(offset - half, b)
    end
    read, write = place, place
LUA
  add_device two
  fill "$dev" 1M 4096 11
  fill "$dev" 9M 4096 22
  kill_server
  recover
  expect_equal "in the first" "$(bytes_in "$dev" 1M 4096)" 11
  expect_equal "in the second" "$(bytes_in "$dev" 9M 4096)" 22
  ublk-script del "$id"
  no_leftovers
}

t_only_what_is_written_takes_memory_and_a_discard_gives_it_back() {
  local taken
  add_memory wait partitions=false
  dd if="$dev" of=/dev/null bs=1M iflag=direct status=none
  expect_between "KiB after it was read" "$(memory_taken)" 0 64
  fill "$dev" 4M 4194304 5a
  taken=$(memory_taken)
  expect_between "KiB after 4 MiB were written" "$taken" 4096 4200
  blkdiscard -o 4M -l 2M "$dev"
  blkdiscard -z -o 6M -l 1M "$dev"
  expect_between "KiB after 3 MiB were given back" "$(memory_taken)" 1024 1200
  expect_equal "what is left" "$(bytes_in "$dev" 7M 1048576)" 5a
  expect_equal "what was discarded" "$(bytes_in "$dev" 4M 1048576)" 00
}

t_a_device_that_has_grown_is_recovered_as_large() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  add_memory wait
  ublk-script resize "$id" 32M
  fill "$dev" 31M 4096 5a
  kill_server
  recover
  expect_equal "the size" "$(blockdev --getsize64 "$dev")" $((32 << 20))
  expect_equal "its end" "$(bytes_in "$dev" 31M 4096)" 5a
}

t_locked_memory_is_all_there_and_outlives_the_server_too() {
  add_memory wait lock_memory=true depth=4 max_io=64K
  expect_between "KiB before anything is written" "$(memory_taken)" 16384 16500
  fill "$dev" 1M 65536 5a
  blkdiscard -o 1M -l 4K "$dev"
  expect_between "KiB after a discard" "$(memory_taken)" 16384 16500
  kill_server
  recover
  expect_equal "the data" "$(bytes_in "$dev" $(((1 << 20) + 4096)) 4096)" 5a
  expect_equal "what was discarded" "$(bytes_in "$dev" 1M 4096)" 00
}

t_a_device_that_is_stopped_gives_all_back() {
  add_memory wait
  [ -e "$kept" ] || fail "there is no $kept"
  expect_equal "whose it is" "$(stat -c '%u %a' "$kept")" "0 600"
  ublk-script stop "$id"
  [ ! -e "$kept" ] || fail "$kept is left by stop"
  ublk-script del "$id"
  add_memory wait
  kill_server
  ublk-script del "$id"
  no_leftovers
  # without recovery the bytes are the server's own
  add_device memory
  [ ! -e "$state_directory/$id.memory" ] || fail "there is one without recovery"
}

t_bytes_that_are_gone_are_told_and_the_device_goes_on_waiting() {
  add_memory wait
  fill "$dev" 0 4096 77
  kill_server
  mv "$kept" "$kept.away"
  expect_status 1 ublk-script recover "$id"
  expect_output "$kept is not there any more"
  has_state QUIESCED
  mv "$kept.away" "$kept"
  recover
  expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
}

# ---- room ----

with_room() { # SIZE
  mkdir -p "$state_directory"
  mount -t tmpfs -o "size=$1,mode=755" none "$state_directory"
}

tidy_case() { umount "$state_directory" 2>/dev/null || true; }

t_a_store_that_has_no_room_is_refused_before_anything_is_made() {
  with_room 20M
  memory_script
  expect_status 1 ublk-script add memory.lua recovery=wait
  expect_output "$state_directory" "16 MiB" "three quarters" "20 MiB" "--file"
  no_leftovers
  expect_status 0 ublk-script add memory.lua recovery=wait size=12M
  ublk-script del --all
}

# What was written before is there, and a discard makes room.
t_when_others_have_filled_it_writes_fail_with_ENOSPC_and_the_device_goes_on() {
  with_room 24M
  add_memory wait
  fill "$dev" 0 4194304 5a
  fallocate -l 19M "$state_directory/others"
  expect_equal "a write" "$(write_errno "$dev" 8388608 4194304)" ENOSPC
  expect_equal "a read" "$(bytes_in "$dev" 0 4194304)" 5a
  expect_status 0 ublk-script ledger "$id"
  expect_output ENOSPC
  rm "$state_directory/others"
  expect_equal "a write" "$(write_errno "$dev" 8388608 4194304)" ok
  kill_server
  recover
  expect_equal "a read" "$(bytes_in "$dev" 0 4194304)" 5a
  ublk-script del "$id"
}

run_cases "$@"
