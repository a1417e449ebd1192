#!/bin/bash
# What failed although no rule and no handler decided so, and what list says of a device's server.
. "$(dirname "$0")/lib.sh"

t_an_IO_that_failed_unasked_is_in_the_log_the_ledger_list_and_the_summary_of_del() {
  script odd <<'LUA'
    device { size = "16M" }
    local far = backing { size = "1M" }
    rule { op = "read", range = { "8M", "4K" }, verdict = to("2M", far) }
    function read(io, offset) if offset == 4 * MiB then error("oh") end end
LUA
  add_device odd
  expect_equal "list before" "$(ublk-script list "$id" --json | json_value scriptErrors)" 0
  expect_equal "the read that raises" "$(read_errno "$dev" 4194304 4096)" EIO
  expect_equal "the read past the end of a backing" "$(read_errno "$dev" 8388608 4096)" EIO
  expect_status 0 ublk-script list "$id"
  expect_output "script errors 1, backing errors 1"
  expect_equal "list as JSON" "$(ublk-script list "$id" --json | json_value backingErrors)" 1
  grep -q "script: .*odd.lua:4: oh" "$state_directory/$id.log" || fail "the log does not tell of the script"
  grep -q "backing: EIO" "$state_directory/$id.log" || fail "the log does not tell of the backing"
  ublk-script ledger "$id" --json >ledger
  grep -q '"action":"script_error"' ledger || fail "the ledger does not tell of the script: $(<ledger)"
  grep -q '"action":"backing_error"' ledger || fail "the ledger does not tell of the backing: $(<ledger)"
  expect_status 0 ublk-script del "$id"
  expect_output "script errors 1, backing errors 1"
}

has_told() { grep -q "$1" foreground.err; } # TEXT

t_the_end_of_a_server_tells_what_failed_unasked() {
  script odd <<'LUA'
    device { size = "16M" }
    function read(io, offset) if offset == 4 * MiB then error("oh") end end
LUA
  ublk-script add --foreground odd.lua >foreground.out 2>foreground.err &
  server=$!
  wait_until 10 grep -q LIVE foreground.out
  expect_equal "the read that raises" "$(read_errno /dev/ublkb0 4M 4096)" EIO
  wait_until 5 has_told "odd.lua:2: oh"
  kill -TERM "$server"
  wait "$server"
  has_told "device 0: no rule and no handler decided these: script errors 1" || fail "$(<foreground.err)"
}

t_a_held_IO_that_del_fails_is_told_by_del() {
  script hang <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "4K" }, hang = true }
LUA
  add_device hang
  (read_errno "$dev" 1048576 4096 >answer) &
  wait_until 10 holds 1
  expect_status 0 ublk-script del "$id"
  expect_output "held IOs lost 1"
  wait $!
  expect_equal "the read" "$(<answer)" EIO
}

t_a_device_on_which_nothing_failed_is_deleted_without_a_word() {
  script plain <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "4K" }, error = "ENODATA" }
LUA
  add_device plain
  expect_equal "the read" "$(read_errno "$dev" 1048576 4096)" ENODATA
  ublk-script list "$id" >entry
  ! grep -qE "errors|faults are off|does not answer" entry || fail "list complains: $(<entry)"
  expect_status 0 ublk-script del "$id"
  expect_equal "what del says" "$output" ""
}

t_list_says_after_two_seconds_that_a_stopped_server_does_not_answer() {
  script plain <<'LUA'
    device { size = "16M" }
LUA
  add_device plain
  kill -STOP "$server"
  local started
  started=$(now_ms)
  expect_status 0 ublk-script list "$id"
  kill -CONT "$server"
  expect_within "list" "$started" 4000
  expect_output "$dev" "the server does not answer within 2 s"
}

has_more_reads_than() { [ "$(counter read)" -gt "$1" ]; }

t_a_queue_that_is_in_a_handler_is_named_when_it_does_not_answer() {
  script busy <<'LUA'
    device { size = "16M", budget = "5s" }
    function read(io, offset) if offset == 1*MiB then while true do end end end
LUA
  add_device busy
  local reads
  reads=$(counter read)
  (read_errno "$dev" 1048576 4096 >answer) &
  wait_until 5 has_more_reads_than "$reads"
  expect_status 1 ublk-script ctl "$id" release
  expect_output "released 0" "queue 0 did not answer within 5 s"
  wait $!
  expect_equal "the read" "$(<answer)" EIO
  expect_status 0 ublk-script ctl "$id" release
  expect_equal "a release afterwards" "$output" "released 0"
}

run_cases "$@"
