#!/bin/bash
# time limit: 180
# any kernel: commands talk to the server, not to the driver
# Talking to devices that run: names, list, stats, ctl, the log, and the server in the foreground.
. "$(dirname "$0")/lib.sh"

talking_script() {
  script talking <<'LUA'
    device { size = "16M" }
    local bad = ranges("bad")
    rule { op = "read", range = bad, error = "ENODATA" }
    rule { op = "write", range = bad, heal = true }
    function ctl(word, ...)
      if word == "addbad" then bad:add(...) return "bad ranges: " .. #bad end
      if word == "say" then log(...) return end
      if word == "count" then return select("#", ...) end
      return word, ...
    end
LUA
}

t_ctl_changes_faults_while_the_device_runs() {
  talking_script
  add_device talking
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ok
  expect_status 0 ublk-script ctl "$id" addbad 8M 4K
  expect_equal answer "$output" "bad ranges: 1"
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENODATA
  expect_equal "read next to it" "$(read_errno "$dev" 8392704 4096)" ok
  expect_equal "write" "$(write_errno "$dev" 8388608 4096)" ok
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ok
}

t_ctl_passes_words_as_they_are() {
  talking_script
  add_device talking
  expect_status 0 ublk-script ctl "$id" one -- "two words" --option -x ""
  expect_equal answer "$output" $'one\ttwo words\t--option\t-x\t'
  expect_status 0 ublk-script ctl "$id" count "" "" ""
  expect_equal answer "$output" 3
  expect_status 0 ublk-script ctl "$id" count $'line\nline' 'ümläut'
  expect_equal answer "$output" 2
}

t_ctl_without_a_ctl_function_names_the_words_there_are() {
  script plain <<'LUA'
    device { size = "16M" }
LUA
  add_device plain
  expect_status 1 ublk-script ctl "$id" hello
  expect_output "no ctl function" release stats
}

t_built_in_words_change_faults_while_the_device_runs() {
  script words <<'LUA'
    device { size = "16M" }
    local bad = ranges("bad")
    rule { name = "bad", op = "read", range = bad, error = "ENODATA" }
    rule { op = "write", after = { mark = "go" }, nth = 1, error = "ENOSPC" }
LUA
  add_device words
  expect_status 0 ublk-script ctl "$id" ranges bad add 8M 4K
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENODATA
  expect_status 0 ublk-script ctl "$id" rule off bad
  expect_equal "read with the rule off" "$(read_errno "$dev" 8388608 4096)" ok
  expect_status 0 ublk-script ctl "$id" rule on bad
  expect_equal "read with the rule on" "$(read_errno "$dev" 8388608 4096)" ENODATA
  expect_status 0 ublk-script ctl "$id" ranges bad clear
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ok
  expect_equal "write before the mark" "$(write_errno "$dev" 0 4096)" ok
  expect_status 0 ublk-script ctl "$id" mark go
  expect_equal "write after the mark" "$(write_errno "$dev" 0 4096)" ENOSPC
  expect_equal "write after that" "$(write_errno "$dev" 0 4096)" ok
  expect_status 1 ublk-script ctl "$id" rule off worse
  expect_output worse bad
}

t_a_paused_device_answers_nothing_until_it_is_resumed() {
  talking_script
  add_device talking
  expect_status 0 ublk-script ctl "$id" pause
  read_errno "$dev" 0 4096 >answer &
  local reader=$!
  wait_until 10 holds 1
  expect_equal "IOs held, a question later" "$(counter held_now)" 1
  [ ! -s answer ]
  expect_status 0 ublk-script ctl "$id" resume
  wait $reader
  expect_equal "read" "$(<answer)" ok
}

t_the_ledger_tells_what_the_kernel_and_the_reader_saw() {
  script proven <<'LUA'
    device { size = "16M" }
    local bad = ranges("bad"):add("8M", "4K")
    rule { name = "bad", op = "read", range = bad, error = "ENODATA" }
    rule { op = "write", range = bad, heal = true }
    function discard() return fail("EOPNOTSUPP") end
LUA
  add_device proven
  ublk-script ledger "$id" --follow >followed &
  local follower=$!
  read_errno "$dev" 0 4096 >/dev/null
  wait_for_rate_limit
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENODATA
  expect_status 0 ublk-script ledger "$id"
  expect_output "read 8388608+4096  proven.lua:3 bad: fail(\"ENODATA\")"
  expect_equal "lines" "$(wc -l <<<"$output")" 1
  dmesg | tail -20 | has_line "critical medium error, dev ublkb$id, sector 16384" || fail "the kernel log has no such line"
  expect_status 1 ublk-script ledger "$id" --since healed
  expect_output healed
  expect_status 0 ublk-script ctl "$id" mark healed
  expect_equal "write" "$(write_errno "$dev" 8388608 4096)" ok
  discard_errno "$dev" 0 1048576 >/dev/null
  expect_status 0 ublk-script ledger "$id" --json --since healed
  expect_output '"action":"healed","line":4' '"errno":"EOPNOTSUPP"'
  ! grep -q ENODATA <<<"$output"
  expect_status 0 ublk-script ledger "$id"
  ublk-script del "$id"
  wait $follower
  expect_equal "what was followed" "$(<followed)" "$output"
}

