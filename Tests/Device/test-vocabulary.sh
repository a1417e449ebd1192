#!/bin/bash
# time limit: 180
# any kernel: rules act on whatever a driver brings
# What rules know of the past, do to data on its way and to its time, and shipped disks: seen by fio, dd and cmp.
. "$(dirname "$0")/lib.sh"

t_what_fails_once_and_what_is_old() {
  script past <<'LUA'
    device { size = "16M", queues = 2 }
    rule { op = "read", range = { "1M", "1M" }, seen = 1, error = "EIO" }
    rule { op = "read", range = { "4M", "1M" }, age = "2s", error = "ENODATA" }
    rule { op = "write", nth = 2, run = 3, error = "ENOSPC" }
LUA
  add_device past
  expect_equal "first read" "$(read_errno "$dev" 1M 4096)" EIO
  expect_equal "second read" "$(read_errno "$dev" 1M 4096)" ok
  expect_equal "first read of the next" "$(read_errno "$dev" 1052672 4096)" EIO
  expect_equal "first write" "$(write_errno "$dev" 4M 4096)" ok
  expect_equal "young" "$(read_errno "$dev" 4M 4096)" ok
  local i
  for i in 2 3 4; do expect_equal "write $i" "$(write_errno "$dev" 0 4096)" ENOSPC; done
  expect_equal "write 5" "$(write_errno "$dev" 0 4096)" ok
  wait_until 10 reads_as 4M ENODATA # it is old now
  expect_equal "rewritten" "$(write_errno "$dev" 4M 4096)$(read_errno "$dev" 4M 4096)" okok
}

t_a_torn_write_leaves_pieces_in_memory_and_in_a_file() {
  script torn <<'LUA'
    device { size = "16M" }
    rule { op = "write", range = { "1M", "64K" }, verdict = store { keep = "random", units = 3 } }
    rule { op = "write", range = { "2M", "64K" }, verdict = corrupt("swab") }
LUA
  local where sector stored
  for where in "" "--file=torn.img"; do
    add_device torn $where
    fill "$dev" 1048576 4096 78
    stored=0
    for sector in 0 1 2 3 4 5 6 7; do
      case $(bytes_in "$dev" $((1048576 + sector * 512)) 512) in 78) stored=$((stored + 1)) ;; 00) ;; *) fail "half a sector" ;; esac
    done
    expect_equal "sectors stored, $where" "$stored" 3
    printf 'ab%.0s' {1..2048} | dd of="$dev" bs=4K count=1 seek=2M oflag=direct,seek_bytes iflag=fullblock status=none
    dd if="$dev" bs=4K count=1 skip=2M iflag=direct,skip_bytes status=none of=swapped
    expect_equal "swapped" "$(<swapped)" "$(printf 'ba%.0s' {1..2048})"
    ublk-script del "$id"
  done
}

# The lower disk tells how much of it was durable.
t_FUA_is_ignored() {
  script below <<'LUA'
    device { size = "16M", cache = "volatile" }
    local fuas, flushes = counter("fuas"), counter("flushes")
    function write(io) if io.fua then fuas:add() end end
    function flush() flushes:add() end
    function ctl() local all = fuas:get() + flushes:get() fuas:set(0) flushes:set(0) return all end
LUA
  script lying <<'LUA'
    device { size = "16M" }
    rule { op = "flush", drop = true } -- of O_DSYNC, beside FUA
    rule { name = "lie", op = "write", flags = "fua", ignore_fua = true }
LUA
  add_device below
  local below=$id
  add_device lying --file "$dev"
  ublk-script ctl "$below" reset
  dd if=/dev/zero of="$dev" bs=4K count=3 oflag=direct,dsync status=none
  expect_equal "durable below" "$(ublk-script ctl "$below" reset)" 0
  ublk-script ctl "$id" rule off lie
  dd if=/dev/zero of="$dev" bs=4K count=3 oflag=direct,dsync status=none
  expect_between "durable below without the rule" "$(ublk-script ctl "$below" reset)" 3 6
  ublk-script del "$id"
}

t_an_arm_makes_random_reads_slow_and_sequential_ones_not() {
  script empty <<'LUA'
    device { size = "16M" }
LUA
  expect_status 0 ublk-script add spinning size=1G bandwidth=4G
  id=${output#/dev/ublkb} id=${id%%:*} dev=/dev/ublkb$id
  local kind
  for kind in read randread; do
    fio --name=$kind --filename="$dev" --direct=1 --rw=$kind --bs=4k --number_ios=150 --size=1G --minimal >"$kind.out"
    # medians: a machine that stands still for a moment is in the mean
    grep -o '50.000000%=[0-9]*' "$kind.out" | sed -n '1s/.*=//p' >"$kind.us"
  done
  expect_between "us of a random read" "$(<randread.us)" 8000 30000
  expect_between "us of a sequential read" "$(<read.us)" 1 4000
}

t_verify_finds_what_was_changed_below() {
  expect_status 0 ublk-script add verify file=disk.img size=16M
  id=${output#/dev/ublkb} id=${id%%:*} dev=/dev/ublkb$id
  fill "$dev" 0 65536 44
  expect_equal "read" "$(read_errno "$dev" 8192 4096)" ok
  printf x | dd of=disk.img bs=1 seek=9000 conv=notrunc status=none
  expect_equal "changed" "$(read_errno "$dev" 8192 4096)" EILSEQ
  expect_equal "its neighbour" "$(read_errno "$dev" 12288 4096)" ok
  expect_equal alarms "$(ublk-script ctl "$id" alarms)" 1
  expect_equal "rewritten" "$(write_errno "$dev" 8192 4096)$(read_errno "$dev" 8192 4096)" okok
}

t_protect_lets_pass_what_changes_nothing() {
  head -c 16M /dev/zero | tr '\0' x >golden.img
  expect_status 0 ublk-script add protect size=16M len=0 file=golden.img
  id=${output#/dev/ublkb} id=${id%%:*} dev=/dev/ublkb$id
  fill "$dev" 65536 65536 78
  expect_equal "another byte" "$(write_errno "$dev" 4096 4096)" EREMOTEIO
  expect_equal refused "$(ublk-script ctl "$id" refused)" 1
}

t_writes_to_a_full_pool_wait_for_a_discard() {
  expect_status 0 ublk-script add thin-queue pool=1M size=16M
  id=${output#/dev/ublkb} id=${id%%:*} dev=/dev/ublkb$id
  dd if=/dev/zero of="$dev" bs=64K count=16 oflag=direct status=none
  write_errno "$dev" 8M 4096 >late &
  expect_status 0 ublk-script wait "$id" held --timeout 20s
  expect_equal "another place of it" "$(write_errno "$dev" 4096 4096)" ok
  blkdiscard -o 0 -l 65536 "$dev"
  wait $!
  expect_equal "the write" "$(<late)" ok
  expect_equal "the status" "$(ublk-script ctl "$id" status)" "16 of 16 chunks of 65536 bytes are in use"
}

run_cases "$@"
