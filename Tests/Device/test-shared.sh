#!/bin/bash
# time limit: 240
# One file behind several devices: they have the same bytes, and a fault of one of them is a fault of one path.
. "$(dirname "$0")/lib.sh"

multipath=ublk-script-paths
paths=() ids=()

tidy_case() {
  [ ! -e "/dev/mapper/$multipath" ] || dmsetup remove --retry "$multipath"
}

# A path that fails IO while its state is "unplugged", and lets none end while it is "stuck".
path_script() {
  truncate -s 64M disk.img
  script path <<'LUA'
    device { file = "disk.img", shared = true }
    rule { name = "cable", state = "unplugged", error = "ENOLINK" }
    rule { name = "stuck", state = "stuck", hang = true, error = "ETIMEDOUT" }
    rule { name = "sector", op = "read", state = "bad", error = "ENODATA" }
LUA
}

add_path() { # [OPTION...]
  add_device path "$@"
  paths+=("$dev") ids+=("$id")
}

# Makes /dev/mapper/$multipath of the paths, one priority group, each path for one IO in turn.
make_multipath() {
  { modprobe dm_multipath && modprobe dm_round_robin; } 2>/dev/null || skip "this kernel has no dm-multipath"
  echo "0 $(blockdev --getsz "${paths[0]}") multipath 0 0 1 1 round-robin 0 ${#paths[@]} 1 ${paths[*]/%/ 1}" |
    dmsetup create "$multipath"
  dev=/dev/mapper/$multipath
}

# What dm says of a path: A is active, F has failed.
path_is() { # PATH STATE
  local number
  number=$(<"/sys/block/${1##*/}/dev")
  [ "$(dmsetup status "$multipath" | awk -v number="$number" '{ for (i = 1; i < NF; i++) if ($i == number) print $(i + 1) }')" = "$2" ]
}

reinstate() { # PATH
  dmsetup message "$multipath" 0 "reinstate_path $1"
  path_is "$1" A || fail "$1 is not taken back: $(dmsetup status "$multipath")"
}

# How many reads and writes a device has had; without a number of its own no other test's `counter`.
served() { # ID
  ublk-script stats "$1" --json | grep -o '"count":[0-9]*' | awk -F: '{ sum += $2 } END { print sum + 0 }'
}

has_served_more_than() { # ID COUNT
  [ "$(served "$1")" -gt "$2" ]
}

same_data_on() { # DISK...
  local disk sums
  sync disk.img
  sums=$(for disk in "$@"; do dd if="$disk" bs=1M iflag=direct status=none | sha256sum; done | sort -u)
  expect_equal "different data on $*" "$(wc -l <<<"$sums")" 1
  expect_equal "the file" "$(sha256sum <disk.img)" "$sums"
}

# ---- who may have it ----

t_devices_that_share_a_file_tell_so_and_others_are_refused_with_their_numbers() {
  path_script
  script alone <<<'device { file = "disk.img" }'
  add_path -n 3
  expect_status 1 ublk-script add alone.lua
  expect_output "disk.img is in use: device 3 has it" "Say shared = true here, too"
  add_path -n 5
  expect_status 1 ublk-script add alone.lua read_only=true
  expect_output "devices 3, 5 have it"
  expect_status 1 ublk-script add path.lua size=32M
  expect_output "has 67108864 bytes, not 33554432"
  expect_status 1 ublk-script resize 3 128M
  if driver_has UPDATE_SIZE; then expect_output "device 3 shares" "with others"; fi
  expect_status 0 ublk-script list 3
  expect_output "disk.img (shared)"
  expect_status 0 ublk-script list 3 --json
  expect_output '"isShared":true'
  expect_json list
  ublk-script del 3
  ublk-script del 5
  add_device alone
  expect_status 1 ublk-script add path.lua
  expect_output "disk.img is in use: device $id has it" "it is not shared there"
}

t_a_block_device_is_shared_unless_somebody_has_it() {
  path_script
  local loop
  loop=$(losetup -f --show disk.img)
  mkfs.ext4 -q "$loop"
  mkdir mnt
  mount "$loop" mnt
  expect_status 1 ublk-script add path.lua --file "$loop"
  expect_output "in use"
  umount mnt
  add_path --file "$loop"
  losetup -d "$loop" # once nobody has it
  add_path --file "$loop"
  fill "${paths[0]}" 1M 64K ab
  blkdiscard -z -o 1M -l 32K "${paths[1]}"
  expect_equal "zeroed by the other one" "$(bytes_in "${paths[0]}" 1M 32K)" 00
  expect_equal "the rest" "$(bytes_in "${paths[1]}" $(((1 << 20) + 32768)) 32K)" ab
}

