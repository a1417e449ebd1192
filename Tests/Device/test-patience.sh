#!/bin/bash
# time limit: 300
# Whatever a server is stuck in, and whoever is killed: the commands end in their time, and nothing is left.
. "$(dirname "$0")/lib.sh"

plain_script() {
  script plain <<'LUA'
    device { size = "16M" }
    local hung = ranges("hung")
    rule { op = "read", range = hung, hang = true }
    function ctl(word) if word == "on" then hung:add("1M", "1M") else log(word) end end
LUA
}

# Brings a queue's thread into a C function of Lua that no hook interrupts, for some seconds.
stuck_script() {
  script stuck <<'LUA'
    device { size = "16M" }
    function read() string.rep("a", 40):find(string.rep("a?", 40) .. string.rep("a", 40)) end
LUA
}

# A queue that has nothing to do sleeps.
works() { # PID
  local task
  task=$(grep -lx ublk-q0 "/proc/$1"/task/*/comm)
  grep -q '^State:.R' "${task%comm}status"
}

# lib.sh calls this at the end of each case.
tidy_case() {
  mountpoint -q "$state_directory" || return 0
  ublk-script del --all && umount "$state_directory"
}

t_del_of_a_stopped_server_says_what_it_waits_for_and_ends_it() {
  plain_script
  add_device plain
  kill -STOP "$server"
  local started
  started=$(now_ms)
  expect_status 0 ublk-script del "$id" --patience 3s
  expect_within "del" "$started" 12000
  expect_output "waiting for the server of device $id" "SIGSTOP" "3 s" "killing the server $server"
  wait_until 5 is_gone "$id"
}

t_del_of_a_stopped_server_that_holds_an_IO_fails_the_IO() {
  plain_script
  add_device plain
  ublk-script ctl "$id" on
  (read_errno "$dev" 1M 4096 >answer) &
  local reader=$!
  wait_until 10 holds 1
  kill -STOP "$server"
  expect_status 0 ublk-script del "$id" --patience 1s
  wait $reader
  expect_equal "the held read" "$(<answer)" EIO
  wait_until 5 is_gone "$id"
}

t_stop_of_a_stopped_server_takes_the_disk_and_keeps_the_number() {
  plain_script
  add_device plain
  kill -STOP "$server"
  expect_status 0 ublk-script stop "$id" --patience 1s
  expect_output "killing the server $server"
  wait_until 5 has_ended "$server"
  expect_equal "state" "$(state_of "$id")" DEAD
  [ ! -e "$dev" ] || fail "$dev is still there"
  ublk-script del "$id"
  no_leftovers
}

t_del_while_a_handler_is_stuck_in_C_ends_in_its_time() {
  stuck_script
  add_device stuck
  dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null &
  wait_until 10 works "$server"
  local started
  started=$(now_ms)
  ublk-script del "$id" --patience 2s
  expect_within "del" "$started" 12000
  wait_until 5 is_gone "$id"
}

# The command finds nothing, because a counter of its own is 0.
t_del_while_a_load_phase_is_stuck_in_the_server_ends_in_its_time() {
  script first <<'LUA'
    device { size = "16M" }
    counter("loads"):add(1)
LUA
  script second <<'LUA'
    device { size = "16M" }
    if counter("loads"):get() > 0 then string.rep("a", 60):find(string.rep("a*", 60) .. "b") end
LUA
  add_device first
  (ublk-script reload "$id" second.lua >reload.out 2>&1) &
  local reload=$! started
  wait_until 10 works "$server"
  started=$(now_ms)
  ublk-script del "$id" --patience 2s
  expect_within "del" "$started" 12000
  wait $reload && fail "reload worked: $(<reload.out)"
  wait_until 5 is_gone "$id"
}

t_SIGTERM_while_a_handler_is_stuck_in_C_leaves_nothing() {
  stuck_script
  add_device stuck --patience 1s
  dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null &
  wait_until 10 works "$server"
  kill -TERM "$server"
  wait_until 40 is_gone "$id"
}

told_of_the_stop() { ublk-script list "$id" | has_line "faults are off: a stop did not end within 1 s"; }

# The upper device's STOP waits for a read that the lower one holds.
t_a_stop_that_does_not_end_is_told_and_the_server_lives_on() {
  plain_script
  add_device plain
  local lower=$id
  ublk-script ctl "$lower" on
  script upper <<'LUA'
    device { on_error = "stop" }
    function write() error("enough") end
LUA
  add_device upper --file "$dev" --patience 1s
  (read_errno "$dev" 1M 4096 >answer) &
  local reader=$!
  id=$lower wait_until 10 holds 1
  expect_equal "the write that raises" "$(write_errno "$dev" 0 4096)" EIO
  wait_until 10 told_of_the_stop
  expect_equal "list as JSON" "$(ublk-script list "$id" --json | json_value faults)" off
  expect_status 0 ublk-script list "$id"
  ! grep -qF "does not answer" <<<"$output" || fail "it is asked to stop again and again: $output"
  kill -0 "$server" || fail "the server has ended"
  expect_equal "times told" \
    "$(grep -c "Until it ends device $id runs on with its faults off" "$state_directory/$id.log")" 1
  ublk-script ctl "$lower" release
  wait_until 10 has_ended "$server"
  wait $reader
  expect_equal "the read" "$(<answer)" ok
  ublk-script del "$id"
  ublk-script del "$lower"
}

t_list_of_a_stopped_server_answers_and_says_so() {
  plain_script
  add_device plain
  kill -STOP "$server"
  local started
  started=$(now_ms)
  expect_status 0 ublk-script list
  expect_within "list" "$started" 5000
  expect_output "does not answer"
  kill -CONT "$server"
}

# The load phase takes long enough to be killed in.
slow_load_script() {
  script slow <<'LUA'
    device { size = "16M", depth = 256 }
    local t = {}
    for i = 1, 400000 do t[i] = i end
LUA
}

nothing_is_there() { [ -z "$(leftovers)" ]; }

# At any moment while the server comes up.
kill_add() { # SIGNAL AFTER-SECONDS
  rm -f made.img made.json
  ublk-script add slow.lua --file made.img --ledger made.json -n 3 >answer 2>/dev/null &
  local add=$! status=0
  sleep "$2"
  kill "-$1" $add 2>/dev/null || true
  wait $add || status=$?
  if [ $status = 0 ]; then
    # it was done before
    ublk-script del 3
  elif [ -s answer ]; then
    # it had told of the device, so that may stay
    ublk-script del 3 || true
    wait_until 15 nothing_is_there
  else
    wait_until 15 nothing_is_there
    [ ! -e made.img ] || fail "after $2 s: the backing file that was made is still there"
    [ ! -e made.json ] || fail "after $2 s: the file of the ledger is still there"
  fi
}

t_a_killed_add_takes_its_server_along() {
  slow_load_script
  local after
  for after in 0.05 0.2 0.4 0.6 0.8 1.0 1.3 1.6 2.0; do kill_add KILL $after; done
}

t_an_interrupted_add_takes_its_server_along() {
  slow_load_script
  local after
  for after in 0.1 0.5 0.9 1.2 1.8; do kill_add TERM $after; done
}

t_SIGTERM_to_a_server_that_comes_up_leaves_nothing() {
  slow_load_script
  ublk-script add slow.lua -n 3 >/dev/null 2>&1 &
  local add=$! child status=0
  wait_until 15 test -e "$state_directory/3.json"
  child=$(json_value serverPID <"$state_directory/3.json")
  kill -TERM "$child" 2>/dev/null || true
  wait $add || status=$?
  wait_until 15 nothing_is_there
}

# ---- limits of the caller ----

t_a_limit_on_the_size_of_files_costs_log_lines_and_no_server() {
  script lg <<'LUA'
    device { size = "16M" }
    function write(io) log(string.rep("x", 900) .. io.offset) end
LUA
  (ulimit -f 64 && ublk-script add lg.lua -n 4 --quiet)
  dd if=/dev/zero of=/dev/ublkb4 bs=4k count=300 oflag=direct conv=notrunc status=none
  expect_equal "state" "$(state_of 4)" LIVE
  wait_until 5 test -e "$state_directory/4.log.1"
  expect_equal "a read" "$(read_errno /dev/ublkb4 0 4096)" ok
}

t_a_full_disk_under_the_log_costs_log_lines_and_no_server() {
  script lg <<'LUA'
    device { size = "16M" }
    function write(io) log(string.rep("x", 900) .. io.offset) end
LUA
  mkdir -p "$state_directory"
  mount -t tmpfs -o size=32K,mode=755 tmpfs "$state_directory"
  add_device lg
  dd if=/dev/zero of="$dev" bs=4k count=100 oflag=direct conv=notrunc status=none
  expect_equal "state" "$(state_of "$id")" LIVE
  expect_equal "a read" "$(read_errno "$dev" 0 4096)" ok
}

t_no_file_at_all_leaves_no_device() {
  plain_script
  local status=0
  # through a pipe: what add says would be a file over the limit, too
  (ulimit -f 0 && ublk-script add plain.lua -n 4) 2>&1 | cat >answer || status=$?
  expect_equal "status" $status 1
  output=$(<answer)
  expect_output "File too large"
  no_leftovers
}

t_a_limit_on_memory_or_CPU_time_does_not_end_a_server() {
  plain_script
  (ulimit -v 4000000 && ulimit -t 2 && ublk-script add plain.lua -n 4 --quiet)
  id=4
  server=$(json_value serverPID <"$state_directory/4.json")
  grep -q '^Max cpu time *unlimited' "/proc/$server/limits" || fail "CPU time is limited"
  grep -q '^Max address space *unlimited' "/proc/$server/limits" || fail "address space is limited"
}

t_too_little_memory_for_a_thread_is_refused() {
  plain_script
  local status=0 limit
  for limit in 200000 100000 60000; do
    status=0
    (ulimit -v $limit && ublk-script add plain.lua -n 4 --quiet) >answer 2>&1 || status=$?
    if [ $status = 0 ]; then ublk-script del 4; else no_leftovers; fi
  done
}

run_cases "$@"