t_a_ledger_that_overflows_says_how_much_is_lost() {
  script chatty <<'LUA'
    device { size = "16M" }
    rule { op = "read", delay = "1us" }
LUA
  add_device chatty
  fio --name=many --filename="$dev" --direct=1 --ioengine=libaio --rw=randread --bs=4k --iodepth=16 --number_ios=10000 \
    --io_size=1T --norandommap >/dev/null
  ublk-script ledger "$id" >records 2>lost
  expect_between "records" "$(wc -l <records)" 8000 8192
  grep -Eq "[0-9]+ records were overwritten" lost || fail "nothing is told of the lost ones: $(<lost)"
  expect_equal "all of them" $(($(wc -l <records) + $(grep -oE "[0-9]+ records" lost | grep -oE "[0-9]+"))) "$(counter delayed)"
}

t_a_device_can_be_named_in_four_ways() {
  talking_script
  add_device talking -n 5
  expect_equal dev "$dev" /dev/ublkb5
  local name
  for name in 5 /dev/ublkb5 /dev/ublkc5; do
    expect_status 0 ublk-script ctl "$name" hello
    expect_status 0 ublk-script list "$name"
    expect_output /dev/ublkb5
  done
  expect_status 0 ublk-script list -n 5
  expect_status 2 ublk-script del -n 5 6
  expect_status 0 ublk-script del -n 5
  no_leftovers
  add_device talking
  expect_status 0 ublk-script del "$dev"
  no_leftovers
}

t_stats_count_what_happened() {
  talking_script
  add_device talking partitions=false
  local reads writes
  reads=$(counter read)
  writes=$(counter write)
  read_errno "$dev" 0 4096
  write_errno "$dev" 0 4096
  write_errno "$dev" 4096 4096
  expect_equal reads $(($(counter read) - reads)) 1
  expect_equal writes $(($(counter write) - writes)) 2
  ublk-script ctl "$id" addbad 8M 4K
  read_errno "$dev" 8388608 4096
  read_errno "$dev" 8388608 4096
  expect_equal failed "$(counter failed)" 2
  expect_status 0 ublk-script ctl "$id" stats
  # a rule's name, line, whether it is on, and how often it acted
  expect_equal "what rules did" "$(awk '$3 == "on" { print $2, $4 }' <<<"$output")" $'3 2\n4 0'
}

t_list_and_add_tell_the_same_in_text_and_JSON() {
  talking_script
  local added listed
  added=$(ublk-script add talking.lua -n 2 -q 2 -d 16 max_io=64K logical_block_size=4096 seed=7 --file disk.img --json)
  listed=$(ublk-script list --json)
  expect_equal "list --json" "$listed" "[$added]"
  local pair
  for pair in path=/dev/ublkb2 id=2 state=LIVE queues=2 depth=16 maxIOBytes=65536 sizeBytes=16777216 \
    logicalBlockBytes=4096 seed=7 backing=file "script=$work/talking.lua" "file=$work/disk.img"; do
    expect_equal "${pair%%=*}" "$(json_value "${pair%%=*}" <<<"$added")" "${pair#*=}"
  done
  [ -d "/proc/$(json_value serverPID <<<"$added")" ] || fail "serverPID is no process"
  expect_status 0 ublk-script list
  expect_output "/dev/ublkb2: 16M state LIVE script" "$work/talking.lua" "queues 2 depth 16 block size 4096 max io 64K" \
    "backing file $work/disk.img seed 7"
}

t_add_prints_its_entry_and_nothing_with_quiet() {
  talking_script
  expect_status 0 ublk-script add talking.lua
  expect_output "/dev/ublkb0: 16M state LIVE"
  expect_status 0 ublk-script add talking.lua --quiet
  expect_equal output "$output" ""
  expect_status 0 ublk-script list
  expect_output /dev/ublkb0 /dev/ublkb1
  expect_status 0 ublk-script del -a
  no_leftovers
  expect_status 0 ublk-script list
  expect_equal output "$output" ""
  expect_status 0 ublk-script list --json
  expect_equal output "$output" "[]"
}

