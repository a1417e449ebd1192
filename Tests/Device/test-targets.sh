#!/bin/bash
# time limit: 240
# Scripts that send IOs elsewhere, look at data, change it, wait for timers: on the real ring, with real files.
. "$(dirname "$0")/lib.sh"

# Random writes and reads of all sizes; every block is read back and compared.
verify() { # [FIO-OPTION...]
  fio --name=verify --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bsrange=512-64k --bs_unaligned=0 \
    --blockalign=512 --iodepth=16 --size=8M --verify=crc32c --verify_backlog=64 --do_verify=1 --verify_fatal=1 "$@" >fio.out ||
    fail "fio found wrong bytes: $(tail -n 20 fio.out)"
}

mirror_script() {
  script mirror <<'LUA'
    local a, b = backing { file = "a.img", size = "16M" }, backing { file = "b.img", size = "16M" }
    device { backing = a, queues = 2 }
    local turn = 0
    local function both(io, offset) return to(offset, a) + to(offset, b) end
    write, discard, write_zeroes = both, both, both
    function read(io, offset) turn = turn + 1; return to(offset, turn % 2 == 0 and a or b) end
LUA
}

t_a_mirror_of_two_files_has_the_same_in_both() {
  mirror_script
  add_device mirror
  verify
  blkdiscard -z -o 0 -l 65536 "$dev"
  sync
  ublk-script del "$id"
  cmp a.img b.img
  expect_equal "what was zeroed" "$(bytes_in b.img 0 65536)" 00
}

t_parts_of_one_IO_are_in_several_files() {
  script stripe <<'LUA'
    local legs = {}
    for i = 0, 2 do legs[i] = backing { file = i .. ".img", size = "4M" } end
    device { size = "12M", backing = "memory", max_io = "128K", discard = false, write_zeroes = false }
    local chunk = 64 * KiB
    local function spread(io, offset, length)
      local verdict
      local at = 0
      while at < length do
        local place = offset + at
        local piece = math.min(chunk - place % chunk, length - at)
        local number = place // chunk
        local leg = to(number // 3 * chunk + place % chunk, legs[number % 3], at, piece)
        verdict = verdict and verdict + leg or leg
        at = at + piece
      end
      return verdict
    end
    read, write = spread, spread
LUA
  add_device stripe
  verify
  expect_equal "script errors" "$(counter script_errors)" 0
  local file
  for file in 0.img 1.img 2.img; do [ "$(bytes_in "$file" 0 65536 | wc -c)" -gt 100 ] || fail "$file was not used"; done
}

t_handlers_read_from_files_while_others_go_on() {
  script compare <<'LUA'
    device { file = "disk.img", size = "16M", queues = 2 }
    local own = backing()
    local same = counter("same")
    function write(io, offset, length)
      if own:read(offset, length) == io:data() then same:add() return drop() end
    end
    function ctl() return same:get() end
LUA
  add_device compare
  verify --size=4M
  fill "$dev" 0 65536 5a
  expect_equal "writes of what is there already" "$(ublk-script ctl "$id" same)" 0
  fill "$dev" 0 65536 5a
  expect_equal "writes of what is there already" "$(ublk-script ctl "$id" same)" 1
  expect_equal "script errors" "$(counter script_errors)" 0
  ublk-script del "$id"
}

t_changed_bits_reach_the_application_and_the_medium() {
  script flip <<'LUA'
    device { file = "disk.img", size = "1M" }
    function read(io, offset) if offset == 4096 then io:flip(7, 0) end end
    function write(io, offset) if offset == 8192 then io:patch(0, "rotten") end end
LUA
  add_device flip
  fill "$dev" 0 16384 00
  fill "$dev" 8192 4096 11
  expect_equal "a flipped bit" "$(bytes_in "$dev" 4096 4096)" 0001
  expect_equal "the medium below it" "$(bytes_in disk.img 4096 4096)" 00
  expect_equal "a patched write" "$(dd if="$dev" bs=4096 skip=2 count=1 iflag=direct status=none | head -c 6)" rotten
  expect_equal "corrupted" "$(counter corrupted)" 2
}

t_a_script_that_keeps_the_data_itself_is_a_disk() {
  script keeper <<'LUA'
    device { size = "1G", max_io = "64K", discard = false, write_zeroes = false }
    local blocks, zeroes = {}, ("\0"):rep(512)
    function write(io, offset, length)
      for at = 0, length - 512, 512 do blocks[offset + at] = io:data(at, 512) end
      return done()
    end
    function read(io, offset, length)
      local parts = {}
      for at = 0, length - 512, 512 do parts[#parts + 1] = blocks[offset + at] or zeroes end
      return done(table.concat(parts))
    end
LUA
  add_device keeper
  verify --size=2M
  expect_equal "script errors" "$(counter script_errors)" 0
}

t_timers_change_faults_while_the_device_runs() {
  script timed <<'LUA'
    device { size = "16M", queues = 2 }
    rule { op = "read", state = "bad", error = "EIO" }
    local ticks = counter("ticks")
    every("100ms", function() ticks:add() end)
    after("1s", function() state("bad") end)
    after("3s", function() state("good") end)
    function ctl() return ticks:get() end
LUA
  add_device timed
  wait_until 10 reads_as 0 EIO # it is bad
  wait_until 10 reads_as 0 ok  # and good again, 3 s after the start
  expect_between "ticks in 3 s and more" "$(ublk-script ctl "$id" ticks)" 20 600
}

# Eight transfers of each of 128 IOs: more than the ring has completions for.
t_more_transfers_at_once_than_the_ring_has_room_for_lose_nothing() {
  cp "$(dirname "$(readlink -f "$0")")/../../scripts/targets/stripe.lua" wide.lua
  add_device wide legs=8 chunk=4K path="$work/leg" size=64M depth=128
  fio --name=wide --filename="$dev" --direct=1 --ioengine=libaio --iodepth=128 --rw=randwrite --bs=32k --size=64M \
    --io_size=32M --verify=crc32c --verify_fatal=1 >fio.log 2>&1 || fail "$(tail -n 20 fio.log)"
  expect_equal "errors" "$(counter script_errors) $(counter backing_errors)" "0 0"
}

t_a_shipped_script_is_added_by_its_name() {
  expect_status 0 ublk-script add dust size=16M
  id=0 dev=/dev/ublkb0
  expect_output /dev/ublkb0
  expect_status 0 ublk-script faults dust
  ublk-script del 0
  expect_status 1 ublk-script add nonesuch
}

t_a_backing_that_is_too_small_leaves_nothing() {
  truncate -s 1M small.img
  script small <<'LUA'
    local a, b = backing { file = "new.img", size = "4M" }, backing { file = "small.img", size = "4M" }
    device { size = "4M", backing = a }
LUA
  expect_status 1 ublk-script add small.lua
  expect_output "small.img has 1048576 bytes"
  [ ! -e new.img ] || fail "new.img was left behind"
  no_leftovers
}

run_cases "$@"
