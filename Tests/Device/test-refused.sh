#!/bin/bash
# time limit: 180
# What cannot be done is refused with a message that says why, changes nothing and leaves nothing.
. "$(dirname "$0")/lib.sh"

plain_script() {
  script plain <<'LUA'
    device { size = "16M" }
LUA
}

# add fails with 1 and leaves nothing.
expect_refused() { # ADD-ARGUMENT...
  expect_status 1 ublk-script add "$@"
  no_leftovers
}

t_a_second_add_with_the_same_number_is_refused_and_the_first_device_goes_on() {
  plain_script
  add_device plain -n 5
  fill "$dev" 0 4096 5a
  local record
  record=$(<"$state_directory/5.json")
  expect_status 1 ublk-script add "$work/plain.lua" -n 5
  expect_output "device 5 exists already" "-n"
  expect_equal "what the device holds" "$(bytes_in "$dev" 0 4096)" 5a
  expect_equal "record" "$(<"$state_directory/5.json")" "$record"
  expect_equal "state" "$(state_of 5)" LIVE
  ublk-script ctl 5 stats >/dev/null
  expect_equal "servers" "$(servers)" "$server"
}

t_del_of_a_missing_device_says_that_there_is_none() {
  expect_status 1 ublk-script del 7
  expect_output "no ublk device 7" "list"
  expect_status 1 ublk-script stop /dev/ublkb7
  expect_output "no ublk device 7"
  expect_status 1 ublk-script ctl 7 stats
  expect_output "no ublk device 7"
  expect_status 1 ublk-script list 7
  expect_output "no ublk device 7"
  expect_status 0 ublk-script del --all
  no_leftovers
}

t_del_of_all_and_of_one_is_refused_and_deletes_nothing() {
  plain_script
  add_device plain
  expect_status 2 ublk-script del --all "$id"
  expect_output "--all is every device"
  expect_status 2 ublk-script list "$id" "$id"
  expect_output "is named twice"
  expect_equal "state" "$(state_of "$id")" LIVE
}

t_more_queues_than_cpus_are_refused_on_the_command_line_and_told_of_a_script() {
  plain_script
  expect_refused plain.lua -q 4096
  expect_output "at most one for each CPU"
  echo 'device { size = "16M", queues = 4096, depth = 1 }' >many.lua
  expect_status 0 ublk-script add many.lua
  expect_output "queues, not the 4096 of the script"
  ublk-script del --all
}

t_without_the_module_every_command_says_how_to_load_it() {
  plain_script
  modprobe -r ublk_drv 2>/dev/null || skip "ublk_drv cannot be unloaded here"
  trap 'modprobe ublk_drv; finish_case' EXIT
  local command
  for command in "add $work/plain.lua" "add --foreground $work/plain.lua" "del 0" "list" "features"; do
    # shellcheck disable=SC2086
    expect_status 1 ublk-script $command
    expect_output "ublk_drv" "modprobe"
  done
  no_leftovers
}

t_without_root_every_command_says_that_it_needs_it() {
  plain_script
  add_device plain
  local command
  for command in "add plain.lua" "add --foreground plain.lua" "del 0" "list" "features" "stop 0" "ctl 0 stats"; do
    # shellcheck disable=SC2086
    expect_status 1 setpriv --reuid 65534 --regid 65534 --clear-groups ublk-script $command
    expect_output root
  done
  expect_equal "state" "$(state_of "$id")" LIVE
}

t_a_file_that_is_smaller_than_the_device_is_refused_and_unchanged() {
  plain_script
  head -c 1000000 /dev/urandom >disk.img
  local before
  before=$(sha256sum disk.img)
  expect_refused plain.lua --file disk.img
  expect_output disk.img 1000000 16777216
  expect_refused plain.lua size=1M --file disk.img
  expect_output disk.img 1000000 1048576
  expect_equal "file" "$(sha256sum disk.img)" "$before"
  script nosize <<'LUA'
    device { file = "disk.img" }
LUA
  expect_status 0 ublk-script add nosize.lua
  ublk-script del 0
  expect_equal "file" "$(sha256sum disk.img)" "$before"
}

t_an_empty_file_is_refused() {
  script nosize <<'LUA'
    device { file = "disk.img" }
LUA
  : >disk.img
  expect_refused nosize.lua
  expect_output disk.img "0 bytes"
  expect_equal "size" "$(stat -c %s disk.img)" 0
}

t_a_file_that_is_none_is_refused() {
  plain_script
  mkdir folder
  expect_refused plain.lua --file folder
  expect_output folder
  expect_refused plain.lua --file /dev/zero
  expect_output /dev/zero "neither a regular file nor a block device"
  expect_refused plain.lua --file missing/disk.img
  expect_output missing/disk.img ENOENT
  mkfifo fifo
  local words
  for words in "" read_only=true; do
    expect_status 1 timeout 10 ublk-script add plain.lua --file fifo $words
    expect_output fifo "neither a regular file nor a block device"
  done
  no_leftovers
}

t_a_missing_file_without_a_size_is_refused_and_not_made() {
  script nosize <<'LUA'
    device {}
LUA
  expect_refused nosize.lua --file disk.img
  expect_output disk.img size
  [ ! -e disk.img ] || fail "the file was made"
  expect_refused nosize.lua
  expect_output size
}

