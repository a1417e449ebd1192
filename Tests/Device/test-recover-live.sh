#!/bin/bash
# time limit: 240
# any kernel: what goes on is in files of the server; the driver's part is in test-recover
# What the next server of a device goes on with: what the rules have counted, which of them are switched off, the
# device's clock, a pause, marks, counters and the state, sets of ranges. Beside the record, in N.live, N.cells and
# N.ranges.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/next-server.sh"

# Each rule has 4 KiB of its own.
counting_script() {
  script counting <<'LUA'
    device { size = "16M" }
    rule { name = "thrice", op = "read", range = { "1M", "4K" }, times = 3, error = "ENODATA" }
    rule { name = "second", op = "read", range = { "2M", "4K" }, every = 2, error = "ETIMEDOUT" }
    rule { name = "plain", op = "read", range = { "3M", "4K" }, error = "ENOLINK" }
    rule { name = "early", op = "read", range = { "4M", "4K" }, before = "2s", error = "EBADE" }
    rule { name = "late", op = "read", range = { "5M", "4K" }, after = { ops = 1000 }, error = "EILSEQ" }
LUA
}

# On a file.
add_counting() { # MODE [OPTION...]
  local mode=$1
  shift
  [ "$mode" != fail ] || driver_has USER_RECOVERY_FAIL_IO || skip "this kernel has no recovery=fail"
  counting_script
  add_device counting --file disk.img "recovery=$mode" "$@"
}

expect_read() { # OFFSET ERRNO...
  local offset=$1 number=0 wanted
  shift
  for wanted in "$@"; do
    number=$((number + 1))
    expect_equal "read $number at $offset" "$(read_errno "$dev" "$offset" 4096)" "$wanted"
  done
}

rule_counts() { ublk-script ctl "$id" rule | awk '/thrice|second|plain/'; }

# What was used up and switched by the first server.
use_rules() {
  expect_read 1M ENODATA
  expect_read 2M ok
  expect_read 3M ENOLINK
  ublk-script ctl "$id" rule off plain
  wait_until 10 reads_as 4M ok
}

expect_rules_go_on() {
  expect_read 4M ok # first, as a clock that had begun anew would be in its first seconds
  expect_read 1M ENODATA ENODATA ok
  expect_read 2M ETIMEDOUT ok ETIMEDOUT
  expect_read 3M ok
  ublk-script ctl "$id" rule on plain
  expect_read 3M ENOLINK
}

expect_kept() { # MODE
  local before
  add_counting "$1" queues=2
  use_rules
  before=$(rule_counts)
  kill_server
  recover
  expect_equal "the rules" "$(rule_counts)" "$before"
  expect_rules_go_on
  ! has_line "count from 0" "$state_directory/$id.log" || fail "the log says that they were lost"
  expect_status 0 ublk-script del "$id"
  no_leftovers
}

t_rules_go_on_counting_with_wait() { expect_kept wait; }
t_rules_go_on_counting_with_reissue() { expect_kept reissue; }
t_rules_go_on_counting_with_fail() { expect_kept fail; }

t_rules_go_on_after_several_deaths_and_with_restart() {
  local before
  add_counting wait --restart
  use_rules
  before=$server
  kill -KILL "$server"
  wait_until 60 is_served_by_another "$before"
  expect_read 1M ENODATA
  before=$server
  kill -KILL "$server"
  wait_until 60 is_served_by_another "$before"
  expect_read 1M ENODATA ok
  expect_read 3M ok
  ublk-script del "$id"
}

is_served_by_another() { # PID
  local record
  record=$(ublk-script list "$id" --json)
  server=$(json_value serverPID <<<"$record")
  [ "$(json_value state <<<"$record")" = LIVE ] && [ "$server" -gt 1 ] && [ "$server" != "$1" ] &&
    ublk-script ctl "$id" stats >/dev/null 2>&1
}

t_another_version_of_the_server_goes_on_with_them() {
  driver_has QUIESCE || skip "the driver can do this from 6.16 on"
  add_counting reissue
  use_rules
  ublk-script quiesce "$id"
  wait_until 10 waits_for_server
  recover
  expect_rules_go_on
}

# IOs are counted from the first server on; those of its partition scan are not.
t_what_the_device_has_served_is_counted_over_all_servers() {
  add_counting wait
  dd if="$dev" of=/dev/null bs=4096 count=990 skip=2048 iflag=direct status=none
  expect_read 5M ok
  kill_server
  recover
  expect_read 6M ok ok ok ok ok ok ok ok ok ok ok ok
  expect_read 5M EILSEQ
}

# What is done to them while the script is loaded is done once.
t_marks_counters_and_the_state_go_on() {
  script cells <<'LUA'
    device { size = "16M" }
    local loads = counter("loads")
    loads:set(10)
    state("new")
    rule { op = "read", range = { "1M", "4K" }, after = { mark = "go" }, error = "ENODATA" }
    rule { op = "read", range = { "2M", "4K" }, state = "worn", error = "ETIMEDOUT" }
    rule { op = "read", range = { "3M", "4K" }, mark = "seen", error = "ENOLINK" }
    function ctl() return loads:add(1) end
LUA
  add_device cells --file disk.img recovery=wait queues=2
  expect_read 1M ok
  expect_read 2M ok
  ublk-script ctl "$id" mark go
  ublk-script ctl "$id" state worn
  expect_read 3M ENOLINK ENOLINK
  expect_equal "the counter" "$(ublk-script ctl "$id" add)" 11
  kill_server
  recover
  expect_read 1M ENODATA
  expect_read 2M ETIMEDOUT
  expect_equal "the state" "$(ublk-script ctl "$id" state)" worn
  expect_equal "the counter" "$(ublk-script ctl "$id" add)" 12
  expect_equal "the mark" "$(ublk-script ctl "$id" mark seen)" 3
  expect_status 0 ublk-script reload "$id"
  expect_equal "the state after a reload" "$(ublk-script ctl "$id" state)" new
  kill_server
  recover
  expect_read 1M ENODATA
  expect_equal "the counter" "$(ublk-script ctl "$id" add)" 11
  ublk-script del "$id"
  no_leftovers
}

