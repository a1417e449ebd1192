#!/bin/bash
# time limit: 300
# Another program stops a device whose server holds an IO, and while that waits the server is killed: nothing may
# stay. DEVICE_TEST_LONG=1 tries each moment from 0 to 4 s in steps of 0.2 s; that takes 10 minutes and more.
. "$(dirname "$0")/lib.sh"

long=${DEVICE_TEST_LONG:-0}

# Seconds after the other program's command: all of them, or those given.
moments() { # MOMENT...
  if [ "$long" = 1 ]; then seq 0 0.2 4; else echo "$@"; fi
}

grid_script() {
  script hung <<'LUA'
    device { size = "16M" }
    local hung = ranges("hung")
    rule { op = "read", range = hung, hang = true }
    rule { op = "write", range = hung, hang = true }
    function ctl() hung:add("1M", "1M") end
LUA
}

# An IO that hangs, and whoever waits for it: its pid is `user`.
hold_read() {
  dd if="$dev" of=/dev/null bs=4k count=1 skip=1M iflag=direct,skip_bytes 2>/dev/null &
  user=$!
}

# Writeback of a page: STOP waits for it before it takes the disk out of the system.
hold_writeback() {
  dd if=/dev/zero of="$dev" bs=4k count=1 seek=1M oflag=seek_bytes conv=notrunc,fsync 2>/dev/null &
  user=$!
}