t_features_names_what_the_driver_offers() {
  expect_status 0 ublk-script features
  expect_output "ublk_drv features: 0x" CMD_IOCTL_ENCODE USER_COPY
  # what it says of kernels is true on this one
  local json name since has
  while read -r name since has _; do
    [ "$has" = yes ] || ! kernel_is_at_least "$since" || [ $name = INTEGRITY ] \
      || fail "$name is said to be in $since, and this kernel $(uname -r) has it not"
    [ "$has" = no ] || kernel_is_at_least "$since" || fail "$name is here, and said to come with $since"
  done < <(ublk-script features | sed 1,2d)
  json=$(ublk-script features --json)
  expect_equal bits $(($(json_value features <<<"$json") & 0x40)) 64
}

t_log_lines_are_in_the_log_file() {
  talking_script
  add_device talking
  ublk-script ctl "$id" say hello "two words" $'line\nline'
  wait_until 3 grep -q $'info hello\ttwo words\tline\\\\nline$' "$state_directory/$id.log"
  expect_equal "rights of the log" "$(stat -c %a "$state_directory/$id.log")" 600
  expect_equal "rights of the socket" "$(stat -c %a "$state_directory/$id.sock")" 600
  grep -q "device $id is live" "$state_directory/$id.log"
}

t_two_queues_share_named_ranges() {
  talking_script
  add_device talking -q 2
  ublk-script ctl "$id" addbad 8M 4K
  expect_equal "read on CPU 0" "$(taskset -c 0 bash -c ". '$library'; read_errno '$dev' 8388608 4096")" ENODATA
  expect_equal "read on CPU 1" "$(taskset -c 1 bash -c ". '$library'; read_errno '$dev' 8388608 4096")" ENODATA
  expect_equal "write on CPU 1" "$(taskset -c 1 bash -c ". '$library'; write_errno '$dev' 8388608 4096")" ok
  expect_equal "read on CPU 0" "$(taskset -c 0 bash -c ". '$library'; read_errno '$dev' 8388608 4096")" ok
}

t_two_queues_share_the_range_of_a_rule() {
  script plain <<'LUA'
    device { size = "16M", queues = 2 }
    rule { op = "read", range = { "8M", "4K" }, once = true, error = "ENODATA" }
LUA
  add_device plain
  expect_equal "read on CPU 0" "$(taskset -c 0 bash -c ". '$library'; read_errno '$dev' 8388608 4096")" ENODATA
  expect_equal "read on CPU 1" "$(taskset -c 1 bash -c ". '$library'; read_errno '$dev' 8388608 4096")" ok
}

library=$(dirname "$(readlink -f "$0")")/lib.sh

t_the_same_seed_gives_the_same_faults() {
  script chance <<'LUA'
    device { size = "16M", partitions = false }
    rule { op = "read", p = 0.5, error = "EIO" }
    function read() if random() < 0.5 then return fail("ENODATA") end end
LUA
  local run first=
  for run in 7 7 8; do
    add_device chance "seed=$run"
    local i got=
    for i in {0..19}; do got+="$(read_errno "$dev" $((i * 4096)) 4096) "; done
    ublk-script del "$id"
    case $run-$first in
      7-) first=$got ;;
      7-*) expect_equal "the second run" "$got" "$first" ;;
      8-*) [ "$got" != "$first" ] || fail "another seed gave the same" ;;
    esac
  done
  [[ $first == *EIO* && $first == *ENODATA* && $first == *ok* ]] || fail "no mixture: $first"
}

# Serves in this process, as in a terminal.
start_foreground() { # SCRIPT [OPTION...]
  setsid env --default-signal=INT ublk-script add --foreground "$@" >foreground.out 2>foreground.err &
  server=$!
  wait_until 10 grep -q LIVE foreground.out
}

t_in_the_foreground_Ctrl_C_deletes_the_device_and_the_log_is_on_stderr() {
  talking_script
  start_foreground talking.lua
  dev=/dev/ublkb0
  expect_status 0 ublk-script ctl 0 say "to the terminal"
  fill "$dev" 0 4096 42
  # to the process group, as a terminal does
  kill -INT -- "-$server"
  local status=0
  wait "$server" || status=$?
  expect_equal "exit status" $status 0
  no_leftovers
  grep "to the terminal" foreground.err
}

