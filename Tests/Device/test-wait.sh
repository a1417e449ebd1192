#!/bin/bash
# time limit: 120
# any kernel: waiting is about the server's counters
# A shell script that acts at the moment when something has happened to an IO.
. "$(dirname "$0")/lib.sh"

t_wait_ends_when_a_rule_has_acted() {
  script waiting <<'LUA'
    device { size = "16M" }
    rule { name = "bad", op = "read", range = { "8M", "4K" }, error = "ENODATA", set_state = "broken", mark = "hit" }
LUA
  add_device waiting
  expect_status 1 ublk-script wait "$id" rule bad --timeout 200ms
  expect_output "after 200ms: rule bad acted 0 times"
  ublk-script wait "$id" rule bad 2 --timeout 30s &
  expect_equal read "$(read_errno "$dev" 8M 4096)" ENODATA
  local waiter=$!
  expect_status 0 ublk-script wait "$id" rule bad 1 --timeout 30s
  kill -0 $waiter || fail "one time was enough"
  expect_equal read "$(read_errno "$dev" 8M 4096)" ENODATA
  wait $waiter
  expect_status 0 ublk-script wait "$id" mark hit 2
  expect_status 0 ublk-script wait "$id" state broken
  expect_status 1 ublk-script wait "$id" state whole --timeout 50ms
  expect_output "the state is broken"
  expect_status 1 ublk-script wait "$id" rule good
  expect_output 'no rule is called "good"; there is bad'
  expect_status 2 ublk-script wait "$id" rule
  expect_status 2 ublk-script wait "$id" rule bad 0
  expect_status 2 ublk-script wait "$id" held --timeout soon
}

# It asks, and sleeps until it asks again.
is_asleep() { grep -q nanosleep "/proc/$1/wchan"; } # PID

t_wait_ends_when_the_device_goes() {
  script plain <<'LUA'
    device { size = "16M" }
LUA
  add_device plain
  ublk-script wait "$id" held >waited 2>&1 &
  wait_until 10 is_asleep $!
  expect_status 0 ublk-script del "$id"
  ! wait $! || fail "it had nothing to wait for"
}

t_wait_is_over_in_its_time_when_the_server_does_not_answer() {
  script plain <<'LUA'
    device { size = "16M" }
LUA
  add_device plain
  kill -STOP "$server"
  local started
  started=$(now_ms)
  expect_status 1 ublk-script wait "$id" held --timeout 1s
  expect_within "wait" "$started" 4000
  expect_output "after 1s: the server of device $id does not answer"
  kill -CONT "$server"
}

t_held_IOs_are_listed_and_let_go_one_by_one() {
  script holding <<'LUA'
    device { size = "16M" }
    rule { op = "read", hang = true }
LUA
  add_device holding
  local offset
  for offset in 0 4096 8192; do
    read_errno "$dev" $offset 4096 >"read.$offset" &
    expect_status 0 ublk-script wait "$id" held $((offset / 4096 + 1)) --timeout 20s
  done
  expect_status 0 ublk-script ctl "$id" held
  expect_equal lines "$(wc -l <<<"$output")" 3
  expect_output "io" "read 0+4096" "read 8192+4096"
  local middle first
  middle=$(awk '/ 4096\+4096/ { print $1 }' <<<"$output")
  first=$(awk '/ 0\+4096/ { print $1 }' <<<"$output")
  expect_status 0 ublk-script ctl "$id" release "$middle" EREMOTEIO
  expect_equal released "$output" "released 1"
  wait_until 10 test -s read.4096
  expect_equal middle "$(<read.4096)" EREMOTEIO
  holds 2
  expect_status 0 ublk-script ctl "$id" release "$middle" 0:4000
  expect_equal released "$output" "released 0"
  expect_status 0 ublk-script ctl "$id" release "$first"
  wait_until 10 test -s read.0
  expect_equal first "$(<read.0)" ok
  expect_status 0 ublk-script ctl "$id" release
  wait
  expect_status 0 ublk-script ctl "$id" held
  expect_equal none "$output" ""
}

# What fio's own triggers are for: the workload ends at the first fault.
t_a_workload_is_stopped_at_the_first_fault() {
  script first <<'LUA'
    device { size = "16M" }
    rule { name = "fault", op = "write", nth = 500, hang = true }
LUA
  add_device first
  fio --name=load --filename="$dev" --direct=1 --rw=write --bs=4k --size=16M --output=fio.out &
  expect_status 0 ublk-script wait "$id" rule fault --timeout 60s
  # It hangs: nothing behind it has happened, and what is read now is the disk at that moment.
  expect_equal "write 500 is not there" "$(read_errno "$dev" $((499 * 4096)) 4096; cmp -n 4096 -i $((499 * 4096)):0 "$dev" /dev/zero)" ok
  cmp -s -n 4096 -i $((498 * 4096)):0 "$dev" /dev/zero && fail "write 499 is not there"
  kill -INT $!
  expect_status 0 ublk-script ctl "$id" release
  wait $! || true
}

run_cases "$@"
