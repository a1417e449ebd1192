#!/bin/bash
# time limit: 240
# What each operation does to the backing, what verdicts do to operations, and the shape of the disk.
. "$(dirname "$0")/lib.sh"

pass_script() {
  script pass <<'LUA'
    device { size = "16M" }
LUA
}

# Counts flushes and writes with FUA.
counting_script() {
  script counting <<'LUA'
    device { size = "16M", cache = "volatile", fua = true }
    local flushes, fuas, writes, discards, zeroes = 0, 0, 0, 0, 0
    function flush() flushes = flushes + 1 end
    function write(io) writes = writes + 1; if io.fua then fuas = fuas + 1 end end
    function discard() discards = discards + 1 end
    function write_zeroes() zeroes = zeroes + 1 end
    function ctl(word)
      if word == "reset" then flushes, fuas, writes, discards, zeroes = 0, 0, 0, 0, 0 end
      return ("flushes %d fuas %d writes %d discards %d zeroes %d"):format(flushes, fuas, writes, discards, zeroes)
    end
LUA
}

# A count of the counting device; its number is in counting.
counted() { # WORD
  ublk-script ctl "$counting" count | tr ' ' '\n' | sed -n "/^$1\$/{n;p}"
}

t_fsync_arrives_as_a_flush_and_O_DSYNC_as_FUA() {
  counting_script
  add_device counting
  counting=$id
  ublk-script ctl "$id" reset
  expect_equal "fsync" "$(flush_errno "$dev")" ok
  expect_equal "flushes" "$(counted flushes)" 1
  dd if=/dev/zero of="$dev" bs=4K count=3 oflag=direct,dsync status=none
  expect_equal "writes with FUA" "$(counted fuas)" 3
}

t_a_flush_of_a_device_on_a_file_reaches_the_disk_below() {
  counting_script
  add_device counting
  counting=$id
  pass_script
  add_device pass --file "$dev"
  fill "$dev" 0 65536 33
  ublk-script ctl "$counting" reset
  expect_equal "fsync" "$(flush_errno "$dev")" ok
  expect_between "flushes below" "$(counted flushes)" 1 2
  expect_between "writes below" "$(counted writes)" 1 16
  ublk-script ctl "$counting" reset
  dd if=/dev/zero of="$dev" bs=4K count=3 oflag=direct,dsync status=none
  expect_between "flushes and FUAs below" $(($(counted flushes) + $(counted fuas))) 3 6
  ublk-script del "$id"
}

t_without_a_cache_each_write_to_a_file_is_durable() {
  counting_script
  add_device counting
  counting=$id
  pass_script
  add_device pass cache=none --file "$dev"
  expect_equal "cache of the disk" "$(<"/sys/block/ublkb$id/queue/write_cache")" "write through"
  ublk-script ctl "$counting" reset
  dd if=/dev/zero of="$dev" bs=4K count=3 oflag=direct status=none
  expect_between "flushes and FUAs below" $(($(counted flushes) + $(counted fuas))) 3 6
  ublk-script del "$id"
}

t_a_discard_makes_holes_in_the_file() {
  pass_script
  add_device pass --file disk.img
  fill "$dev" 0 8388608 44
  sync "$work/disk.img"
  expect_between "512-byte blocks of the file" "$(stat -c %b disk.img)" 16384 16500
  expect_equal "discard" "$(discard_errno "$dev" 1048576 4194304)" ok
  expect_between "512-byte blocks of the file" "$(stat -c %b disk.img)" 8192 8300
  expect_equal "before the hole" "$(bytes_in "$dev" 0 1048576)" 44
  expect_equal "in the hole" "$(bytes_in "$dev" 1048576 1048576)" 00
  expect_equal "after the hole" "$(bytes_in "$dev" 5242880 1048576)" 44
}

# One small buffer, so that the memory that changes is the device's.
t_a_discard_gives_memory_back() {
  pass_script
  add_device pass depth=1 max_io=64K
  fill "$dev" 0 8388608 44
  local before
  before=$(rss_kib)
  expect_equal "discard" "$(discard_errno "$dev" 0 8388608)" ok
  expect_between "KiB given back" $((before - $(rss_kib))) 7500 9000
  expect_equal "what was discarded" "$(bytes_in "$dev" 0 65536)" 00
}

rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }

t_write_zeroes_zeroes_what_it_names_in_memory() {
  pass_script
  add_device pass
  expect_zeroing "$dev"
}

t_write_zeroes_zeroes_what_it_names_in_a_file_that_has_no_zero_range() {
  pass_script
  add_device pass --file disk.img
  expect_zeroing
}

t_write_zeroes_zeroes_what_it_names_in_a_file_on_ext4() {
  pass_script
  truncate -s 64M ext4.img
  mkfs.ext4 -q ext4.img
  mkdir mnt
  mount -o loop ext4.img mnt
  add_device pass --file mnt/disk.img
  expect_zeroing
  ublk-script del "$id"
  umount mnt
}

# 512-byte steps: neither page nor block of the backing.
expect_zeroing() {
  fill "$dev" 0 1048576 55
  expect_equal "write_zeroes" "$(write_zeroes_errno "$dev" 4608 524288)" ok
  expect_equal "before" "$(bytes_in "$dev" 0 4608)" 55
  expect_equal "zeroed" "$(bytes_in "$dev" 4608 524288)" 00
  expect_equal "after" "$(bytes_in "$dev" 528896 1024)" 55
  expect_between "requests" "$(counter write_zeroes)" 1 8
  # with permission to make holes
  fill "$dev" 0 1048576 56
  fallocate -p -o 8192 -l 65536 "$dev"
  expect_equal "before the hole" "$(bytes_in "$dev" 0 8192)" 56
  expect_equal "the hole" "$(bytes_in "$dev" 8192 65536)" 00
  expect_equal "after the hole" "$(bytes_in "$dev" 73728 8192)" 56
  expect_equal "errors of the backing" "$(counter backing_errors)" 0
}

verdict_script() {
  script verdicts <<'LUA'
    device { size = "16M", partitions = false }
    rule { op = "write", range = { "1M", "1M" }, drop = true }
    rule { op = "write", range = { "2M", "1M" }, zero = true }
    rule { op = "read",  range = { "3M", "1M" }, zero = true }
    function write(io, offset)
      if offset == 4*MiB then return drop() end
      if offset == 5*MiB then return zero() end
      if offset == 7*MiB then return to("8M") end
    end
    function read(io, offset)
      if offset == 6*MiB then return zero() end
      if offset == 9*MiB then return to("8M") end
    end
LUA
}

expect_verdicts() {
  local mib
  for mib in 1 2 3 4 5 6 7; do fill "$dev" $((mib * 1048576)) 4096 $((mib + 60)); done
  expect_equal "a write dropped by rule" "$(bytes_in "$dev" 1048576 4096)" 00
  expect_equal "a write zeroed by rule" "$(bytes_in "$dev" 2097152 4096)" 00
  expect_equal "a read zeroed by rule" "$(bytes_in "$dev" 3145728 4096)" 00
  expect_equal "a write dropped by handler" "$(bytes_in "$dev" 4194304 4096)" 00
  expect_equal "a write zeroed by handler" "$(bytes_in "$dev" 5242880 4096)" 00
  expect_equal "a read zeroed by handler" "$(bytes_in "$dev" 6291456 4096)" 00
  expect_equal "where a redirected write was sent" "$(bytes_in "$dev" 7340032 4096)" 00
  expect_equal "where a redirected write arrived" "$(bytes_in "$dev" 8388608 4096)" 67
  expect_equal "a redirected read" "$(bytes_in "$dev" 9437184 4096)" 67
  expect_equal dropped "$(counter dropped)" 2
  expect_equal zeroed "$(counter zeroed)" 4
  expect_equal redirected "$(counter redirected)" 2
}

t_drop_and_zero_and_to_do_what_they_say_in_memory() {
  verdict_script
  add_device verdicts
  expect_verdicts
}

t_drop_and_zero_and_to_do_what_they_say_in_a_file() {
  verdict_script
  add_device verdicts --file disk.img
  expect_verdicts
  # the data that a zeroed read hid is there
  ublk-script del "$id"
  expect_equal "the file" "$(bytes_in disk.img 3145728 4096)" 63
}

