#!/bin/bash
# time limit: 180
# any kernel: what a fault is to an application is compared, with the fault tools of the same kernel
# The kernel's own fault tools and scripts that do the same: the application gets the same from both.
#
# A case makes a device of the tool (theirs) and one of ours with the same data, does the same IO on both, and
# compares errnos, data and times. Devices of others are not touched: what belongs to somebody is a skip.
. "$(dirname "$0")/lib.sh"

peer=ublk-script-peer # the name of the tool's device
null_block=/sys/kernel/config/nullb/$peer
scsi_debug=/sys/bus/pseudo/drivers/scsi_debug
megabyte=1048576
size=$((4 * megabyte))
tool='' theirs='' unload=''

# ---- the tool's device ----

# lib.sh calls this at the end of each case.
tidy_case() {
  local loop status=0
  [ ! -e "/dev/mapper/$peer" ] || dmsetup remove --retry "$peer" || status=1
  for loop in $(losetup -n -O NAME -j "$work/theirs.img" 2>/dev/null); do losetup -d "$loop" || status=1; done
  if [ -d "$null_block" ]; then
    echo 0 >"$null_block/power"
    rmdir "$null_block" || status=1
  fi
  [ -z "$unload" ] || unload_module "$unload" || status=1
  unload=
  return $status
}

# Somebody who looks at every new disk may have it open for a moment.
unload_module() { # MODULE
  local i
  for i in {1..50}; do
    ! rmmod "$1" 2>/dev/null || return 0
    sleep 0.2
  done
  rmmod "$1"
}

# Sets tool, for messages.
need_tool() { # NAME MODULE
  tool=$1
  modprobe "$2" 2>/dev/null || skip "this kernel has no $tool"
}

# A device-mapper device over a file, and another file with the same bytes for ours; LOOP in the table, which comes
# from stdin, stands for the device that the file is.
add_mapped() { # TOOL MODULE
  local loop
  command -v dmsetup >/dev/null || skip "dmsetup is not installed"
  need_tool "$1" "$2"
  head -c $size /dev/urandom >data
  cp data theirs.img
  cp data ours.img
  loop=$(losetup -f --show "$work/theirs.img")
  sed "s#LOOP#$loop#g" | dmsetup create "$peer"
  theirs=/dev/mapper/$peer
}

# dm-flakey that is up and down for so many seconds in turn.
add_flakey() { # UP DOWN
  add_mapped dm-flakey dm_flakey <<<"0 $((size / 512)) flakey LOOP 0 $1 $2"
}

# From here on dm-flakey is down in the way of these words, and our device is in this state.
go_down() { # STATE [WORD...]
  local state=$1 table
  shift
  table=$(dmsetup table "$peer")
  # START LENGTH flakey DEVICE OFFSET UP DOWN COUNT WORD...
  dmsetup reload "$peer" --table "$(cut -d ' ' -f 1-5 <<<"$table") 0 60 $# $*"
  dmsetup resume "$peer"
  ublk-script ctl "$id" state "$state"
}

# Our device for the script same.lua, over its file.
add_ours() { add_device same --file "$work/ours.img" cache=volatile; }

# ---- the application ----

# Runs a function with each device before its arguments; both have to print this.
expect_both() { # WANTED FUNCTION [ARGUMENT...]
  local wanted=$1 command=$2
  shift 2
  expect_equal "$tool, $command${*:+ $*}" "$("$command" "$theirs" "$@")" "$wanted"
  expect_equal "ublk-script, $command${*:+ $*}" "$("$command" "$dev" "$@")" "$wanted"
}

# As expect_both, for what is not known beforehand.
expect_same() { # FUNCTION [ARGUMENT...]
  local command=$1
  shift
  expect_equal "ublk-script, $command $*, as with $tool" "$("$command" "$dev" "$@")" "$("$command" "$theirs" "$@")"
}

on_both() { # FUNCTION [ARGUMENT...]
  local command=$1
  shift
  "$command" "$theirs" "$@"
  "$command" "$dev" "$@"
}

# After the devices are gone both files hold the same.
expect_same_medium() {
  tidy_case
  ublk-script del "$id"
  cmp theirs.img ours.img || fail "$tool and ublk-script have left different bytes on the medium"
}

checksum_of() { # DEVICE OFFSET LENGTH
  dd if="$1" bs="$3" count=1 skip="$2" iflag=direct,skip_bytes status=none | sha256sum
}

# The part of the files' first data that checksum_of prints.
checksum_of_data() { # OFFSET LENGTH
  tail -c +$(($1 + 1)) data | head -c "$2" | sha256sum
}

# As hex.
byte_at() { # DEVICE OFFSET
  dd if="$1" bs=4096 count=1 skip=$(($2 / 4096)) iflag=direct status=none | od -An -tx1 -j $(($2 % 4096)) -N 1 |
    tr -d ' '
}

