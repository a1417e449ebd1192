#!/bin/bash
# time limit: 300
# Devices whose server was killed, and devices that another program takes away.
. "$(dirname "$0")/lib.sh"

plain_script() {
  script plain <<'LUA'
    device { size = "16M" }
    local hung, slow = ranges("hung"), ranges("slow")
    rule { op = "read", range = hung, hang = true }
    rule { op = "read", range = slow, delay = "1h" }
    function ctl() hung:add("1M", "1M"); slow:add("2M", "1M") end
LUA
}

# `list` says DEAD, `del` cleans up.
expect_dead_then_deleted() { # SECONDS
  local started
  expect_equal "state" "$(state_of "$id")" DEAD
  started=$(now_ms)
  expect_status 0 ublk-script del "$id"
  expect_within "del" "$started" $(($1 * 1000))
  no_leftovers
}

server_is_gone() { [ -z "$(processes)" ]; }

t_after_kill_9_list_says_DEAD_and_del_cleans_up() {
  plain_script
  add_device plain
  kill -KILL "$server"
  wait_until 5 server_is_gone
  expect_status 0 ublk-script list
  expect_output "$dev" DEAD
  expect_dead_then_deleted 3
}

t_after_kill_9_ctl_and_stop_say_what_to_do() {
  plain_script
  add_device plain
  kill -KILL "$server"
  wait_until 5 server_is_gone
  expect_status 1 ublk-script ctl "$id" stats
  expect_output "$server" "list $id"
  expect_status 1 ublk-script stop "$id"
  expect_output "del $id"
  expect_dead_then_deleted 3
}

t_after_kill_9_the_number_cannot_be_added_again_before_del() {
  plain_script
  add_device plain
  kill -KILL "$server"
  wait_until 5 server_is_gone
  expect_status 1 ublk-script add "$work/plain.lua" -n "$id"
  expect_output "device $id exists already" "delete it"
  expect_dead_then_deleted 3
  add_device plain -n "$id"
}

# Kernels before 6.15 notice it when a request has been with the server for 30 s.
t_kill_9_with_64_reads_held_ends_them_with_errors_and_del_cleans_up() {
  plain_script
  add_device plain
  ublk-script ctl "$id" on
  echo 2 >"/sys/block/ublkb$id/queue/nomerges"
  fio --name=hang --filename="$dev" --direct=1 --ioengine=libaio --rw=read --bs=4k --offset=1M --size=256k \
    --iodepth=64 >fio.out 2>&1 &
  wait_until 15 holds 64
  kill -KILL "$server"
  wait_until 5 server_is_gone
  expect_dead_then_deleted 75
  ! wait $! || fail "fio says that all of its reads succeeded"
}

t_kill_9_under_load_ends_it_with_errors_and_del_cleans_up() {
  plain_script
  add_device plain queues=2 --file disk.img
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --offset=4M --size=8M --iodepth=64 \
    --time_based --runtime=100 >fio.out 2>&1 &
  wait_until 10 writes_arrive
  kill -KILL "$server"
  wait_until 5 server_is_gone
  expect_dead_then_deleted 75
  ! wait $! || fail "fio says that all of its writes succeeded"
}

writes_arrive() { [ "$(counter write)" -gt 200 ]; }

t_kill_9_under_a_mounted_filesystem_lets_it_be_unmounted() {
  plain_script
  add_device plain size=32M --file disk.img
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  head -c 1M /dev/urandom >mnt/file
  kill -KILL "$server"
  wait_until 5 server_is_gone
  umount mnt
  expect_dead_then_deleted 75
  # the file is a disk after a power cut
  add_device plain size=32M --file disk.img
  e2fsck -p "$dev" || [ $? = 1 ]
}

# A disk that can be made slow, so that a server can be killed while an IO is under way.
slow_disk=/dev/mapper/ublk-script-slow

# lib.sh calls this at the end of each case.
tidy_case() {
  local loop status=0
  [ ! -e $slow_disk ] || dmsetup remove --retry "${slow_disk##*/}" || status=1
  for loop in $(losetup -n -O NAME -j "$work/slow.img" 2>/dev/null); do losetup -d "$loop" || status=1; done
  return $status
}

make_disk_of_delay() { # MILLISECONDS
  command -v dmsetup >/dev/null || skip "dmsetup is not installed"
  modprobe dm_delay 2>/dev/null || skip "this kernel has no dm-delay"
  truncate -s 16M slow.img
  losetup -f "$work/slow.img"
  delay_table "$1" | dmsetup create "${slow_disk##*/}"
}

delay_table() { # MILLISECONDS
  local loop
  loop=$(losetup -n -O NAME -j "$work/slow.img")
  echo "0 $((16 << 11)) delay $loop 0 $1 $loop 0 $1 $loop 0 $1"
}

set_delay() { # MILLISECONDS
  delay_table "$1" >table
  dmsetup suspend "${slow_disk##*/}"
  dmsetup reload "${slow_disk##*/}" table
  dmsetup resume "${slow_disk##*/}"
}