t_a_file_that_add_made_is_removed_when_add_fails() {
  plain_script
  add_device plain -n 3
  expect_status 1 ublk-script add plain.lua -n 3 --file disk.img --ledger faults.json
  [ ! -e disk.img ] || fail "the file is still there"
  [ ! -e faults.json ] || fail "the file of the ledger is still there"
  expect_status 1 ublk-script add plain.lua --file missing/disk.img --ledger faults.json
  [ ! -e faults.json ] || fail "the file of the ledger is still there, no device was made"
  head -c 16M /dev/zero >own.img
  expect_status 1 ublk-script add plain.lua -n 3 --file own.img
  [ -e own.img ] || fail "a file that was there before is gone"
}

t_a_file_that_is_cut_while_the_device_runs_gives_EIO_and_the_server_goes_on() {
  plain_script
  add_device plain --file disk.img
  fill "$dev" 1048576 4096 11
  truncate -s 64K disk.img
  expect_equal "a read past the end of the file" "$(read_errno "$dev" 1048576 4096)" EIO
  expect_equal "a read before it" "$(read_errno "$dev" 0 4096)" ok
  expect_equal "errors of the backing" "$(counter backing_errors)" 1
  grep -q "the file ends before the device does" "$state_directory/$id.log" || fail "the log does not say why"
  expect_equal "a write past the end of the file" "$(write_errno "$dev" 1048576 4096)" ok
  expect_equal "a read of what was written" "$(bytes_in "$dev" 1048576 4096)" 00
}

t_a_full_disk_under_the_file_gives_ENOSPC_and_the_server_goes_on() {
  plain_script
  mkdir small
  mount -t tmpfs -o size=1M tmpfs small
  add_device plain --file small/disk.img
  expect_equal "a write that fits" "$(write_errno "$dev" 0 65536)" ok
  errno_of dd if=/dev/zero of="$dev" bs=64K count=32 oflag=direct conv=notrunc >answer
  expect_equal "writes that do not fit" "$(<answer)" ENOSPC
  grep -q ENOSPC "$state_directory/$id.log" || fail "the log does not tell"
  expect_equal "a read" "$(read_errno "$dev" 0 65536)" ok
  discard_errno "$dev" 0 1048576
  expect_equal "a write after making room" "$(write_errno "$dev" 0 65536)" ok
  ublk-script del "$id"
  umount small
}

# The file cannot be allocated at all: nothing of it may stay.
t_a_file_that_cannot_be_made_is_refused() {
  plain_script
  mkdir small
  mount -t tmpfs -o size=1M,mode=755 tmpfs small
  mount -o remount,ro small
  expect_refused plain.lua --file small/disk.img
  expect_output small/disk.img EROFS
  umount small
}

t_a_read_only_file_is_refused_unless_the_device_is_read_only() {
  plain_script
  mkdir small
  mount -t tmpfs tmpfs small
  truncate -s 16M small/disk.img
  mount -o remount,ro small
  expect_refused plain.lua --file small/disk.img
  expect_output small/disk.img EROFS
  add_device plain --file small/disk.img read_only=true
  expect_equal "a read" "$(read_errno "$dev" 0 4096)" ok
  expect_equal "read-only flag" "$(blockdev --getro "$dev")" 1
  [ "$(write_errno "$dev" 0 4096)" != ok ] || fail "a write succeeded"
  ublk-script del "$id"
  umount small
}

t_a_state_directory_that_cannot_be_used_is_refused() {
  plain_script
  unshare -m bash -c "set -e
    mount -t tmpfs -o size=64k tmpfs /run
    mount -o remount,ro /run
    ublk-script add '$work/plain.lua'" >answer 2>&1 && fail "add succeeded"
  output=$(<answer)
  expect_output /run/ublk-script
  no_leftovers
}

t_a_script_with_too_little_memory_for_its_tags_is_refused_or_works() {
  script plain <<'LUA'
    device { size = "16M" }
    function read() end
LUA
  local status=0
  output=$(ublk-script add plain.lua memory=256K depth=4096 max_io=4K 2>&1) || status=$?
  [ $status = 0 ] || { expect_output memory && no_leftovers; }
}

t_more_buffers_than_memory_are_refused() {
  plain_script
  local status=0
  output=$(ublk-script add plain.lua depth=4096 max_io=32M 2>&1) || status=$?
  # a machine may have 128 GiB
  [ $status = 0 ] || { expect_output 4096 33554432 ENOMEM && no_leftovers; }
}

t_a_size_that_memory_or_file_cannot_have_is_refused() {
  plain_script
  expect_refused plain.lua size=500000T
  expect_output "500000 TiB" ENOMEM
  truncate -s 64M ext4.img
  mkfs.ext4 -q ext4.img
  mkdir mnt
  mount -o loop ext4.img mnt
  expect_refused plain.lua size=500000T --file mnt/disk.img
  expect_output mnt/disk.img EFBIG
  [ ! -e mnt/disk.img ] || fail "the file is still there"
  umount mnt
}

t_a_server_that_dies_while_the_device_comes_up_leaves_nothing() {
  script heavy <<'LUA'
    device { size = "16M", depth = 4096 }
    local t = {}
    for i = 1, 300000 do t[i] = i end
LUA
  ublk-script add heavy.lua >answer 2>&1 &
  local add=$! child status=0
  wait_until 10 has_record
  child=$(json_value serverPID <"$state_directory/0.json")
  kill -KILL "$child" 2>/dev/null || true
  wait $add || status=$?
  # it may have been too late
  [ $status != 0 ] || return 0
  no_leftovers
}

has_record() { [ -e "$state_directory/0.json" ]; }

t_a_missing_script_is_refused() {
  expect_refused missing.lua
  expect_output missing.lua "No such file"
  expect_refused .
  expect_output "regular file"
  expect_status 2 ublk-script add
  no_leftovers
}

run_cases "$@"