# A dropped flush says yes and is none.
t_a_dropped_flush_never_reaches_the_disk_below() {
  counting_script
  add_device counting
  counting=$id
  script liar <<'LUA'
    device { size = "16M" }
    rule { op = "flush", drop = true }
LUA
  add_device liar --file "$dev"
  ublk-script ctl "$counting" reset
  expect_equal "fsync" "$(flush_errno "$dev")" ok
  expect_equal "flushes below" "$(counted flushes)" 0
  ublk-script del "$id"
}

t_a_loop_device_can_be_the_backing() {
  pass_script
  truncate -s 16M disk.img
  local loop
  loop=$(losetup -f --show "$work/disk.img")
  add_device pass --file "$loop"
  fill "$dev" 1048576 65536 88
  expect_equal "write_zeroes" "$(write_zeroes_errno "$dev" 1048576 4096)" ok
  expect_equal "discard" "$(discard_errno "$dev" 0 1048576)" ok
  expect_equal "fsync" "$(flush_errno "$dev")" ok
  ublk-script del "$id"
  losetup -d "$loop"
  expect_equal "zeroed" "$(bytes_in disk.img 1048576 4096)" 00
  expect_equal "written" "$(bytes_in disk.img 1052672 4096)" 88
}

t_an_error_of_the_disk_below_comes_through() {
  script below <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "4K" }, error = "ENODATA" }
LUA
  add_device below
  pass_script
  add_device pass --file "$dev"
  # through the page cache of the disk below, which knows EIO only
  expect_equal "read" "$(read_errno "$dev" 1048576 4096)" EIO
  expect_equal "read elsewhere" "$(read_errno "$dev" 0 4096)" ok
  expect_equal "errors of the backing" "$(counter backing_errors)" 1
  ublk-script del "$id"
}

t_the_null_backing_takes_everything_and_keeps_nothing() {
  pass_script
  add_device pass backing=null size=1T
  expect_equal "size" "$(blockdev --getsize64 "$dev")" 1099511627776
  expect_equal "write at the end" "$(write_errno "$dev" 1099511623680 4096)" ok
  expect_equal "read at the end" "$(read_errno "$dev" 1099511623680 4096)" ok
  expect_equal "discard" "$(discard_errno "$dev" 0 1073741824)" ok
}

t_a_sparse_memory_device_may_be_larger_than_memory() {
  pass_script
  add_device pass size=64T
  fill "$dev" 70368744112128 4096 99
  expect_equal "the last MiB but some" "$(bytes_in "$dev" 70368744112128 4096)" 99
  expect_equal "a hole" "$(bytes_in "$dev" 35184372088832 4096)" 00
}

t_a_read_only_device_refuses_writes() {
  pass_script
  add_device pass read_only=true
  expect_equal "read-only flag" "$(blockdev --getro "$dev")" 1
  expect_equal "read" "$(read_errno "$dev" 0 4096)" ok
  expect_equal "write" "$(write_errno "$dev" 0 4096)" EPERM
  expect_equal "writes that arrived" "$(counter write)" 0
}

queue() { cat "/sys/block/ublkb$id/queue/$1"; } # ATTRIBUTE

t_the_limits_of_the_disk_are_those_of_the_script() {
  script limits <<'LUA'
    device {
      size = "64M", logical_block_size = 4096, physical_block_size = "16K", io_min = "32K", io_opt = "128K",
      max_io = "256K", rotational = true, cache = "volatile", queues = 2, depth = 32,
      discard = { granularity = "32K", max = "1M" },
    }
LUA
  add_device limits
  expect_equal size "$(blockdev --getsize64 "$dev")" 67108864
  expect_equal logical_block_size "$(queue logical_block_size)" 4096
  expect_equal physical_block_size "$(queue physical_block_size)" 16384
  expect_equal io_min "$(queue minimum_io_size)" 32768
  expect_equal io_opt "$(queue optimal_io_size)" 131072
  expect_equal max_io "$(queue max_hw_sectors_kb)" 256
  expect_equal rotational "$(queue rotational)" 1
  expect_equal cache "$(queue write_cache)" "write back"
  expect_equal discard.granularity "$(queue discard_granularity)" 32768
  expect_equal discard.max "$(queue discard_max_hw_bytes)" 1048576
  expect_equal queues "$(find "/sys/block/ublkb$id/mq" -mindepth 1 -maxdepth 1 -type d | wc -l)" 2
  expect_equal depth "$(cat "/sys/block/ublkb$id/mq/0/nr_tags")" 32
  [ "$(read_errno "$dev" 512 512)" != ok ] || fail "half a block was read"
  mkfs.ext4 -q "$dev"
  e2fsck -fn "$dev"
}