# One point: a device holds an IO, another program gives COMMAND, MOMENT seconds later the server gets the signals.
point() { # HOLD COMMAND[:DATA] MOMENT SIGNAL...
  local hold=$1 command=${2%:*} data=${2#*:} moment=$3 foreign helpers signal
  shift 3
  [ "$data" != "$command" ] || data=
  add_device hung
  ublk-script ctl "$id" on
  "$hold"
  wait_until 10 holds 1
  helpers=$(processes)
  # shellcheck disable=SC2086
  ublk-script raw "$command" "$id" $data >foreign.out 2>&1 &
  foreign=$!
  sleep "$moment"
  for signal in "$@"; do
    # a device that is gone by now takes its server with it
    kill "-$signal" "$server" 2>/dev/null || true
    [ "$signal" != STOP ] || sleep 1
  done
  # shellcheck disable=SC2086
  expect_end_of_all 5 "$hold, $command, $* after $moment s" $helpers "$user" "$foreign"
  wait "$user" "$foreign" || true
  expect_del_to_clean_up
}

# What is left is a device without a server, or the files of one.
expect_del_to_clean_up() {
  # a server that is about to end may be quicker than del
  [ -z "$(leftovers)" ] || ublk-script del "$id" || true
  wait_until 5 is_gone "$id"
}

grid() { # HOLD COMMAND[:DATA] "SIGNAL..." MOMENT...
  local hold=$1 command=$2 signals=$3 moment
  shift 3
  grid_script
  for moment in $(moments "$@"); do
    # shellcheck disable=SC2086
    point "$hold" "$command" "$moment" $signals
  done
}

t_SIGKILL_while_another_program_deletes_the_device_leaves_nothing() {
  grid hold_read DEL_DEV KILL 0 0.6 1.2 2.4
}

t_SIGKILL_while_another_program_deletes_the_device_without_waiting_for_its_users_leaves_nothing() {
  grid hold_read DEL_DEV_ASYNC KILL 0.6
}

t_SIGKILL_while_another_program_deletes_the_device_and_writeback_hangs_leaves_nothing() {
  grid hold_writeback DEL_DEV KILL 0.6 2.4
}

t_SIGKILL_while_another_program_stops_the_device_leaves_nothing() {
  grid hold_read STOP_DEV KILL 0.6
}

t_SIGKILL_while_another_program_quiesces_the_device_leaves_nothing() {
  needs_kernel 6.16
  grid hold_read QUIESCE_DEV:1000 KILL 0.2
}

# Before, the kernel itself dies of this command for a device whose server has just been killed.
t_SIGKILL_while_another_program_changes_the_size_leaves_nothing() {
  needs_kernel 7.2
  grid hold_read UPDATE_SIZE:65536 KILL 0.2
}

t_SIGTERM_while_another_program_deletes_the_device_leaves_nothing() {
  grid hold_read DEL_DEV TERM 0 0.6
}

t_a_server_that_is_stopped_and_killed_while_another_program_deletes_the_device_leaves_nothing() {
  grid hold_read DEL_DEV "STOP KILL" 0.6
}

t_a_server_that_is_stopped_and_goes_on_while_another_program_deletes_the_device_leaves_nothing() {
  grid hold_read DEL_DEV "STOP CONT" 0.6
}

# The process beside the server that gives its control commands.
helper_of() { # SERVER
  local pid
  for pid in $(processes); do [ "$pid" = "$1" ] || echo "$pid"; done
}

t_a_server_whose_helper_was_killed_gets_another_one() {
  local helper
  grid_script
  add_device hung
  helper=$(helper_of "$server")
  [ -n "$helper" ] || fail "the server has no helper"
  kill -KILL "$helper"
  wait_until 5 has_ended "$helper"
  ublk-script ctl "$id" on
  hold_read
  wait_until 5 has_another_helper "$helper"
  kill -KILL "$(helper_of "$server")"
  expect_status 0 ublk-script del "$id"
  expect_end_of_all 5 "del" "$user" "$server"
  no_leftovers
}

has_another_helper() { # PID
  local now
  now=$(helper_of "$server")
  [ -n "$now" ] && [ "$now" != "$1" ]
}

# Processes of ours do not run for 5 s, as on a machine that stands still; then nobody is stopping the device.
t_a_server_that_stood_still_holds_on_to_its_IO() {
  grid_script
  add_device hung
  ublk-script ctl "$id" on
  hold_read
  wait_until 10 holds 1
  # shellcheck disable=SC2046
  kill -STOP $(processes)
  sleep 5
  # shellcheck disable=SC2046
  kill -CONT $(processes)
  # more looks than one
  sleep 2.5
  expect_equal "held IOs" "$(counter held_now)" 1
  ! grep "another program" "$state_directory/$id.log" || fail "the server let go"
}

# DEL keeps every other device of the machine waiting, and so ADD.
t_a_server_that_is_still_to_get_its_device_can_be_killed() {
  local before new foreign add
  grid_script
  add_device hung
  ublk-script ctl "$id" on
  hold_read
  wait_until 10 holds 1
  kill -STOP "$server" # or it would let go
  before=" $(processes | tr '\n' ' ') "
  ublk-script raw DEL_DEV "$id" &
  foreign=$!
  wait_until 10 waits_in_the_driver "$foreign"
  before+="$foreign "
  ublk-script add "$work/hung.lua" >add.out 2>&1 &
  add=$!
  wait_until 10 some_other_waits_in_the_driver "$before"
  new=$(some_other_waits_in_the_driver "$before")
  # shellcheck disable=SC2086
  kill -KILL $new
  # shellcheck disable=SC2086
  expect_end_of_all 5 "add" $new "$add"
  kill -KILL "$server"
  expect_end_of_all 5 "the first device" "$server" "$user" "$foreign"
  expect_del_to_clean_up
}

# In a worker of its own.
waits_in_the_driver() { # PID
  local task
  for task in "/proc/$1/task"/*; do
    [ "$task" != "/proc/$1/task/$1" ] && grep -q '^State:.D' "$task/status" 2>/dev/null && return
  done
  return 1
}

# Prints it.
some_other_waits_in_the_driver() { # " PID PID ... "
  local pid found=1
  for pid in $(processes); do
    [[ $1 != *" $pid "* ]] && waits_in_the_driver "$pid" || continue
    echo "$pid"
    found=0
  done
  return $found
}

# Nobody kills the server: it finds out by itself.
t_a_hung_writeback_ends_when_another_program_deletes_the_device() {
  local started
  grid_script
  add_device hung
  ublk-script ctl "$id" on
  hold_writeback
  wait_until 10 holds 1
  started=$(now_ms)
  ublk-script raw DEL_DEV "$id" &
  expect_end_of_all 8 "the writeback" "$user" $! "$server"
  echo "took $(($(now_ms) - started)) ms"
  no_leftovers
}

run_cases "$@"
