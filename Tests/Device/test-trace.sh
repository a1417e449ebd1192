#!/bin/bash
# time limit: 150
# The trace of requests on their way through the protocol, live.
. "$(dirname "$0")/lib.sh"

two_faults() {
  script two <<'LUA'
    device { size = "16M" }
    rule { name = "slow", op = "read", range = { "4M", "4K" }, delay = "50ms" }
    rule { name = "bad", op = "read", range = { "8M", "4K" }, error = "ENODATA" }
LUA
}

# Follows the device into the file `steps`, as JSON; sets tracer.
follow() { # [OPTION...]
  ublk-script trace "$id" --json "$@" >steps &
  tracer=$!
  wait_until 20 grep -q FETCH_REQ steps
}

# The steps of the last IO of that operation at that sector, a line each.
steps_at() { # OP SECTOR
  local place
  place=$(grep '"step":"request"' steps | grep "\"op\":\"$1\"" | grep "\"sector\":$2," | tail -n 1 | grep -o '"io":[0-9]*,')
  [ -z "$place" ] || grep "$place" steps
}

# Their names. Copies of data, which only some data modes have, are left out unless they are asked for.
names_at() { # OP SECTOR [with_copies]
  steps_at "$1" "$2" | sed -n 's/.*"step":"\([^"]*\)".*/\1/p' | grep -v "^${3:-copy_}" | tr '\n' ' '
}

is_committed() { # OP SECTOR
  steps_at "$1" "$2" | has_line COMMIT_AND_FETCH_REQ
}

t_the_steps_of_an_io_come_in_order_with_what_its_descriptor_says() {
  two_faults
  add_device two
  follow
  fill "$dev" 1048576 8192 61
  wait_until 20 is_committed write 2048
  expect_equal "steps" "$(names_at write 2048)" "request decision store_begin store_end COMMIT_AND_FETCH_REQ "
  steps_at write 2048 | grep '"step":"request"' | has_line '"length":8192,"offset":1048576,"op":"write",.*"sector":2048'
  steps_at write 2048 | grep COMMIT_AND_FETCH_REQ | has_line '"result":8192'
  expect_equal "times" "$(steps_at write 2048 | sed -n 's/.*"t":\([0-9]*\).*/\1/p')" \
    "$(steps_at write 2048 | sed -n 's/.*"t":\([0-9]*\).*/\1/p' | sort -n)"
  while read -r output; do expect_json trace; done <steps
  # whoever ends the trace leaves the device as it is
  kill "$tracer"
  wait "$tracer" || true
  expect_equal "bytes" "$(bytes_in "$dev" 1048576 8192)" 61
  expect_equal "state" "$(state_of "$id")" LIVE
}

t_a_delayed_io_and_a_failed_one_show_their_rule() {
  two_faults
  add_device two
  follow
  expect_equal "read" "$(read_errno "$dev" 4194304 4096)" ok
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENODATA
  wait_until 20 is_committed read 8192
  wait_until 20 is_committed read 16384
  expect_equal "steps" "$(names_at read 8192)" \
    "request decision delayed continues store_begin store_end COMMIT_AND_FETCH_REQ "
  steps_at read 8192 | grep '"step":"decision"' | has_line '"what":"delay 50 ms","who":"two.lua:2 slow"'
  expect_equal "steps" "$(names_at read 16384)" "request decision COMMIT_AND_FETCH_REQ "
  steps_at read 16384 | grep '"step":"decision"' | has_line '"who":"two.lua:3 bad"'
  steps_at read 16384 | grep COMMIT_AND_FETCH_REQ | has_line '"errno":"ENODATA","io":.*"result":-61'
  kill "$tracer"
  wait "$tracer" || true
  # of a fresh trace, as text, with what it means
  ublk-script trace "$id" --explain --count 8 >text &
  tracer=$!
  wait_until 20 grep -q FETCH_REQ text
  expect_equal "read" "$(read_errno "$dev" 4194304 4096)" ok
  wait_until 20 reads_as 8388608 ENODATA
  wait $tracer
  grep -q 'read, sector 8192, 4096 bytes' text
  grep -q '    | .*io descriptor' text
  expect_equal "steps" "$(grep -c '^[0-9]' text)" 8
  # and for Perfetto: packets, each behind the key of field 1
  expect_status 0 ublk-script trace "$id" --count 1 -o t.perfetto-trace
  expect_equal "output" "$output" ""
  expect_equal "first byte" "$(od -An -tx1 -N1 t.perfetto-trace | tr -d ' ')" 0a
  grep -q 'queue 0' t.perfetto-trace
}

t_a_file_under_the_device_shows_when_its_transfer_begins_and_ends() {
  script file <<<'device { size = "16M", file = "disk.img" }'
  add_device file
  follow
  fill "$dev" 1048576 4096 62
  wait_until 20 is_committed write 2048
  expect_equal "steps" "$(names_at write 2048)" "request decision store_begin store_end COMMIT_AND_FETCH_REQ "
  kill "$tracer"
  wait "$tracer" || true
}