# PF_MEMALLOC_NOIO, which PR_SET_IO_FLUSHER sets: a thread without it could wait for its own device.
t_no_thread_of_a_server_waits_for_IO_when_it_needs_memory() {
  local task flags
  script watched <<'LUA'
    device { size = "16M", queues = 2 }
    function read() end
LUA
  add_device watched
  ls "/proc/$server/task"
  for task in "/proc/$server/task"/*; do
    flags=$(sed 's/.*) //' "$task/stat" | awk '{ print $7 }')
    [ $((flags & 0x80000)) != 0 ] || fail "$(<"$task/comm"): flags $flags"
  done
  expect_between "threads" "$(ls "/proc/$server/task" | wc -l)" 3 20
}

# Its own read of a disk that it serves itself would keep a dying server from dying.
t_kill_9_in_the_partition_scan_leaves_nothing() {
  make_disk_of_delay 3000
  plain_script
  ublk-script add plain.lua --file $slow_disk >answer 2>&1 &
  local add=$! child status=0
  wait_until 20 scan_reads
  child=$(json_value serverPID <"$state_directory/0.json")
  kill -KILL "$child"
  wait_until 10 has_died "$child"
  wait $add || status=$?
  # 6.18 scans in a worker of its own, so there add is done before
  [ $status = 1 ] || expect_status 0 ublk-script del 0
  wait_until 40 is_gone 0
}

# The first read of a slow disk is under way.
scan_reads() { [ -e /sys/block/ublkb0/inflight ] && [ "$(awk '{ print $1 }' /sys/block/ublkb0/inflight)" -gt 0 ]; }

writes_are_under_way() { [ "$(awk '{ print $2 }' "/sys/block/ublkb$id/inflight")" -gt 0 ]; }

# STOP_DEV has a filesystem write back what it has.
t_kill_9_while_stop_writes_back_lets_del_clean_up() {
  local stop
  make_disk_of_delay 0
  plain_script
  add_device plain cache=volatile --file $slow_disk
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  head -c 1M /dev/urandom >mnt/file
  set_delay 3000
  ublk-script stop "$id" --force --patience 60s >answer 2>&1 &
  stop=$!
  wait_until 20 writes_are_under_way
  kill -KILL "$server"
  wait_until 20 has_died "$server"
  ! wait $stop || fail "stop says that it succeeded"
  set_delay 0
  umount mnt
  # the stop that was under way may have taken the disk already, and del says so then; what counts is what is left
  ublk-script del "$id" >/dev/null || true
  wait_until 40 is_gone "$id"
}

t_del_of_a_dead_device_harms_no_other_whose_server_has_its_pid() {
  plain_script
  add_device plain
  local dead=$id dead_server=$server
  add_device plain
  kill -KILL "$dead_server"
  wait_until 5 has_died "$dead_server"
  # as if the pid had come around
  sed -i "s/\"serverPID\":$dead_server/\"serverPID\":$server/" "$state_directory/$dead.json"
  ublk-script del "$dead" || true
  expect_equal "state of the other" "$(state_of "$id")" LIVE
  expect_equal "a read of the other" "$(read_errno "$dev" 0 4096)" ok
}

# The last process of a mount namespace unmounts what is mounted in it, and a server that does that to its own disk waits
# for itself.
t_kill_9_after_the_namespace_with_its_mount_has_gone_ends_the_server() {
  script plain <<<'device { size = "64M", cache = "volatile" }'
  mkdir mnt
  # shellcheck disable=SC2016
  unshare --mount --propagation private bash -ec '
    record=$(ublk-script add plain.lua --json)
    mkfs.ext4 -q /dev/ublkb0
    mount /dev/ublkb0 mnt
    head -c 20M /dev/urandom >mnt/file
    sha256sum <mnt/file >sum
    echo "$record" >record'
  server=$(json_value serverPID <record)
  # the shell was the last one
  wait_until 10 is_unmounted
  kill -0 "$server" || fail "the server has ended"
  mount /dev/ublkb0 mnt
  expect_equal "the file" "$(sha256sum <mnt/file)" "$(<sum)"
  umount mnt
  kill -KILL "$server"
  wait_until 10 has_died "$server"
  ublk-script del 0
  no_leftovers
}

is_unmounted() { ! grep -q '^/dev/ublkb0 ' /proc/[0-9]*/mounts 2>/dev/null && [ ! -e /proc/fs/ext4/ublkb0 ]; }

t_a_server_keeps_no_filesystem_mounted() {
  plain_script
  add_device plain
  local lower=$dev lower_id=$id
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  add_device plain
  expect_equal "mounts of the server" "$(grep -c "^$lower " "/proc/$server/mounts")" 0
  umount mnt
  expect_status 0 e2fsck -fn "$lower"
  expect_status 0 ublk-script del "$lower_id"
}

