#!/bin/bash
# The size of a disk that is in use.
. "$(dirname "$0")/lib.sh"

plain_script() { script plain <<<'device { size = "64M" }'; }

bytes_of() { blockdev --getsize64 "$dev"; }

t_a_mounted_ext4_grows_with_its_device() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  plain_script
  add_device plain
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  head -c 8M /dev/urandom >mnt/before
  local sum
  sum=$(sha256sum <mnt/before)
  expect_status 0 ublk-script resize "$id" 256M
  expect_output "$dev has 256M now; it had 64M"
  expect_equal "bytes" "$(bytes_of)" $((256 << 20))
  resize2fs "$dev" 2>&1
  head -c 96M /dev/zero | tr '\0' x >mnt/after
  sync
  echo 3 >/proc/sys/vm/drop_caches
  expect_equal "what was there before" "$(sha256sum <mnt/before)" "$sum"
  expect_equal "what is new" "$(tr -d x <mnt/after | wc -c) $(stat -c %s mnt/after)" "0 $((96 << 20))"
  umount mnt
  e2fsck -fn "$dev" 2>&1
}

t_a_file_grows_with_its_device_and_a_mounted_XFS_too() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  script plain <<<'device { size = "320M", file = "disk.img" }'
  add_device plain
  mkfs.xfs -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  expect_status 0 ublk-script resize "$id" +320M
  expect_equal "bytes" "$(bytes_of) $(stat -c %s disk.img)" "$((640 << 20)) $((640 << 20))"
  xfs_growfs mnt
  # more than there was
  fallocate -l 400M mnt/after
  fill mnt/after 399M 4096 ab
  expect_equal "what is new" "$(bytes_in mnt/after 399M 4096)" ab
  umount mnt
  xfs_repair -n "$dev" 2>&1
}

# What is new can be used while IO goes on, rules and handlers know of it, and a reload keeps it.
t_a_disk_grows_under_load_and_its_faults_with_it() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  script faulty <<'LUA'
    device { size = "16M", queues = 2 }
    rule { op = "read", range = { "32M", "4K" }, error = "ENODATA" }
    rule { op = "read", range = { "48M", "1M" }, seen = 2, error = "ENOSPC" }
LUA
  add_device faulty
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=16 --size=16M \
    --time_based --runtime=60 --verify=crc32c --verify_fatal=1 >fio.out 2>&1 &
  local fio=$! megabytes
  wait_until 20 served 100
  for megabytes in 20 24 32 64; do ublk-script resize "$id" "${megabytes}M"; done
  expect_equal "bytes" "$(bytes_of)" $((64 << 20))
  expect_equal "a rule beyond the former end" "$(read_errno "$dev" 32M 4096)" ENODATA
  expect_equal "the first access" "$(read_errno "$dev" 48M 4096)" ok
  expect_equal "the second access" "$(read_errno "$dev" 48M 4096)" ENOSPC
  expect_equal "the last block" "$(read_errno "$dev" $(((64 << 20) - 4096)) 4096)" ok
  expect_status 0 ublk-script reload "$id"
  expect_equal "after a reload" "$(read_errno "$dev" 32M 4096)" ENODATA
  kill -INT $fio
  wait $fio || true # it says that it was interrupted
  grep -q 'err= 0' fio.out || fail "fio: $(<fio.out)"
  expect_status 0 ublk-script list "$id"
  expect_output "64M"
}

served() { # COUNT
  [ "$(counter read)" -gt "$1" ]
}

t_a_disk_shrinks_only_by_force_and_loses_nothing() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  plain_script
  add_device plain
  fill "$dev" 60M 4096 ab
  expect_status 1 ublk-script resize "$id" 32M
  expect_output "device $id has 64M" "--force does it"
  expect_equal "bytes" "$(bytes_of)" $((64 << 20))
  expect_status 0 ublk-script resize "$id" 32M --force
  expect_equal "bytes" "$(bytes_of)" $((32 << 20))
  expect_status 0 ublk-script resize "$id" 64M --json
  expect_json resize
  expect_output '"sizeBytes":67108864'
  expect_equal "what was behind the end" "$(bytes_in "$dev" 60M 4096)" ab
}

t_a_size_that_cannot_be_is_refused_and_changes_nothing() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  plain_script
  add_device plain logical_block_size=4K
  expect_status 1 ublk-script resize "$id" 66000000
  expect_output "a multiple of the logical block (4096 bytes) up to 1T"
  expect_status 1 ublk-script resize "$id" 2T
  expect_equal "bytes" "$(bytes_of)" $((64 << 20))
}

t_a_size_is_refused_where_the_driver_cannot_change_it() {
  ! driver_has UPDATE_SIZE || skip "the driver can do this"
  plain_script
  add_device plain
  expect_status 1 ublk-script resize "$id" 128M
  expect_output "UPDATE_SIZE, from 6.16"
  expect_equal "bytes" "$(bytes_of)" $((64 << 20))
}

# The server is told of nothing.
t_a_disk_that_another_program_made_larger_has_its_bytes_and_fails_behind_them() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  plain_script
  add_device plain
  fill "$dev" 60M 4096 ab
  ublk-script raw UPDATE_SIZE "$id" $(((128 << 20) / 512))
  expect_equal "bytes" "$(bytes_of)" $((128 << 20))
  expect_equal "behind the end" "$(read_errno "$dev" 64M 4096)" EIO
  expect_equal "what there was" "$(bytes_in "$dev" 60M 4096)" ab
  expect_equal "state" "$(state_of "$id")" LIVE
  expect_status 0 ublk-script resize "$id" 128M
  expect_equal "behind the former end" "$(read_errno "$dev" 64M 4096)" ok
}

# The record knows nothing of the new size when the server dies in the moment after UPDATE_SIZE.
t_a_disk_is_recovered_with_the_size_that_it_has() {
  driver_has UPDATE_SIZE || skip "the driver can do this from 6.16 on"
  script plain <<<'device { size = "16M", file = "disk.img", recovery = "wait" }'
  add_device plain
  cp "$state_directory/$id.json" before.json
  expect_status 0 ublk-script resize "$id" 32M
  fill "$dev" 24M 4096 ab
  kill -KILL "$server"
  cp before.json "$state_directory/$id.json"
  expect_status 0 ublk-script recover "$id"
  expect_output 32M
  expect_equal "bytes" "$(bytes_of)" $((32 << 20))
  expect_equal "what is new" "$(bytes_in "$dev" 24M 4096)" ab
}

run_cases "$@"