t_with_user_copy_the_copies_of_the_server_are_steps() {
  two_faults
  add_device two data=user_copy
  follow
  fill "$dev" 1048576 4096 63
  expect_equal "bytes" "$(bytes_in "$dev" 1048576 4096)" 63
  wait_until 20 is_committed read 2048
  expect_equal "steps" "$(names_at write 2048 with_copies)" \
    "request decision copy_in store_begin store_end COMMIT_AND_FETCH_REQ "
  expect_equal "steps" "$(names_at read 2048 with_copies)" \
    "request decision store_begin store_end copy_out COMMIT_AND_FETCH_REQ "
  kill "$tracer"
  wait "$tracer" || true
}

t_who_does_not_read_holds_nothing_up_and_is_told() {
  two_faults
  add_device two
  mkfifo pipe
  ublk-script trace "$id" >pipe &
  tracer=$!
  exec 7<pipe
  fio --name=many --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=16 --number_ios=20000 \
    --io_size=1T --norandommap >fio.log 2>&1 || fail "$(tail -n 20 fio.log)"
  expect_equal "state" "$(state_of "$id")" LIVE
  # a trace that nobody reads is switched off, and the reader is told of that or of the steps that it has missed
  cat <&7 >text &
  wait_until 30 grep -Eq '  (lost|gap)  ' text
  kill "$tracer"
  wait "$tracer" || true
  exec 7<&-
  expect_equal "read" "$(read_errno "$dev" 0 4096)" ok
}

t_a_trace_begins_with_the_commands_that_made_the_device_and_ends_with_those_that_delete_it() {
  two_faults
  add_device two
  follow
  local names='s/.*"step":"\([A-Z]*_[A-Z_]*\)".*/\1/p'
  expect_equal "commands" "$(grep '"ago"' steps | sed -n "$names" | uniq | tr '\n' ' ')" \
    "GET_FEATURES ADD_DEV SET_PARAMS GET_PARAMS GET_QUEUE_AFFINITY START_DEV GET_DEV_INFO "
  grep ADD_DEV steps | has_line '"result":0,.*"what":"1 queue, depth 128, at most 512 KiB an IO, '
  grep SET_PARAMS steps | has_line '"what":"BASIC: 32768 sectors of 512 bytes, logical block 512 B'
  grep START_DEV steps | has_line "\"what\":\"process $server serves it\""
  if driver_has UPDATE_SIZE; then
    expect_status 0 ublk-script resize "$id" 32M
    wait_until 20 grep -q '"UPDATE_SIZE".*"65536 sectors of 512 bytes"' steps
  fi
  expect_status 0 ublk-script del "$id"
  wait $tracer || fail "the trace ended with status $?"
  grep -q '"STOP_DEV"' steps || fail "no STOP_DEV in: $(tail -n 3 steps)"
  while read -r output; do expect_json trace; done <steps
}

t_two_who_follow_see_the_same_and_one_that_is_killed_takes_nothing_from_the_other() {
  two_faults
  add_device two
  ublk-script trace "$id" -o killed.trace &
  local other=$!
  wait_until 20 grep -q 'queue 0' killed.trace
  follow
  expect_equal "read" "$(read_errno "$dev" 4194304 4096)" ok
  wait_until 20 is_committed read 8192
  wait_until 20 grep -q COMMIT_AND_FETCH_REQ killed.trace
  # a second trace into the same file would spoil both
  expect_status 1 ublk-script trace "$id" -o killed.trace
  expect_output "killed.trace is in use"
  kill -KILL $other
  wait $other || true
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENODATA
  wait_until 20 is_committed read 16384
  expect_equal "steps" "$(names_at read 16384)" "request decision COMMIT_AND_FETCH_REQ "
  kill "$tracer"
  wait "$tracer" || true
}

t_a_trace_goes_on_over_a_reload_and_a_resize() {
  two_faults
  add_device two
  follow
  sed -i -e 's/ENODATA/ENOSPC/' -e 's/"bad"/"worse"/' two.lua
  expect_status 0 ublk-script reload "$id"
  if driver_has UPDATE_SIZE; then expect_status 0 ublk-script resize "$id" 32M; fi
  expect_equal "read" "$(read_errno "$dev" 8388608 4096)" ENOSPC
  wait_until 20 is_committed read 16384
  steps_at read 16384 | grep '"step":"decision"' | has_line '"who":"two.lua:3 worse"'
  kill "$tracer"
  wait "$tracer" || true
}

t_a_trace_ends_with_a_server_that_is_quiesced_and_shows_the_tags() {
  driver_has QUIESCE || skip "the driver can do this from 6.16 on"
  script file <<<'device { size = "16M", file = "disk.img", recovery = "reissue" }'
  add_device file
  follow
  expect_status 0 ublk-script quiesce "$id"
  wait $tracer || fail "the trace ended with status $?"
  grep -q '"step":"ABORT"' steps || fail "no ABORT in: $(tail -n 3 steps)"
}

t_a_trace_ends_with_its_device_and_shows_how_the_tags_are_taken_back() {
  two_faults
  add_device two
  follow
  expect_status 0 ublk-script del "$id"
  wait $tracer || fail "the trace ended with status $?"
  grep -q '"step":"ABORT"' steps || fail "no ABORT in: $(tail -n 3 steps)"
  no_leftovers
}

t_a_trace_whose_server_is_killed_says_so() {
  local status=0
  two_faults
  add_device two
  follow 2>said
  kill -KILL "$server"
  wait $tracer || status=$?
  expect_equal "status" "$status" 1
  output=$(<said)
  expect_output "the server of device $id has died" "ublk-script list $id"
}

run_cases "$@"
