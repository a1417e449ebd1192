#!/bin/bash
# Held IOs: nothing but release, their time limit or the end of the device ends them, and no end of a device
# waits for them.
. "$(dirname "$0")/lib.sh"

hang_script() {
  script hang <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "1M" }, hang = true }
    rule { op = "write", range = { "1M", "1M" }, hang = true }
LUA
}

# Starts a reader in the background; its errno comes into the file `answer`.
start_reader() { # OFFSET
  # written when the reader is done, so that the file's being there tells
  (read_errno "$dev" "$1" 4096 >answer.new && mv answer.new answer) &
}

has_answer() { [ -e answer ]; }

# Starts 64 reads that hang, and waits until all are held.
start_64() { # [FIO-OPTION...]
  echo 2 >"/sys/block/ublkb$id/queue/nomerges" # or they would be one large read
  fio --name=hang --filename="$dev" --direct=1 --ioengine=libaio --rw=read --bs=4k --offset=1M --size=256k \
    --iodepth=64 --iodepth_batch=64 "$@" >fio.out 2>&1 &
  fio=$!
  wait_until 15 holds 64
}

# Runs what ends a device with 64 held IOs; 2 s are allowed for it.
expect_quick_end() { # COMMAND...
  local started status=0
  started=$(now_ms)
  "$@"
  expect_within "the end of the device" "$started" 2000
  no_leftovers
  wait "$fio" || status=$?
  [ $status != 0 ] || fail "fio says that all of its reads succeeded"
  # ENOSPC is what the kernel says of a write to a disk that has no size any more
  grep -qE 'Input/output error|No space left' fio.out || fail "fio saw no error: $(<fio.out)"
}

t_release_ends_a_held_read_with_success() {
  hang_script
  add_device hang
  fill "$dev" 2097152 4096 cd
  start_reader 1048576
  wait_until 5 holds 1
  # others go past it
  for _ in {1..20}; do expect_equal "another read" "$(read_errno "$dev" 2097152 4096)" ok; done
  ! has_answer || fail "the read was not held: $(<answer)"
  expect_status 0 ublk-script ctl "$id" release
  expect_output "released 1"
  wait_until 5 has_answer
  expect_equal "the read" "$(<answer)" ok
  expect_equal "IOs held" "$(counter held_now)" 0
}

t_release_with_an_errno_ends_a_held_read_with_it() {
  hang_script
  add_device hang
  start_reader 1048576
  wait_until 5 holds 1
  ublk-script ctl "$id" release ENODATA
  wait_until 5 has_answer
  expect_equal "the read" "$(<answer)" ENODATA
}

t_a_released_write_arrives() {
  hang_script
  add_device hang
  fill "$dev" 1048576 4096 ef &
  wait_until 5 holds 1
  ublk-script ctl "$id" release
  wait $!
  start_reader 1048576
  wait_until 5 holds 1
  ublk-script ctl "$id" release
  wait_until 5 has_answer
  expect_equal "the read" "$(<answer)" ok
}

t_release_takes_the_newest_first_and_so_many() {
  local i
  script hang <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "1M" }, hang = true }
LUA
  add_device hang
  for i in 0 1 2; do
    { read_errno "$dev" $((1048576 + i * 4096)) 4096 >/dev/null && echo $i >>order; } &
    wait_until 5 holds $((i + 1))
  done
  expect_status 0 ublk-script ctl "$id" release lifo 1
  expect_output "released 1"
  wait_until 5 test -s order
  expect_status 0 ublk-script ctl "$id" release 1 fifo
  wait_until 5 lines_in_order 2
  expect_status 0 ublk-script ctl "$id" release
  wait_until 5 lines_in_order 3
  expect_equal "order" "$(tr '\n' ' ' <order)" "2 0 1 "
}

lines_in_order() { [ "$(wc -l <order)" = "$1" ]; }

t_release_refuses_an_unknown_errno_and_releases_nothing() {
  hang_script
  add_device hang
  start_reader 1048576
  wait_until 5 holds 1
  expect_status 1 ublk-script ctl "$id" release EBOGUS
  expect_output EBOGUS EIO ENODATA
  holds 1
  ublk-script ctl "$id" release
  wait_until 5 has_answer
}

t_a_hang_with_a_time_limit_ends_by_itself_as_scripted() {
  script hang <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "4K" }, hang = "700ms" }
    rule { op = "read", range = { "2M", "4K" }, hang = "700ms", error = "ETIMEDOUT" }
    function read(io, offset) if offset == 3*MiB then return hang("700ms", fail("ENOLINK")) end end
LUA
  add_device hang
  local started offset wanted
  for offset in 1:ok 2:ETIMEDOUT 3:ENOLINK; do
    wanted=${offset#*:}
    started=$(now_ms)
    expect_equal "read at ${offset%:*} MiB" "$(read_errno "$dev" $((${offset%:*} * 1048576)) 4096)" "$wanted"
    expect_between "ms it took" $(($(now_ms) - started)) 700 3000
  done
}

t_other_IOs_pass_held_ones() {
  hang_script
  add_device hang
  start_64
  expect_equal "a read elsewhere" "$(read_errno "$dev" 4194304 4096)" ok
  expect_equal "a write elsewhere" "$(write_errno "$dev" 4194304 4096)" ok
  ublk-script ctl "$id" release
  wait "$fio"
}