# Edited by ctl, by the script's own ctl, by rules, and while the script is loaded.
t_sets_of_ranges_go_on() {
  local before
  script ranges <<'LUA'
    device { size = "16M" }
    local bad, more = ranges("bad"):add("1M", "8K"), ranges():add("3M", "4K")
    rule { op = "read", range = bad, error = "ENODATA" }
    rule { op = "write", range = bad, heal = true }
    rule { op = "read", range = more, error = "ETIMEDOUT" }
    rule { op = "read", range = { "4M", "8K" }, once = true, error = "ENOLINK" }
    function ctl() more:add("5M", "4K"):remove("3M", "4K") end
LUA
  add_device ranges --file disk.img recovery=reissue # one queue: a set without a name is its own
  ublk-script ctl "$id" ranges bad add 2M 4K
  ublk-script ctl "$id" edit
  fill "$dev" 1M 4096 77
  expect_read 4M ENOLINK ok
  before=$(ublk-script ctl "$id" ranges bad list)
  kill_server
  recover
  expect_equal "the set" "$(ublk-script ctl "$id" ranges bad list)" "$before"
  expect_read 1M ok
  expect_read $(((1 << 20) + 4096)) ENODATA
  expect_read 2M ENODATA
  expect_read 3M ok
  expect_read 4M ok
  expect_read $(((4 << 20) + 4096)) ENOLINK ok
  expect_read 5M ETIMEDOUT
  ublk-script ctl "$id" ranges bad clear
  kill_server
  recover
  expect_read 2M ok
  expect_read $(((4 << 20) + 4096)) ok
  expect_status 0 ublk-script reload "$id"
  expect_read 1M ENODATA # the script has added it
  expect_read 4M ENOLINK
  kill_server
  recover
  expect_read 1M ENODATA
  expect_read 4M ok
  expect_read 5M ok
  ublk-script del "$id"
  no_leftovers
}

t_a_device_that_is_paused_stays_so() {
  local reader
  add_counting reissue
  ublk-script ctl "$id" pause
  (read_errno "$dev" 3M 4096 >read.part && mv read.part read) &
  reader=$!
  wait_until 10 holds 1
  kill_server
  recover
  wait_until 10 holds 1
  ublk-script ctl "$id" resume
  wait $reader
  expect_equal "the IO that waited" "$(<read)" ENOLINK
  kill_server
  recover
  expect_read 3M ENOLINK
}

t_an_IO_that_is_held_is_held_again_with_reissue_and_counts_once() {
  local reader
  script holding <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "4K" }, times = 1, hang = true, error = "ENODATA" }
LUA
  add_device holding --file disk.img recovery=reissue
  (read_errno "$dev" 1M 4096 >read.part && mv read.part read) &
  reader=$!
  wait_until 10 holds 1
  kill_server
  recover
  wait_until 10 holds 1
  ublk-script ctl "$id" release
  wait $reader
  expect_equal "the IO that was held" "$(<read)" ENODATA
  expect_read 1M ok
}

t_after_a_reload_the_rules_of_the_new_script_go_on() {
  add_counting wait
  expect_read 1M ENODATA
  sed -i 's/times = 3/times = 2/' counting.lua
  expect_status 0 ublk-script reload "$id"
  expect_equal "their files" "$(cd "$state_directory" && echo ./*.live)" "./$id.1.live"
  expect_read 1M ENODATA
  echo 'error("no")' >broken.lua
  expect_status 1 ublk-script reload "$id" broken.lua
  kill_server
  recover
  expect_read 1M ENODATA ok
  ublk-script del "$id"
  no_leftovers
}

t_counts_that_are_gone_or_of_something_else_begin_anew_and_the_log_says_so() {
  add_counting wait
  use_rules
  kill_server
  truncate -s 100 "$state_directory/$id.live"
  rm "$state_directory/$id.cells"
  recover
  has_line "sets of ranges, counters, marks and the state begin anew" "$state_directory/$id.log" || fail "the log does not say so"
  has_line "the rules count from 0, and all are on" "$state_directory/$id.log" || fail "the log does not say so"
  expect_read 1M ENODATA ENODATA ENODATA ok
  expect_read 3M ENOLINK
}

t_a_device_that_ends_with_its_server_leaves_no_counts() {
  counting_script
  add_device counting --file disk.img
  [ ! -e "$state_directory/$id.live" ] || fail "there is $id.live"
  [ ! -e "$state_directory/$id.cells" ] || fail "there is $id.cells"
  [ ! -e "$state_directory/$id.ranges" ] || fail "there is $id.ranges"
}

# Three pages are enough for log, script and record.
t_without_room_for_them_the_device_is_not_made() {
  mkdir -p "$state_directory"
  mount -t tmpfs -o size=12k,mode=755 none "$state_directory"
  counting_script
  expect_status 1 ublk-script add counting.lua --file disk.img recovery=wait
  expect_output "allocate $state_directory/0." "ENOSPC" "make room in $state_directory"
  no_leftovers
  [ ! -e disk.img ] || fail "disk.img was made"
}

tidy_case() { umount "$state_directory" 2>/dev/null || true; }

run_cases "$@"