# As `2>&1 | head -1`: what is logged to nobody costs no device.
t_in_the_foreground_a_reader_that_hangs_up_costs_no_device() {
  talking_script
  mkfifo log
  head -n 1 <log >first &
  local reader=$! i
  ublk-script add --foreground talking.lua >foreground.out 2>log &
  server=$!
  wait_until 10 grep -q LIVE foreground.out
  wait $reader
  for i in 1 2 3; do expect_status 0 ublk-script ctl 0 say "to nobody"; done
  expect_equal "a read" "$(read_errno /dev/ublkb0 0 4096)" ok
  expect_equal "state" "$(state_of 0)" LIVE
  expect_status 0 ublk-script del 0
  wait "$server"
}

t_in_the_foreground_del_ends_it_too() {
  talking_script
  start_foreground talking.lua
  expect_status 0 ublk-script del 0
  wait "$server"
  no_leftovers
}

t_in_the_foreground_what_is_wrong_is_shown() {
  printf 'device { size = "16M" }\nrule { op = "read" }\n' >bad.lua
  expect_status 1 ublk-script add --foreground bad.lua
  expect_output bad.lua:2:
  no_leftovers
}

t_a_server_in_the_background_holds_nothing_of_its_caller() {
  talking_script
  add_device talking
  local link
  for link in /proc/"$server"/fd/*; do
    case $(readlink "$link") in
      "$work"* | pipe:*\ * | /dev/tty*) fail "the server holds $(readlink "$link")" ;;
    esac
  done
  expect_equal "its folder" "$(readlink "/proc/$server/cwd")" /
  expect_equal "its session" "$(awk '{ print $6 }' "/proc/$server/stat")" "$server"
  expect_equal "its standard files" "$(readlink "/proc/$server"/fd/{0,1,2} | sort -u)" /dev/null
}

t_more_queues_of_a_script_than_CPUs_are_as_many_as_CPUs() {
  script many <<'LUA'
    device { size = "16M", queues = 64 }
LUA
  add_device many
  expect_equal queues "$(find "/sys/block/ublkb$id/mq" -mindepth 1 -maxdepth 1 -type d | wc -l)" "$(nproc)"
  [ "$(nproc)" -ge 64 ] || grep -q "64 queues asked for, $(nproc) granted" "$state_directory/$id.log"
}

t_a_rule_acts_while_its_trigger_file_is_there() {
  script triggered <<LUA
    device { size = "16M" }
    rule { op = "read", trigger = "$work/now", error = "EIO" }
LUA
  add_device triggered
  expect_equal "without the file" "$(read_errno "$dev" 0 4096)" ok
  touch now
  wait_until 5 reads_as 0 EIO
  rm now
  wait_until 5 reads_as 0 ok
}

victim_script() {
  script victim <<'LUA'
    device { size = "256M" }
    local victim = ranges("victim")
    rule { op = "read", range = victim, error = "ENODATA" }
LUA
}

# Two files that lie between each other: one grows, then the other.
interleaved_files() { # FOLDER
  local i
  for i in {0..7}; do
    fill "$1/victim" $((i * 256 * 1024)) $((256 * 1024)) 11
    fill "$1/other" $((i * 256 * 1024)) $((256 * 1024)) 22
  done
  sync
}

# What map says is what the disk has there, byte for byte.
expect_extents_hold() { # FILE BYTE
  local offset length total=0
  while read -r offset length _; do
    expect_equal "the disk at $offset" "$(bytes_in "$dev" "$offset" "$length")" "$2"
    total=$((total + length))
  done < <(ublk-script map "$id" "$1")
  expect_equal "bytes of $1 that were found" $total $((2 * 1024 * 1024))
}

fault_hits_one_file() { # FOLDER
  interleaved_files "$1"
  expect_extents_hold "$1/victim" 11
  expect_extents_hold "$1/other" 22
  ublk-script map "$id" "$1/victim" --ranges victim
  expect_equal "reading the victim" "$(read_errno "$1/victim" $((1024 * 1024)) 4096)" ENODATA
  expect_equal "reading the other" "$(read_errno "$1/other" 0 $((2 * 1024 * 1024)))" ok
  local offset length
  # each record of the ledger is inside of an extent of the victim
  ublk-script ledger "$id" | sed -n 's/.*read \([0-9]*\)+.*/\1/p' >faults
  [ -s faults ]
  ublk-script map "$id" "$1/victim" >extents
  awk 'FILENAME == "extents" { from[NR] = $1; to[NR] = $1 + $2; n = NR; next }
    { hit = 0; for (i = 1; i <= n; i++) if ($1 >= from[i] && $1 < to[i]) hit = 1; if (!hit) { print $1; exit 1 } }' \
    extents faults || fail "a fault outside of the victim"
  ublk-script ctl "$id" ranges victim clear
  expect_equal "reading the victim then" "$(read_errno "$1/victim" 0 $((2 * 1024 * 1024)))" ok
}