# How a device that is asked all the time answers: "ERRNO MILLISECONDS", a line for each time that it stays the same.
# The first and the last, which have begun earlier and end later, are left out.
phases_of() { # DEVICE SECONDS
  local end=$(($(now_ms) + $2 * 1000)) answer last='' begun='' now=0
  while [ $now -lt $end ]; do
    answer=$(read_errno "$1" 0 4096)
    now=$(now_ms)
    [ "$answer" != "$last" ] || continue
    [ -z "$begun" ] || echo "$last $((now - begun))"
    [ -z "$last" ] || begun=$now
    last=$answer
  done
}

# How long one IO takes, in ms, by dd's own clock.
time_of() { # DEVICE read|write|flush
  case $2 in
    read) dd if="$1" of=/dev/null bs=4096 count=1 iflag=direct ;;
    write) dd if=/dev/zero of="$1" bs=4096 count=1 oflag=direct conv=notrunc ;;
    flush) dd if=/dev/null of="$1" conv=fsync,notrunc ;;
  esac 2>&1 | awk -F 'copied, ' 'NF == 2 { print int($2 * 1000) }'
}

# A busy machine makes an IO late, so there are a few tries. dm-delay counts in ticks, and may be one too early; more
# after a standstill, when the clock makes up for ticks that are in its deadline. Ours is never early.
expect_both_take() { # MILLISECONDS KIND
  local device took i tick=4
  for device in "$theirs" "$dev"; do
    for i in {1..6}; do
      took=$(time_of "$device" "$2")
      ((took > $1 + 25 || (tick > 0 && took < $1 - tick))) || break
    done
    expect_between "ms of a $2 on $device" "$took" $(($1 - tick)) $(($1 + 25))
    tick=0
  done
}

# How long 32 reads take, 16 at a time, in ms.
time_of_reads_side_by_side() { # DEVICE
  fio --name=reads --filename="$1" --direct=1 --ioengine=libaio --rw=randread --bs=4k --size=$size --iodepth=16 \
    --number_ios=32 --output-format=json |
    awk '/"read"/ { inside = 1 } inside && $1 == "\"runtime\"" { print int($3); exit }'
}

# ---- dm-flakey ----

t_dm_flakey_that_is_2_s_up_and_1_s_down_is_a_rule_with_a_window() {
  add_flakey 2 1
  script same <<'LUA'
    rule { window = { from = "2s", period = "3s" }, error = "EIO" }
LUA
  add_ours
  phases_of "$theirs" 7 >theirs.phases &
  phases_of "$dev" 7 >ours.phases
  wait $!
  head theirs.phases ours.phases
  local who answer time
  for who in theirs ours; do
    expect_between "phases, $who" "$(wc -l <$who.phases)" 3 4
    while read -r answer time; do
      case $answer in
        ok) expect_between "ms up, $who" "$time" 1400 2600 ;;
        EIO) expect_between "ms down, $who" "$time" 400 1600 ;;
        *) fail "$who answers $answer" ;;
      esac
    done <$who.phases
  done
}

t_dm_flakey_that_is_down_fails_or_drops_what_a_rule_names() {
  add_flakey 60 0
  script same <<'LUA'
    local changes = { "write", "flush", "discard", "write_zeroes" }
    rule { state = "down", error = "EIO" }
    rule { state = "error_reads", op = "read", error = "EIO" }
    rule { state = "error_writes", op = changes, error = "EIO" }
    rule { state = "drop_writes", op = changes, drop = true }
LUA
  add_ours
  expect_both ok write_errno 0 4096
  go_down down
  expect_both EIO read_errno 4096 4096
  expect_both EIO write_errno 4096 4096
  expect_both EIO flush_errno
  expect_both EIO discard_errno 8192 4096
  go_down error_reads error_reads
  expect_both EIO read_errno 4096 4096
  expect_both ok write_errno 8192 4096
  expect_both ok flush_errno
  go_down error_writes error_writes
  expect_both EIO write_errno 12288 4096
  expect_both EIO flush_errno
  expect_both EIO discard_errno 16384 4096
  expect_both "$(checksum_of_data 12288 65536)" checksum_of 12288 65536
  go_down drop_writes drop_writes
  expect_both ok write_errno 12288 4096
  expect_both ok flush_errno
  expect_both ok discard_errno 16384 4096
  expect_both ok write_zeroes_errno 32768 4096
  expect_both "$(checksum_of_data 12288 65536)" checksum_of 12288 65536
  expect_same_medium
}