# ---- the same bytes ----

t_what_one_writes_zeroes_or_discards_the_other_reads_whatever_their_data_modes() {
  path_script
  local mode other=copy
  add_path data=copy
  driver_has AUTO_BUF_REG && other=zero_copy
  for mode in user_copy $other; do
    add_path "data=$mode"
    fill "${paths[0]}" 4M 64K 11
    expect_equal "written before, in $mode" "$(bytes_in "$dev" 4M 64K)" 11
    fill "$dev" 4M 64K 22
    expect_equal "written here, in $mode" "$(bytes_in "${paths[0]}" 4M 64K)" 22
    blkdiscard -o 4M -l 32K "$dev"
    expect_equal "discarded here, in $mode" "$(bytes_in "${paths[0]}" 4M 32K)" 00
    expect_equal "kept, in $mode" "$(bytes_in "${paths[0]}" $(((4 << 20) + 32768)) 32K)" 22
  done
  same_data_on "${paths[@]}"
}

# ---- multipath ----

t_IO_goes_on_over_the_other_path_when_a_cable_is_pulled() {
  path_script
  add_path
  add_path
  make_multipath
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bs=4k --size=64M \
    --rate_iops=1500 --verify=crc32c --verify_fatal=1 >fio.out 2>&1 &
  local fio=$! round pulled other before
  wait_until 20 has_served_more_than "${ids[0]}" 100
  for round in 0 1 0 1; do
    pulled=${paths[round]} other=${ids[1 - round]}
    ublk-script ctl "${ids[round]}" state unplugged
    wait_until 20 path_is "$pulled" F
    before=$(served "$other")
    wait_until 20 has_served_more_than "$other" $((before + 100))
    path_is "${paths[1 - round]}" A || fail "the other path has failed, too"
    ublk-script ctl "${ids[round]}" state plugged
    reinstate "$pulled"
  done
  kill -0 "$fio" 2>/dev/null || fail "fio ended before the last cable was pulled: $(<fio.out)"
  wait "$fio" || fail "fio: $(tail -n 20 fio.out)"
  [ "$(ublk-script ledger "${ids[0]}" | grep -c ENOLINK)" -gt 0 ] || fail "no fault is in the ledger"
  same_data_on "$dev" "${paths[@]}"
}

t_IO_goes_on_when_the_server_of_a_path_is_killed() {
  path_script
  add_path
  local killed=$server
  add_path
  make_multipath
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bs=4k --size=32M \
    --rate_iops=1500 --verify=crc32c --verify_fatal=1 >fio.out 2>&1 &
  local fio=$!
  wait_until 20 has_served_more_than "${ids[0]}" 100
  kill -KILL "$killed"
  wait_until 60 path_is "${paths[0]}" F
  wait "$fio" || fail "fio: $(tail -n 20 fio.out)"
  same_data_on "$dev" "${paths[1]}"
  dmsetup remove "$multipath"
}

t_an_IO_that_hangs_on_one_path_is_answered_over_the_other_when_it_times_out() {
  path_script
  add_path
  add_path
  fill "${paths[0]}" 0 64K 5a
  make_multipath
  ublk-script ctl "${ids[0]}" state stuck
  # two at least, one for each path
  for _ in 1 2 3 4; do dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct status=none 2>>errors & done
  id=${ids[0]}
  wait_until 20 has_held
  ublk-script ctl "$id" state well
  ublk-script ctl "$id" release
  wait
  expect_equal "errors" "$(<errors)" ""
  path_is "${paths[0]}" F || fail "the path is not given up: $(dmsetup status "$multipath")"
  expect_equal "data" "$(bytes_in "$dev" 0 64K)" 5a
}

has_held() { [ "$(counter held_now)" -gt 0 ]; }

t_an_error_of_the_disk_is_not_the_paths() {
  path_script
  add_path
  add_path
  make_multipath
  for id in "${ids[@]}"; do ublk-script ctl "$id" state bad; done
  for _ in 1 2 3 4; do expect_equal "a read" "$(read_errno "$dev" 0 4096)" ENODATA; done
  path_is "${paths[0]}" A && path_is "${paths[1]}" A || fail "a path is given up: $(dmsetup status "$multipath")"
}

run_cases "$@"