t_a_fault_is_aimed_at_one_file() {
  victim_script
  add_device victim
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  fault_hits_one_file mnt
  umount mnt
}

t_a_fault_is_aimed_at_one_file_on_a_partition() {
  command -v sfdisk >/dev/null || skip "no sfdisk here"
  victim_script
  add_device victim
  echo "2048,,L" | sfdisk -q "$dev"
  wait_until 10 test -b "${dev}p1"
  mkfs.xfs -q "${dev}p1" 2>/dev/null || mkfs.ext4 -q "${dev}p1"
  mkdir mnt
  mount "${dev}p1" mnt
  fault_hits_one_file mnt
  umount mnt
}

t_several_files_parts_of_one_and_folders_are_mapped() {
  victim_script
  add_device victim
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  mkdir -p mnt/folder/deep
  fill mnt/folder/a 0 65536 11
  fill mnt/folder/deep/b 0 65536 22
  fill mnt/other 0 65536 33
  sync
  # the offset inside the file, and the file
  local offset length at file
  while read -r offset length at file; do
    expect_equal "$file at $at" "$(bytes_in "$dev" "$offset" "$length")" "$(bytes_in "$file" "$at" "$length")"
    echo "$file" >>mapped
  done < <(ublk-script map mnt/folder mnt/other) # the sole device
  expect_equal "files" "$(sort -u mapped | tr '\n' ' ')" "mnt/folder/a mnt/folder/deep/b mnt/other "
  read -r offset length at file < <(ublk-script map "$id" mnt/other --part 8K+4K)
  expect_equal "the part" "$length $at $file" "4096 8192 mnt/other"
  expect_status 0 ublk-script map "$id" mnt/other --json
  expect_output '[{"extents":[{"at":0,"length":65536,"offset":' '"file":"mnt/other"}]'
  expect_status 0 ublk-script map "$id" mnt/folder/a --ranges victim
  expect_output "65536 bytes"
  expect_status 0 ublk-script map "$id" mnt/folder/deep --ranges victim --add
  expect_output "131072 bytes"
  expect_status 0 ublk-script map "$id" mnt/other --ranges victim --part 0+4K --part 8K+4K
  expect_output "8192 bytes"
  expect_equal "the part" "$(read_errno mnt/other 8192 4096)" ENODATA
  expect_equal "beside it" "$(read_errno mnt/other 4096 4096)" ok
  expect_status 2 ublk-script map "$id" mnt/other mnt/folder/a --part 0+4K
  expect_status 2 ublk-script map "$id" mnt/other --add
  umount mnt
}

t_a_file_behind_a_mapping_is_told_what_maps_it() {
  victim_script
  add_device victim
  echo "0 262144 linear $dev 2048" | dmsetup create mapped || skip "no device mapper here"
  mkfs.ext4 -q /dev/mapper/mapped
  mkdir mnt
  mount /dev/mapper/mapped mnt
  fill mnt/file 0 65536 11
  expect_status 1 ublk-script map "$id" mnt/file
  expect_output "is on $dev, but not directly: its filesystem is on mapped, a device-mapper device, which has ublkb$id below it"
  umount mnt
  dmsetup remove mapped
}

t_a_file_that_is_not_on_the_device_cannot_be_aimed_at() {
  victim_script
  add_device victim
  expect_status 1 ublk-script map "$id" victim.lua
  expect_output "is not on $dev" "It is on a"
  expect_status 1 ublk-script map "$id" missing
  expect_output "missing: open failed"
}

t_several_add_at_once_get_different_numbers() {
  talking_script
  local i
  for i in 1 2 3 4; do ublk-script add talking.lua --json >"record.$i" & done
  for i in $(jobs -p); do wait "$i"; done
  expect_equal "numbers" "$(cat record.? | json_value id | sort | tr '\n' ' ')" "0 1 2 3 "
}

t_many_ctl_at_once_are_all_answered() {
  talking_script
  add_device talking
  local i
  for i in {1..16}; do ublk-script ctl "$id" word "$i" >"answer.$i" & done
  for i in $(jobs -p); do wait "$i"; done
  for i in {1..16}; do expect_equal "answer $i" "$(<"answer.$i")" $'word\t'"$i"; done
}

run_cases "$@"