t_dm_flakey_corrupt_bio_byte_is_a_verdict_that_sets_a_byte() {
  add_flakey 60 0
  script same <<'LUA'
    rule { state = "reads", op = "read", verdict = corrupt { mode = "set", value = 1, at = 31, len = 1 } }
    rule { state = "writes", op = "write", verdict = corrupt { mode = "set", value = 254, at = 223, len = 1 } }
LUA
  add_ours
  on_both fill 8192 4096 ab
  go_down reads corrupt_bio_byte 32 r 1 0
  expect_both ab byte_at $((8192 + 30))
  expect_both 01 byte_at $((8192 + 31))
  # one byte of each IO, however long it is
  expect_same checksum_of 8192 4096
  expect_same checksum_of 65536 65536
  go_down writes corrupt_bio_byte 224 w 254 0
  on_both fill 8192 4096 ab
  on_both fill 65536 65536 cd
  expect_both ab byte_at $((8192 + 31))
  expect_both fe byte_at $((8192 + 223))
  expect_same checksum_of 65536 65536
  expect_both "$(checksum_of_data 16384 4096)" checksum_of 16384 4096
  expect_same_medium
}

# ---- dm-delay ----

t_dm_delay_of_reads_writes_and_flushes_is_three_rules() {
  add_mapped dm-delay dm_delay <<<"0 $((size / 512)) delay LOOP 0 60 LOOP 0 90 LOOP 0 150"
  script same <<'LUA'
    rule { op = "read", delay = "60ms" }
    rule { op = "write", delay = "90ms" }
    rule { op = "flush", delay = "150ms" }
LUA
  add_ours
  expect_both_take 60 read
  expect_both_take 90 write
  expect_both_take 150 flush
  # 2 times 60 ms side by side, 32 times one after the other
  expect_between "ms of 32 reads, $tool" "$(time_of_reads_side_by_side "$theirs")" 112 900
  expect_between "ms of 32 reads, ublk-script" "$(time_of_reads_side_by_side "$dev")" 119 900
}

# ---- dm-error, dm-dust ----

t_a_dm_error_segment_is_a_rule_with_a_range() {
  add_mapped dm-error dm_mod <<TABLE
0 2048 linear LOOP 0
2048 8 error
2056 $((size / 512 - 2056)) linear LOOP 2056
TABLE
  script same <<'LUA'
    rule { range = { "1M", "4K" }, error = "EIO" }
LUA
  add_ours
  expect_both ok read_errno $((megabyte - 4096)) 4096
  expect_both EIO read_errno $((megabyte - 4096)) 8192
  expect_both EIO read_errno $megabyte 4096
  expect_both EIO read_errno $((megabyte + 3584)) 512
  expect_both ok read_errno $((megabyte + 4096)) 4096
  expect_both ok write_errno $((megabyte - 512)) 512
  expect_both EIO write_errno $megabyte 4096
  expect_both ok write_errno $((megabyte + 4096)) 512
  expect_both EIO discard_errno $megabyte 4096
  expect_both EIO write_zeroes_errno $megabyte 4096
  expect_both ok flush_errno
  expect_same_medium
}

# No Debian kernel has this module.
t_a_bad_block_of_dm_dust_is_a_range_that_heals() {
  add_mapped dm-dust dm_dust <<<"0 $((size / 512)) dust LOOP 0 4096"
  dmsetup message "$peer" 0 addbadblock $((megabyte / 4096))
  dmsetup message "$peer" 0 enable
  script same <<'LUA'
    local bad = ranges("bad"):add("1M", "4K")
    rule { op = "read", range = bad, error = "EIO" }
    rule { op = "write", range = bad, heal = true }
LUA
  add_ours
  expect_both ok read_errno $((megabyte - 4096)) 4096
  expect_both EIO read_errno $megabyte 4096
  expect_both ok read_errno $((megabyte + 4096)) 4096
  expect_both ok write_errno $megabyte 4096
  expect_both ok read_errno $megabyte 4096
  expect_same_medium
}

# ---- null_blk ----

# A null_blk device and one of ours, both of memory, with a piece of data.
add_null_block() { # [SETTING...]
  local setting
  tool=null_blk
  if [ ! -d /sys/module/null_blk ]; then
    modprobe null_blk nr_devices=0 2>/dev/null || skip "this kernel has no null_blk"
    unload=null_blk
  fi
  [ -d "${null_block%/*}" ] || skip "configfs is not mounted here"
  mkdir "$null_block"
  for setting in size=$((size / megabyte)) memory_backed=1 discard=1 "$@" power=1; do
    [ -e "$null_block/${setting%=*}" ] || skip "this kernel's null_blk has no ${setting%=*}"
    echo "${setting#*=}" >"$null_block/${setting%=*}"
  done
  theirs=/dev/$peer
  add_device same size=$size
  on_both fill 0 65536 ab
}