t_del_with_64_held_IOs_takes_less_than_2_s_and_leaves_nothing() {
  hang_script
  add_device hang
  start_64
  expect_quick_end ublk-script del "$id"
}

t_del_with_64_held_IOs_on_2_queues_and_a_file_leaves_nothing() {
  hang_script
  add_device hang queues=2 --file "$work/disk.img"
  start_64
  expect_quick_end ublk-script del "$id"
  [ "$(stat -c %s "$work/disk.img")" = 16777216 ]
}

t_del_with_a_full_queue_of_held_IOs_leaves_nothing() {
  hang_script
  add_device hang depth=64
  start_64
  expect_quick_end ublk-script del "$id"
}

t_del_with_64_IOs_held_by_a_handler_leaves_nothing() {
  script hang <<'LUA'
    device { size = "16M" }
    function read(io, offset) if offset >= MiB and offset < 2*MiB then return hang() end end
LUA
  add_device hang
  start_64
  expect_quick_end ublk-script del "$id"
}

t_del_under_load_ends_it_with_errors_and_leaves_nothing() {
  hang_script
  add_device hang queues=2 --file "$work/disk.img"
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bs=4k --offset=4M --size=8M --iodepth=64 \
    --time_based --runtime=100 >fio.out 2>&1 &
  fio=$!
  wait_until 10 writes_arrive
  expect_quick_end ublk-script del "$id"
}

writes_arrive() { [ "$(counter write)" -gt 200 ]; }

t_a_held_flush_is_released_and_ended_as_any_other() {
  script hang <<'LUA'
    device { size = "16M", cache = "volatile" }
    rule { op = "flush", hang = true }
LUA
  add_device hang
  (flush_errno "$dev" >answer.new && mv answer.new answer) &
  wait_until 5 holds 1
  ublk-script ctl "$id" release
  wait_until 5 has_answer
  expect_equal "fsync" "$(<answer)" ok
  (flush_errno "$dev" >answer.2) &
  wait_until 5 holds 1
  ublk-script del "$id"
  wait $!
  expect_equal "fsync when the device goes" "$(<answer.2)" EIO
}

t_list_answers_while_a_server_stands_still() {
  hang_script
  add_device hang
  kill -STOP "$server"
  local started
  started=$(now_ms)
  expect_status 0 ublk-script list
  expect_output "$dev" LIVE
  expect_within list "$started" 2000
  kill -CONT "$server"
}

kill_and_wait() { # SIGNAL
  kill -"$1" "$server"
  while [ -n "$(leftovers)" ]; do pause 0.05; done
}

t_SIGTERM_with_64_held_IOs_leaves_nothing() {
  hang_script
  add_device hang
  start_64
  expect_quick_end kill_and_wait TERM
}

t_SIGINT_with_64_held_IOs_leaves_nothing() {
  hang_script
  add_device hang
  start_64
  expect_quick_end kill_and_wait INT
}

t_stop_with_64_held_IOs_takes_the_disk_and_del_the_rest() {
  hang_script
  add_device hang
  start_64
  local started
  started=$(now_ms)
  ublk-script stop "$id"
  expect_within "stop" "$started" 2000
  [ ! -e "$dev" ] || fail "$dev is still there"
  [ -e "/dev/ublkc$id" ] || fail "the number is not kept"
  expect_equal "processes" "$(processes)" ""
  expect_equal "state" "$(state_of "$id")" DEAD
  expect_status 1 ublk-script stop "$id"
  expect_output "del $id"
  ublk-script del "$id"
  no_leftovers
}

t_a_safe_stop_leaves_a_disk_that_is_open_alone() {
  needs_kernel 7.0
  script error <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "4M", "1M" }, error = "ENODATA" }
LUA
  add_device error
  exec 7<"$dev"
  expect_status 1 ublk-script stop --safe "$id"
  expect_output "device $id is in use: nothing was done" "open by $BASHPID bash"
  expect_equal "state" "$(state_of "$id")" LIVE
  expect_equal "read" "$(read_errno "$dev" 4M 4096)" ENODATA
  exec 7<&-
  expect_status 0 ublk-script stop --safe "$id"
  [ ! -e "$dev" ] || fail "$dev is still there"
  expect_equal "state" "$(state_of "$id")" DEAD
  ublk-script del "$id"
  no_leftovers
}

t_a_safe_stop_is_refused_where_the_driver_knows_none() {
  ! kernel_is_at_least 7.0 || skip "the driver knows it from 7.0 on"
  hang_script
  add_device hang
  expect_status 1 ublk-script stop --safe "$id"
  expect_output "TRY_STOP_DEV, from 7.0"
  expect_equal "state" "$(state_of "$id")" LIVE
}

# sync waits for writeback, which is held; the device goes while the filesystem is mounted.
t_SIGTERM_ends_held_writes_of_a_mounted_filesystem() {
  script hang <<'LUA'
    device { size = "64M" }
    local held = ranges("held")
    rule { op = "write", range = held, hang = true }
    function ctl() held:add(0, "64M") end
LUA
  add_device hang
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  ublk-script ctl "$id" on
  echo data >mnt/file
  errno_of sync -f mnt/file >answer &
  wait_until 15 holds_some
  kill -TERM "$server"
  wait $!
  expect_equal "what sync said" "$(<answer)" EIO
  umount mnt
  wait_until 5 is_gone "$id"
}

holds_some() { [ "$(counter held_now)" -gt 0 ]; }

run_cases "$@"