t_an_IO_over_the_edge_of_a_chunk_comes_in_two() {
  script chunks <<'LUA'
    device { size = "16M", chunk_size = "64K" }
    rule { op = { "read", "write" }, log = true }
LUA
  add_device chunks
  expect_equal chunk "$(queue chunk_sectors)" 128
  expect_equal "write" "$(write_errno "$dev" 57344 16384)" ok
  expect_equal "read" "$(read_errno "$dev" 65536 65536)" ok
  expect_status 0 ublk-script ledger "$id"
  expect_output "write 57344+8192" "write 65536+8192" "read 65536+65536"
}

t_what_is_switched_off_is_not_offered() {
  pass_script
  add_device pass discard=false write_zeroes=false cache=none
  expect_equal discard "$(queue discard_max_bytes)" 0
  expect_equal write_zeroes "$(queue write_zeroes_max_bytes)" 0
  expect_equal cache "$(queue write_cache)" "write through"
  expect_equal rotational "$(queue rotational)" 0
  expect_equal "discard" "$(discard_errno "$dev" 0 65536)" EOPNOTSUPP
  fill "$dev" 0 65536 12
  # the kernel writes zeroes itself
  expect_equal "write_zeroes" "$(write_zeroes_errno "$dev" 0 65536)" ok
  expect_equal "zeroed" "$(bytes_in "$dev" 0 65536)" 00
}

load() { # DEPTH
  expect_status 0 fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --size=8M \
    --iodepth="$1" --verify=crc32c --verify_fatal=1 --verify_state_save=0
  expect_output "err= 0"
}

t_a_device_of_depth_1_works() {
  pass_script
  add_device pass depth=1
  load 32
}

t_a_device_of_depth_4096_works() {
  pass_script
  add_device pass depth=4096 max_io=64K
  load 1024
}

t_requests_of_32_MiB_work() {
  pass_script
  add_device pass size=64M max_io=32M depth=4 --file disk.img
  echo 32768 >"/sys/block/ublkb$id/queue/max_sectors_kb"
  fill "$dev" 0 33554432 21
  expect_equal "a piece of it" "$(bytes_in "$dev" 33488896 65536)" 21
}

# An MBR with one partition of 8 MiB at 1 MiB.
partition_table() { # FILE
  truncate -s 16M "$1"
  printf '\x00\x00\x00\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\x40\x00\x00' | dd of="$1" bs=1 seek=446 conv=notrunc status=none
  printf '\x55\xaa' | dd of="$1" bs=1 seek=510 conv=notrunc status=none
}

t_partitions_are_there_when_add_returns_and_faults_hold_for_them() {
  partition_table disk.img
  script bad <<'LUA'
    device { file = "disk.img" }
    rule { op = "read", range = { "2M", "4K" }, error = "ENODATA" }
LUA
  add_device bad
  [ -b "${dev}p1" ] || fail "${dev}p1 is not there"
  expect_equal size "$(blockdev --getsize64 "${dev}p1")" 8388608
  expect_equal "read in the partition" "$(read_errno "${dev}p1" 1048576 4096)" ENODATA
  expect_equal "read elsewhere in it" "$(read_errno "${dev}p1" 0 4096)" ok
  mkfs.ext4 -q -F "${dev}p1" 7M
}

t_partitions_are_not_looked_for_without_being_asked() {
  driver_has NO_AUTO_PART_SCAN || skip "this kernel's driver always scans"
  partition_table disk.img
  pass_script
  add_device pass partitions=false --file disk.img
  [ ! -e "${dev}p1" ] || fail "${dev}p1 is there"
}

# The scan of START_DEV meets a script that fails, holds and breaks everything.
t_faults_begin_when_add_has_returned() {
  script hostile <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { 0, "1M" }, hang = true }
    function read(io, offset) while true do end end
LUA
  add_device hostile
  expect_equal "script errors" "$(counter script_errors)" 0
  expect_equal "held" "$(counter held_now)" 0
}

run_cases "$@"