# The same for null_blk and for the ranges called bad; the last sector is included.
bad_sectors() { # add|remove FIRST LAST
  case $1 in
    add) echo "+$2-$3" >"$null_block/badblocks" ;;
    remove) echo "-$2-$3" >"$null_block/badblocks" ;;
  esac
  ublk-script ctl "$id" ranges bad "$1" $(($2 * 512)) $((($3 - $2 + 1) * 512))
}

t_badblocks_of_null_blk_are_a_rule_with_ranges() {
  script same <<'LUA'
    rule { range = ranges("bad"), error = "EIO" }
LUA
  add_null_block
  bad_sectors add 9 9
  bad_sectors add 64 71
  expect_both EIO read_errno 4096 4096
  expect_both ok read_errno 4096 512
  expect_both EIO read_errno 4608 512
  expect_both ok read_errno 5120 512
  expect_both EIO read_errno 34816 1024
  expect_both EIO write_errno 4096 4096
  expect_both ok write_errno 4096 512
  expect_both EIO write_errno 32768 512
  expect_both EIO write_zeroes_errno 32768 4096
  expect_both EIO discard_errno 32768 4096
  bad_sectors remove 9 9
  bad_sectors remove 64 71
  expect_both ok read_errno 4608 512
  expect_both 00ab bytes_in 4096 4096
  expect_same checksum_of 0 65536
}

# null_blk forgets all of a bad range, we what the IO touched: here that is the same.
t_badblocks_once_of_null_blk_is_a_rule_with_once() {
  script same <<'LUA'
    rule { range = ranges("bad"), error = "EIO", once = true }
LUA
  add_null_block badblocks_once=1
  bad_sectors add 8 15
  bad_sectors add 64 71
  expect_both EIO read_errno 4096 4096
  expect_both ok read_errno 4096 4096
  expect_both EIO write_errno 32768 4096
  expect_both ab bytes_in 32768 4096
  expect_both ok write_errno 32768 4096
  expect_same checksum_of 0 65536
}

t_badblocks_partial_io_of_null_blk_is_a_verdict_that_stores_a_prefix() {
  script same <<'LUA'
    local bad = ranges("bad")
    rule { op = "read", range = bad, error = "EIO" }
    function write(io, offset, length)
      if not bad:has(offset, length) then return end
      local good = 0
      while not bad:has(offset + good * 512, 512) do good = good + 1 end
      if good == 0 then return fail("EIO") end
      return fail("EIO") + store { keep = "prefix", units = good }
    end
LUA
  add_null_block badblocks_partial_io=1
  bad_sectors add 12 12
  bad_sectors add 64 64
  expect_both EIO read_errno 4096 4096
  expect_both EIO write_errno 4096 4096
  expect_both EIO write_errno 32768 4096
  bad_sectors remove 12 12
  bad_sectors remove 64 64
  expect_both 00 bytes_in 4096 2048
  expect_both ab bytes_in 6144 2048
  expect_both ab bytes_in 32768 4096
}

# ---- scsi_debug ----

# One disk for all of scsi_debug, so it must be ours alone.
add_scsi_debug() { # [PARAMETER...]
  tool=scsi_debug
  [ ! -d /sys/module/scsi_debug ] || skip "scsi_debug is in use here"
  modprobe scsi_debug dev_size_mb=8 "$@" 2>/dev/null || skip "this kernel has no scsi_debug"
  unload=scsi_debug
  wait_until 10 find_scsi_disk
}

# Sets theirs.
find_scsi_disk() {
  theirs=$(echo "$scsi_debug"/adapter*/host*/target*/*/block/*)
  theirs=/dev/${theirs##*/}
  [ -b "$theirs" ]
}

t_medium_errors_of_scsi_debug_are_a_rule_with_ENODATA() {
  add_scsi_debug opts=2 medium_error_start=0x1234 medium_error_count=10
  script same <<'LUA'
    device { size = "8M", discard = false }
    rule { op = "read", range = { 0x1234 * 512, 10 * 512 }, error = "ENODATA" }
LUA
  add_device same
  local first=$((0x1234 * 512))
  on_both fill $((first - 65536)) 131072 ab
  expect_both ok read_errno $((first - 4096)) 4096
  expect_both ENODATA read_errno $((first - 512)) 1024
  expect_both ENODATA read_errno $first 512
  expect_both ENODATA read_errno $((first + 9 * 512)) 4096
  expect_both ok read_errno $((first + 10 * 512)) 4096
  # rewriting does not help
  expect_both ok write_errno $((first + 512)) 512
  expect_both ENODATA read_errno $((first + 512)) 512
  expect_both EOPNOTSUPP discard_errno $first 4096
  expect_both ok flush_errno
  # what was written is there when the errors have gone
  echo 0 >"$scsi_debug/opts"
  ublk-script ctl "$id" rule off all
  expect_both 00 bytes_in $((first + 512)) 512
  expect_same checksum_of $((first - 65536)) 131072
}

run_cases "$@"
