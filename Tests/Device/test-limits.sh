#!/bin/bash
# time limit: 300
# The table of limits of docs/operating.md: what is at a limit works, with its data, and what is beyond is refused before
# anything is made. (A whole queue of 4096 held IOs: test-held.sh; memory of 64T, requests at depth 1 and 4096: test-ops.sh.)
#
# 16 queues need 16 CPUs: scripts/vm --cpus 16 -- bash Tests/Device/test-limits.sh 16_queues. DEVICE_TEST_LONG=1 makes 200
# devices at once, which takes minutes without KVM, otherwise there are 10.
. "$(dirname "$0")/lib.sh"

devices=10
[ "${DEVICE_TEST_LONG:-0}" != 1 ] || devices=200

pass_script() { script pass <<<'device { size = "64M" }'; }

# ---- size ----

t_a_device_of_one_sector_works() {
  pass_script
  add_device pass size=512
  expect_equal "size" "$(blockdev --getsize64 "$dev")" 512
  fill "$dev" 0 512 a5
  expect_equal "the sector" "$(bytes_in "$dev" 0 512)" a5
  expect_equal "a read beyond" "$(dd if="$dev" bs=512 skip=1 iflag=direct status=none | wc -c)" 0
  expect_equal "a write beyond" "$(write_errno "$dev" 512 512)" ENOSPC
}

t_a_device_of_1_EiB_works_to_its_last_sector() {
  local bytes=$((1 << 60))
  script large <<'LUA'
    device { backing = "null" }
    rule { op = "read", range = { (1 << 60) - 512, 512 }, error = "ENODATA" }
LUA
  add_device large size=$bytes
  expect_equal "size" "$(blockdev --getsize64 "$dev")" $bytes
  expect_equal "the last sector" "$(read_errno "$dev" $((bytes - 512)) 512)" ENODATA
  expect_equal "the one before" "$(read_errno "$dev" $((bytes - 1024)) 512)" ok
  expect_equal "a write there" "$(write_errno "$dev" $((bytes - 512)) 512)" ok
  expect_status 0 ublk-script ledger "$id"
  expect_output "$((bytes - 512))"
}

t_more_is_refused() {
  pass_script
  expect_status 1 ublk-script add pass.lua size=$(((1 << 60) + 512)) backing=null
  expect_output "size from 512 to 1048576T"
  expect_status 1 ublk-script add pass.lua size=256T
  expect_output "256 TiB cannot be mapped" "ask for less"
  no_leftovers
}

# ---- blocks and requests ----

t_512_bytes_are_a_request_with_logical_blocks_of_512_and_not_of_4096() {
  pass_script
  add_device pass
  expect_equal "a write" "$(write_errno "$dev" 512 512)" ok
  expect_equal "a read" "$(read_errno "$dev" 512 512)" ok
  ublk-script del "$id"
  add_device pass logical_block_size=4096
  expect_equal "logical block" "$(blockdev --getss "$dev")" 4096
  dd if="$dev" of=/dev/null bs=512 count=1 iflag=direct 2>answer && fail "512 bytes were read"
  grep -q "Invalid argument" answer || fail "$(<answer)"
  fill "$dev" 4096 4096 5a
  expect_equal "a block" "$(bytes_in "$dev" 4096 4096)" 5a
  expect_status 1 ublk-script add pass.lua logical_block_size=8192
  expect_output "logical_block_size=8192" "512 to 4K"
}

# Each length is a request or more, as the kernel has it; the longest that arrived is told.
t_reads_and_writes_of_512_bytes_to_32_MiB_have_their_data() {
  local bytes
  script longest <<'LUA'
    device { size = "64M", depth = 4, max_io = "32M" }
    local longest = 0
    function write(io, offset, length) longest = math.max(longest, length) end
    function ctl() return longest end
LUA
  add_device longest
  echo 32768 >"/sys/block/ublkb$id/queue/max_sectors_kb"
  head -c 32M /dev/urandom >data
  for ((bytes = 512; bytes <= 32 << 20; bytes *= 2)); do
    dd if=data of="$dev" bs=$bytes count=1 oflag=direct,seek_bytes seek=$((32 << 20)) conv=notrunc status=none
    dd if="$dev" bs=$bytes count=1 iflag=direct,skip_bytes skip=$((32 << 20)) status=none | cmp -n $bytes - data ||
      fail "$bytes bytes came back otherwise"
  done
  echo "the longest request had $(ublk-script ctl "$id" longest) bytes"
  expect_equal "the longest request" "$(ublk-script ctl "$id" longest)" $((32 << 20))
}

t_longer_requests_are_refused() {
  pass_script
  expect_status 1 ublk-script add pass.lua max_io=64M
  expect_output "max_io=64M" "4K to 32M"
  no_leftovers
}

# ---- queues and tags ----

verify() { # JOBS DEPTH
  fio --name=verify --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --numjobs="$1" \
    --cpus_allowed=0-$(($1 - 1)) --cpus_allowed_policy=split --iodepth=$(($2 / $1)) --iodepth_batch=64 \
    --size=$((16 / $1))M --offset_increment=$((16 / $1))M --verify=crc32c --group_reporting >fio.out 2>&1 || fail "$(<fio.out)"
}

t_a_queue_of_4096_tags_keeps_its_data() {
  pass_script
  add_device pass depth=4096 max_io=4K
  echo none >"/sys/block/ublkb$id/queue/scheduler"
  verify 1 4096
}

t_16_queues_keep_their_data() {
  local queue idle=0
  [ "$(nproc)" -ge 16 ] || skip "there are $(nproc) CPUs: the driver grants a queue a CPU"
  pass_script
  add_device pass queues=16 depth=16
  expect_equal "queues" "$(find "/sys/block/ublkb$id/mq" -mindepth 1 -maxdepth 1 | wc -l)" 16
  verify 16 256
  expect_equal "threads" "$(grep -l '^ublk-q' "/proc/$server"/task/*/comm | wc -l)" 16
}

t_more_queues_than_CPUs_are_refused_on_the_command_line() {
  pass_script
  expect_status 1 ublk-script add pass.lua queues=$(($(nproc) + 1))
  expect_output "queues"
  expect_status 1 ublk-script add pass.lua depth=4097
  expect_output "1 to 4096"
  no_leftovers
}

# ---- devices ----

add_every_4th() { # FROM
  local number
  for ((number = $1; number < devices; number += 4)); do
    ublk-script add pass.lua --quiet -n "$number"
    printf '%08d' "$number" | dd of="/dev/ublkb$number" bs=4k conv=sync oflag=direct status=none
  done
}

t_many_devices_at_once_have_each_its_own_data() {
  local number worker pids=()
  script pass <<<'device { size = "16M", depth = 8, max_io = "64K" }'
  for worker in 0 1 2 3; do add_every_4th $worker & pids+=($!); done
  for worker in "${pids[@]}"; do wait "$worker"; done
  expect_equal "devices" "$(ublk-script list | grep -c 'state LIVE')" $devices
  for ((number = 0; number < devices; number++)); do
    expect_equal "the number on device $number" "$(head -c 8 "/dev/ublkb$number")" "$(printf %08d $number)"
  done
  expect_equal "servers" "$(servers | wc -l)" $devices
  ublk-script del --all
  no_leftovers
}

run_cases "$@"