t_a_server_finds_what_is_mounted_after_it_was_started() {
  mkdir mnt
  script first <<<'device { size = "16M" } rule { op = "read", trigger = "mnt/go", error = "EIO" }'
  add_device first
  mount -t tmpfs none mnt
  : >mnt/go
  wait_until 5 reads_as 0 EIO
  echo 'device { size = "16M" } rule { op = "read", delay = dist.empirical("mnt/times"), error = "ETIMEDOUT" }' >mnt/second.lua
  echo 1ms >mnt/times
  expect_status 0 ublk-script reload "$id" mnt/second.lua
  expect_equal "a read" "$(read_errno "$dev" 0 4096)" ETIMEDOUT
  umount mnt
  expect_status 1 ublk-script reload "$id"
  expect_output "mnt/second.lua" "No such file"
}

has_died() { [ ! -e "/proc/$1" ]; }

t_a_record_that_an_earlier_boot_left_is_cleaned_up() {
  plain_script
  add_device plain
  local record
  record=$(<"$state_directory/$id.json")
  ublk-script del "$id"
  echo "${record/\"serverPID\":$server/\"serverPID\":4194303}" >"$state_directory/$id.json"
  expect_status 0 ublk-script list
  expect_equal "list" "$output" ""
  expect_status 0 ublk-script del "$id"
  no_leftovers
  echo "${record/\"serverPID\":$server/\"serverPID\":4194303}" >"$state_directory/$id.json"
  add_device plain -n "$id"
  expect_equal "state" "$(state_of "$id")" LIVE
}

# DEL_DEV from a program that knows nothing of the server: here ublk-script itself, which is made to see a
# record whose server is dead.
delete_from_outside() { # ID
  unshare -m bash -c '
    set -e
    record=$(sed "s/\"serverPID\":[0-9]*/\"serverPID\":0/" "/run/ublk-script/$1.json")
    mount -t tmpfs tmpfs /run
    mkdir /run/ublk-script
    echo "$record" >"/run/ublk-script/$1.json"
    ublk-script del "$1"' - "$1"
}

# The server must notice, let go, and leave nothing.
expect_end_from_outside() { # SECONDS
  local started
  started=$(now_ms)
  delete_from_outside "$id" &
  wait_until "$1" is_gone "$id"
  wait $!
  echo "took $(($(now_ms) - started)) ms"
}

t_a_device_that_another_program_deletes_leaves_nothing() {
  plain_script
  add_device plain
  expect_end_from_outside 3
}

t_a_device_with_64_held_IOs_that_another_program_deletes_leaves_nothing() {
  plain_script
  add_device plain
  ublk-script ctl "$id" on
  echo 2 >"/sys/block/ublkb$id/queue/nomerges"
  fio --name=hang --filename="$dev" --direct=1 --ioengine=libaio --rw=read --bs=4k --offset=1M --size=256k \
    --iodepth=64 >fio.out 2>&1 &
  wait_until 15 holds 64
  expect_end_from_outside 6
}

t_a_device_with_IOs_delayed_for_an_hour_that_another_program_deletes_leaves_nothing() {
  plain_script
  add_device plain
  ublk-script ctl "$id" on
  (read_errno "$dev" 2097152 4096 >answer) &
  wait_until 10 one_is_delayed
  expect_end_from_outside 6
}

one_is_delayed() { [ "$(counter delayed)" = 1 ]; }

# The kernel keeps a stopped device until its last user closes it. Either answer is right, to refuse or to let the
# last user's close end it, but not to wait for that.
expect_quick_answer_while_in_use() { # WHAT-THE-MESSAGE-NAMES
  local started status=0
  started=$(now_ms)
  output=$(ublk-script del "$id" 2>&1) || status=$?
  echo "del: status $status: $output"
  expect_within "del" "$started" 5000
  if [ $status != 0 ]; then
    grep -qE "$1" <<<"$output" || fail "the message does not say that the device is in use: $output"
    expect_equal "state" "$(state_of "$id")" LIVE
  fi
}

t_del_of_a_device_that_is_open_answers_at_once_and_nothing_is_left_after_it_is_closed() {
  plain_script
  add_device plain
  sleep 60 <"$dev" &
  expect_quick_answer_while_in_use 'open|in use|busy'
  kill $!
  wait $! || true
  [ -z "$(leftovers)" ] || wait_until 5 gone_or_deleted
}

t_del_of_a_mounted_device_answers_at_once_and_nothing_is_left_after_it_is_unmounted() {
  plain_script
  add_device plain
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  expect_quick_answer_while_in_use 'mount|in use|busy|open'
  umount mnt
  [ -z "$(leftovers)" ] || wait_until 5 gone_or_deleted
}

# A refused del is repeated, an accepted one ends by itself.
gone_or_deleted() {
  [ ! -e "$dev" ] || ublk-script del "$id"
  [ -z "$(leftovers)" ]
}

t_the_script_of_a_deleted_device_keeps_no_file_open() {
  mkdir store
  mount -t tmpfs tmpfs store
  plain_script
  mv plain.lua store/
  ublk-script add store/plain.lua --file store/disk.img --quiet
  ublk-script del 0
  umount store
}

run_cases "$@"
