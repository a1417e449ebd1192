#!/bin/bash
# time limit: 120
# any kernel: the ledger is written by the server alone
# The ledger under load: filtered, beside a file that takes all of it, on a disk that is full.
. "$(dirname "$0")/lib.sh"

# Two rules that act on many reads.
two_faults() {
  script two <<'LUA'
    device { size = "16M", ledger_size = 1024 }
    rule { name = "slow", op = "read", every = 2, delay = "100us" }
    rule { name = "bad", op = "read", range = { "8M", "4K" }, error = "ENODATA" }
LUA
}

many_reads() { # COUNT
  fio --name=many --filename="$dev" --direct=1 --ioengine=libaio --rw=randread --bs=4k --iodepth=16 --number_ios="$1" \
    --io_size=1T --norandommap --continue_on_error=all >/dev/null 2>&1 || true
}

t_the_ledger_is_filtered_by_rule_op_action_range_and_time() {
  two_faults
  add_device two
  expect_equal "read" "$(read_errno "$dev" 0 4096)" ok
  expect_equal "read" "$(read_errno "$dev" 4096 4096)" ok
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENODATA
  expect_status 0 ublk-script ledger # the sole device
  expect_output "read 4096+4096  two.lua:2 slow: delay 100 us"
  expect_equal "lines" "$(wc -l <<<"$output")" 2
  expect_status 0 ublk-script ledger "$id" --rule bad
  expect_equal "lines" "$(wc -l <<<"$output")" 1
  expect_output 'two.lua:3 bad: fail("ENODATA")'
  expect_status 0 ublk-script ledger "$id" --action delay --op read --range 0+8K
  expect_equal "lines" "$(wc -l <<<"$output")" 1
  expect_status 0 ublk-script ledger "$id" --op write
  expect_equal "what is left" "$output" ""
  expect_status 0 ublk-script ledger "$id" --from 1h
  expect_equal "what is left" "$output" ""
  expect_status 1 ublk-script ledger "$id" --rule cap
  expect_output "no rule is called \"cap\"; there is slow, bad"
  expect_status 2 ublk-script ledger "$id" --action burn
  # times in the wrong order are no end of the server
  expect_status 2 ublk-script ledger "$id" --from 10s --until 5s
  ublk-script ctl "$id" mark late
  expect_status 0 ublk-script ledger "$id" --since late --until 0
  expect_equal "what is left" "$output" ""
  expect_equal "state" "$(state_of "$id")" LIVE
}

t_a_ledger_file_has_what_the_ring_had_no_room_for() {
  two_faults
  expect_status 0 ublk-script add two.lua --ledger faults.json
  id=0 dev=/dev/ublkb0
  many_reads 6000
  local delayed failed
  delayed=$(counter delayed) failed=$(counter failed)
  expect_status 0 ublk-script del 0
  expect_between "delayed" "$delayed" 2900 3100
  # what was lost all the same is told with its number
  local lost
  lost=$(sed -n 's/^{"action":"overwritten","count":\([0-9]*\),.*/\1/p' faults.json | awk '{ n += $1 } END { print n + 0 }')
  expect_equal "records" $(($(grep -c '"op":"read"' faults.json) + lost)) $((delayed + failed))
  expect_equal "the file's mode" "$(stat -c %a faults.json)" 600
  expect_status 1 ublk-script add two.lua --ledger faults.json
  expect_output "faults.json is not empty"
  no_leftovers
}

t_a_full_disk_under_the_ledger_file_is_told_and_stops_nothing() {
  two_faults
  mkdir small
  mount -t tmpfs -o size=16k small small
  expect_status 0 ublk-script add two.lua --ledger small/faults.json
  id=0 dev=/dev/ublkb0
  many_reads 1000
  wait_until 20 grep -q "faults.json: .*ENOSPC" /run/ublk-script/0.log
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENODATA
  mount -o remount,size=16m small
  wait_until 20 grep -q "faults.json: it is written again" /run/ublk-script/0.log
  local delayed failed
  delayed=$(counter delayed) failed=$(counter failed)
  expect_status 0 ublk-script del 0
  expect_equal "records" "$(grep -c '^{"t":.*}$' small/faults.json)" $((delayed + failed))
  umount small
}

run_cases "$@"
