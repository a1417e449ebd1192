#!/bin/bash
# time limit: 400
# Devices whose server dies and that are served again: what becomes of IO meanwhile, and that no byte is wrong
# afterwards. Servers are killed at random moments under load, 5 times in each mode, or RECOVER_KILLS times;
# DEVICE_TEST_LONG=1 does it 170 times (500 in all, an hour and more; DEVICE_TEST_PATIENCE=20 gives it the time). The
# moments are those of the seed RECOVER_SEED, which each case prints.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/acknowledged.sh"

long=${DEVICE_TEST_LONG:-0}
kills=${RECOVER_KILLS:-5}
[ "$long" != 1 ] || kills=${RECOVER_KILLS:-170}

# Reads of the second MiB hang once `ctl ID on` was given, those of the third are slow.
waiting_script() {
  script waiting <<'LUA'
    device { size = "16M" }
    local hung = ranges("hung")
    rule { op = "read", range = hung, hang = true }
    rule { name = "bad", op = "read", range = { "4M", "4K" }, error = "ENODATA" }
    function ctl() hung:add("1M", "1M") end
LUA
}

# In the mode, on a file.
add_recoverable() { # MODE [OPTION...]
  local mode=$1
  shift
  add_device waiting --file disk.img "recovery=$mode" "$@"
}

needs_mode() { # MODE
  [ "$1" != fail ] || driver_has USER_RECOVERY_FAIL_IO || skip "this kernel has no recovery=fail"
}

state_without_server() { # MODE
  if [ "$1" = fail ]; then echo FAIL_IO; else echo QUIESCED; fi
}

has_state() { # STATE
  [ "$(state_of "$id")" = "$1" ]
}

# Kills the server, and waits until the driver says so.
kill_server() { # MODE
  kill -KILL "$server"
  wait_until 40 has_ended "$server"
  wait_until 40 has_state "$(state_without_server "$1")"
}

# Sets server.
recover() {
  local record
  record=$(ublk-script recover "$id" --json) || fail "recover failed"
  server=$(json_value serverPID <<<"$record")
  expect_equal "state" "$(json_value state <<<"$record")" LIVE
}

# A reader in the background, its pid is `reader`; what it got comes to NAME.
start_reading() { # NAME OFFSET
  (read_errno "$dev" "$2" 4096 >"$1.part" && mv "$1.part" "$1") &
  reader=$!
}

# ---- what happens to IO ----

# An IO that the server has when it dies, and one that comes afterwards.
expect_fates() { # MODE FATE-OF-THE-FIRST FATE-OF-THE-SECOND
  local mode=$1 first second
  needs_mode "$mode"
  waiting_script
  add_recoverable "$mode" seed=77
  fill "$dev" 3M 4096 5a
  ublk-script ctl "$id" on
  start_reading first $((1 << 20))
  first=$reader
  wait_until 10 holds 1
  kill_server "$mode"
  start_reading second $((3 << 20))
  second=$reader
  if [ "$3" = waits ]; then
    sleep 0.3
    [ ! -e second ] || fail "the IO that came afterwards did not wait: $(<second)"
  else
    wait_until 5 test -e second
    [[ " $3 " == *" $(<second) "* ]] || fail "the IO that came afterwards got $(<second)"
  fi
  if [ "$2" = waits ]; then
    [ ! -e first ] || fail "the IO under way did not wait: $(<first)"
  else
    wait_until 5 test -e first
    expect_equal "the IO under way" "$(<first)" "$2"
  fi
  expect_status 0 ublk-script list "$id"
  expect_output "recovery $mode" "ublk-script recover $id, or ublk-script del $id"
  recover
  if [ "$2" = waits ]; then
    # the next server holds it, too
    wait_until 10 holds 1
    ublk-script ctl "$id" release
  fi
  wait "$first" "$second"
  [ "$2" != waits ] || expect_equal "the IO under way" "$(<first)" ok
  [ "$3" != waits ] || expect_equal "the IO that came afterwards" "$(<second)" ok
  expect_equal "the data" "$(bytes_in "$dev" 3M 4096)" 5a
  expect_equal "the seed" "$(ublk-script list "$id" --json | json_value seed)" 77
  expect_equal "a fault after it" "$(read_errno "$dev" $((4 << 20)) 4096)" ENODATA
  expect_status 0 ublk-script ledger "$id"
  expect_output "bad" 'fail("ENODATA")'
  expect_status 0 ublk-script del "$id"
  no_leftovers
}

t_with_wait_IO_under_way_fails_and_new_IO_waits() { expect_fates wait EIO waits; }
t_with_reissue_IO_under_way_and_new_IO_wait() { expect_fates reissue waits waits; }
t_with_fail_all_IO_fails_until_there_is_a_server() { expect_fates fail EIO "EIO EREMOTEIO"; }

# ---- at random moments ----

# Kills the server and serves again, at random moments of a load.
kill_at_random() { # MODE
  local round moment seed
  seed=${RECOVER_SEED:-$((SRANDOM % 32768))}
  echo "RECOVER_SEED=$seed"
  RANDOM=$seed
  for ((round = 0; round < kills; round++)); do
    moment=$((RANDOM % 700))
    echo "round $round: killed after $moment ms"
    sleep "0.$(printf %03d $moment)"
    kill_server "$1"
    recover
  done
}

expect_acknowledged_data() { # MODE
  needs_mode "$1"
  waiting_script
  add_recoverable "$1" queues=2
  start_writers
  kill_at_random "$1"
  # with the last server, too
  sleep 0.2
  end_writers
  expect_blocks "$dev"
  ublk-script del "$id"
}

t_no_byte_that_was_acknowledged_is_lost_with_wait() { expect_acknowledged_data wait; }
t_no_byte_that_was_acknowledged_is_lost_with_fail() { expect_acknowledged_data fail; }

# fio ends with the first error, and with the first wrong byte.
t_with_reissue_fio_sees_no_error_and_no_wrong_byte() {
  waiting_script
  add_recoverable reissue queues=2
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bs=4k --offset=5M --size=4M --iodepth=16 \
    --verify=crc32c --verify_backlog=256 --time_based --runtime=1000 >fio.out 2>&1 &
  local load=$!
  wait_until 20 writes_arrive
  kill_at_random reissue
  wait_until 20 writes_arrive
  jobs -rp | has_line -x $load || { cat fio.out && fail "fio ended before its time"; }
  kill -INT $load
  wait $load || true # it says that it was interrupted
  grep -q "err= 0" fio.out && ! grep -q "verify:" fio.out || { cat fio.out && fail "fio saw an error"; }
  ublk-script del "$id"
}

writes_arrive() { [ "$(counter write)" -gt 50 ]; }

t_with_reissue_a_mounted_filesystem_goes_on() {
  waiting_script
  add_recoverable reissue
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  head -c 2M /dev/urandom >mnt/a
  cp mnt/a a
  kill_server reissue
  (cp a mnt/b && sync mnt/b && touch done) &
  expect_status 1 ublk-script del "$id"
  expect_output "in use" "ublk-script recover $id brings it back"
  recover
  wait_until 20 test -e done
  umount mnt
  e2fsck -fn "$dev"
  mount "$dev" mnt
  cmp a mnt/a
  cmp a mnt/b
  umount mnt
  ublk-script del "$id"
}

# ---- what is the same afterwards ----

t_the_script_is_the_one_that_ran_and_the_paths_lead_where_they_did() {
  waiting_script
  ublk-script add waiting.lua --file disk.img recovery=wait --ledger faults.json --quiet
  id=0 dev=/dev/ublkb0
  server=$(servers)
  expect_equal "a fault" "$(read_errno "$dev" $((4 << 20)) 4096)" ENODATA
  wait_until 5 grep -q ENODATA faults.json
  kill_server wait
  echo 'error("not this one")' >waiting.lua
  mkdir elsewhere
  cd elsewhere
  recover
  expect_equal "a fault" "$(read_errno "$dev" $((4 << 20)) 4096)" ENODATA
  expect_status 0 ublk-script list "$id"
  expect_output "$work/waiting.lua" "$work/disk.img"
  cd ..
  wait_until 5 two_faults
  grep -q '{"action":"recovered"}' faults.json || fail "the ledger does not tell of the other server"
  grep -q "served again" "$state_directory/$id.log" || fail "the log does not tell of the other server"
  grep -q "is live" "$state_directory/$id.log" || fail "the log of the first server is gone"
  # its own file is read by a reload only
  expect_status 1 ublk-script reload "$id"
  expect_output "not this one"
}

two_faults() { [ "$(grep -c ENODATA faults.json)" = 2 ]; }

t_a_device_is_served_again_after_a_reload_with_the_script_that_ran_last() {
  waiting_script
  add_recoverable wait
  ublk-script reload "$id" -e 'device { size = "16M" } rule { op = "read", range = { "6M", "4K" }, error = "ETIMEDOUT" }'
  kill_server wait
  recover
  expect_equal "a fault" "$(read_errno "$dev" $((6 << 20)) 4096)" ETIMEDOUT
  expect_equal "no fault" "$(read_errno "$dev" $((4 << 20)) 4096)" ok
  ublk-script reload "$id" error p=0
  kill_server wait
  recover
  expect_equal "the size" "$(blockdev --getsize64 "$dev")" $((16 << 20))
  ublk-script del "$id"
}

# ---- what is refused ----

t_a_device_that_has_a_server_is_not_recovered() {
  waiting_script
  add_recoverable wait
  expect_status 1 ublk-script recover "$id"
  expect_output "device $id is served by process $server: there is nothing to recover"
  expect_equal "a read" "$(read_errno "$dev" 0 4096)" ok
}

t_a_device_without_recovery_is_not_recovered() {
  waiting_script
  add_device waiting --file disk.img
  kill -KILL "$server"
  wait_until 40 has_ended "$server"
  wait_until 40 has_state DEAD
  expect_status 1 ublk-script recover "$id"
  expect_output "added without recovery" "ublk-script del $id"
  ublk-script del "$id"
}

t_what_the_kernel_lacks_is_refused_before_anything_is_made() {
  waiting_script
  driver_has USER_RECOVERY_FAIL_IO && skip "this kernel has all modes"
  expect_status 1 ublk-script add waiting.lua --file disk.img recovery=fail
  expect_output "UBLK_F_USER_RECOVERY_FAIL_IO" "6.13"
  [ ! -e disk.img ] || fail "disk.img was made"
  no_leftovers
}

t_stop_and_add_name_the_next_step_and_del_ends_what_waits() {
  waiting_script
  add_recoverable wait
  kill_server wait
  start_reading read 0
  expect_status 1 ublk-script stop "$id"
  expect_output "ublk-script recover $id" "ublk-script del $id"
  expect_status 1 ublk-script add "$work/waiting.lua" -n "$id"
  expect_output "device $id exists already" "ublk-script recover $id"
  expect_status 0 ublk-script del "$id"
  wait $reader
  expect_equal "the IO that waited" "$(<read)" EIO
  no_leftovers
}

# The kernel lets nothing through any more when it stops a device with recovery.
t_what_a_program_has_written_and_not_synced_is_there_after_del() {
  waiting_script
  add_recoverable wait
  (
    exec 3<>"$dev"
    head -c 1M /dev/zero | tr '\0' '\167' >&3
    touch written
    exec sleep 60
  ) &
  local writer=$!
  wait_until 5 test -e written
  ublk-script del "$id"
  expect_equal "the data" "$(head -c 1M disk.img | tr -s '\0-\377')" w
  kill $writer
  wait $writer || true
  wait_until 5 is_gone "$id"
}

t_a_record_that_is_gone_or_of_another_device_is_told() {
  waiting_script
  add_recoverable wait
  kill_server wait
  cp "$state_directory/$id.json" record
  sed -i 's/"cookie":[0-9]*/"cookie":1/' "$state_directory/$id.json"
  expect_status 1 ublk-script recover "$id"
  expect_output "another program's"
  rm "$state_directory/$id.json"
  expect_status 1 ublk-script recover "$id"
  expect_output "was not made by ublk-script"
  cp record "$state_directory/$id.json"
  recover
  ublk-script del "$id"
}

# ---- a recovery that does not get through ----

t_a_file_that_is_gone_leaves_the_device_waiting() {
  waiting_script
  add_recoverable wait
  fill "$dev" 0 4096 77
  kill_server wait
  mv disk.img kept.img
  expect_status 1 ublk-script recover "$id"
  expect_output "disk.img is not there any more"
  [ ! -e disk.img ] || fail "it was made anew"
  expect_equal "state" "$(state_of "$id")" QUIESCED
  mv kept.img disk.img
  recover
  expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
}

t_of_two_that_recover_at_once_one_does() {
  local first second got=0
  # without a file there is no lock but the driver's
  script null <<'LUA'
    device { size = "16M", backing = "null", recovery = "wait" }
LUA
  add_device null
  kill_server wait
  ublk-script recover "$id" >first 2>&1 &
  first=$!
  ublk-script recover "$id" >second 2>&1 &
  second=$!
  wait $first || got=$((got + 1))
  wait $second || got=$((got + 1))
  cat first second
  expect_equal "failures" "$got" 1
  expect_equal "state" "$(state_of "$id")" LIVE
  server=$(ublk-script list "$id" --json | json_value serverPID)
  expect_equal "its record" "$(json_value serverPID <"$state_directory/$id.json")" "$server"
  expect_status 0 ublk-script ctl "$id" stats
}

# The next server is killed while it comes up: the device waits as before, and can be recovered or deleted.
t_a_server_that_dies_while_it_recovers_leaves_the_device_waiting() {
  local round moment again seed
  waiting_script
  add_recoverable wait queues=2
  fill "$dev" 0 4096 77
  kill_server wait
  seed=${RECOVER_SEED:-$((SRANDOM % 32768))}
  echo "RECOVER_SEED=$seed"
  RANDOM=$seed
  for ((round = 0; round < kills; round++)); do
    moment=$((RANDOM % 300))
    echo "round $round: killed after $moment ms"
    ublk-script recover "$id" >answer 2>&1 &
    again=$!
    sleep "0.$(printf %03d $moment)"
    # whatever there is by now: the command, its server, the process beside that
    # shellcheck disable=SC2046
    kill -KILL $(processes) 2>/dev/null || true
    wait $again || true
    wait_until 20 no_process
    wait_until 40 has_state QUIESCED
  done
  # before 6.15 it may be refused, but nothing worse
  if kernel_is_at_least 6.15 || [ ! -L "$state_directory/$id.recovering" ]; then
    recover
    expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
  else
    expect_status 1 ublk-script recover "$id"
    expect_output "can crash this kernel" "ublk-script del $id"
  fi
  expect_status 0 ublk-script del "$id"
  no_leftovers
}

no_process() { [ -z "$(processes)" ]; }

# The server is killed after START_USER_RECOVERY and before its queues are up, for which its script takes some time.
t_a_second_recovery_that_could_crash_the_kernel_is_refused() {
  local again mark deadline
  script slow <<'LUA'
    device { size = "16M" }
    for _ = 1, 3000000 do end
LUA
  add_device slow --file disk.img recovery=wait queues=2
  mark="$state_directory/$id.recovering"
  fill "$dev" 0 4096 77
  kill_server wait
  if kernel_is_at_least 6.15; then
    # nobody looks at it
    ln -s 1 "$mark"
    recover
    expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
    expect_status 0 ublk-script del "$id"
    no_leftovers
    return
  fi
  ublk-script recover "$id" >answer 2>&1 &
  again=$!
  deadline=$((SECONDS + 20))
  until [ -L "$mark" ]; do
    [ $SECONDS -lt $deadline ] || fail "no mark was made: $(<answer)"
  done
  kill -KILL "$(readlink "$mark")"
  wait $again && fail "it is recovered"
  wait_until 20 no_process
  wait_until 40 has_state QUIESCED
  expect_status 1 ublk-script recover "$id"
  expect_output "broke off before all its queues were up" "can crash this kernel ($(uname -r)" "ublk-script del $id"
  # as the next server of --restart comes
  expect_status 1 ublk-script recover "$id" --quiet --deaths=1
  expect_output "ublk-script del $id"
  expect_equal "state" "$(state_of "$id")" QUIESCED
  expect_status 0 ublk-script del "$id"
  no_leftovers
  # the number and the file are as good as before
  add_device slow -n "$id" --file disk.img recovery=wait queues=2
  kill_server wait
  recover
  expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
  ublk-script del "$id"
}

# Ctrl-C while it comes up, too.
t_a_recover_that_is_interrupted_leaves_the_device_waiting_or_served() {
  waiting_script
  add_recoverable wait
  kill_server wait
  timeout -s INT 0.1 ublk-script recover "$id" || true
  wait_until 10 settled
  has_state LIVE || recover
  expect_equal "a read" "$(read_errno "$dev" 0 4096)" ok
}

settled() { has_state QUIESCED && no_process || has_state LIVE; }

# The server has every request of the queue.
t_a_server_with_a_full_queue_dies_and_is_replaced() {
  kernel_is_at_least 6.15 || [ "$long" = 1 ] || skip "kernels before 6.15 notice it after 30 s only"
  waiting_script
  add_recoverable reissue depth=1
  ublk-script ctl "$id" on
  start_reading read $((1 << 20))
  wait_until 10 holds 1
  kill -KILL "$server"
  wait_until 10 has_ended "$server"
  recover
  wait_until 10 holds 1
  ublk-script ctl "$id" release
  wait $reader
  expect_equal "the IO under way" "$(<read)" ok
  ublk-script del "$id"
}

# ---- quiesce ----

needs_quiesce() { driver_has QUIESCE || skip "the driver can do this from 6.16 on"; }

# An upgrade of the server: fio sees nothing of it.
expect_upgrades() { # MODE
  local load round
  needs_quiesce
  waiting_script
  add_recoverable "$1" queues=2
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bs=4k --offset=5M --size=4M --iodepth=16 \
    --verify=crc32c --verify_backlog=256 --time_based --runtime=1000 >fio.out 2>&1 &
  load=$!
  for round in 1 2 3; do
    wait_until 20 writes_arrive
    expect_status 0 ublk-script quiesce "$id"
    wait_until 10 has_state QUIESCED
    has_ended "$server" || fail "round $round: the server goes on"
    recover
  done
  wait_until 20 writes_arrive
  jobs -rp | has_line -x $load || { cat fio.out && fail "fio ended before its time"; }
  kill -INT $load
  wait $load || true # it says that it was interrupted
  grep -q "err= 0" fio.out && ! grep -q "verify:" fio.out || { cat fio.out && fail "fio saw an error"; }
  ublk-script del "$id"
}

t_an_upgrade_with_wait_is_no_IO_error() { expect_upgrades wait; }
t_an_upgrade_with_reissue_is_no_IO_error() { expect_upgrades reissue; }

# What a server holds when it is quiesced.
expect_held_at_quiesce() { # MODE WHAT-THE-IO-GETS
  needs_quiesce
  waiting_script
  add_recoverable "$1"
  ublk-script ctl "$id" on
  start_reading read $((1 << 20))
  wait_until 10 holds 1
  expect_status 0 ublk-script quiesce "$id"
  wait_until 10 has_state QUIESCED
  recover
  if [ "$2" = ok ]; then
    wait_until 10 holds 1
    ublk-script ctl "$id" release
  fi
  wait $reader
  expect_equal "the IO that was held" "$(<read)" "$2"
  ublk-script del "$id"
}

t_quiesce_ends_what_is_held_with_wait() { expect_held_at_quiesce wait EIO; }
t_quiesce_leaves_what_is_held_to_the_next_server_with_reissue() { expect_held_at_quiesce reissue ok; }

t_a_device_that_cannot_be_quiesced_goes_on() {
  waiting_script
  add_device waiting --file disk.img
  expect_status 1 ublk-script quiesce "$id"
  expect_output "added without recovery"
  expect_equal "a fault" "$(read_errno "$dev" $((4 << 20)) 4096)" ENODATA
  ublk-script del "$id"
  driver_has QUIESCE && return
  add_recoverable wait
  expect_status 1 ublk-script quiesce "$id"
  expect_output "UBLK_F_QUIESCE" "6.16"
  expect_equal "a fault" "$(read_errno "$dev" $((4 << 20)) 4096)" ENODATA
}

# ---- add --restart ----

is_served_by_another() { # PID
  local record
  record=$(ublk-script list "$id" --json)
  server=$(json_value serverPID <<<"$record")
  # without a server it is -1, which no kill may get
  [ "$(json_value state <<<"$record")" = LIVE ] && [ "$server" -gt 1 ] && [ "$server" != "$1" ] &&
    ublk-script ctl "$id" stats >/dev/null 2>&1
}

t_with_restart_another_server_comes_by_itself_until_they_die_too_quickly() {
  local round before
  waiting_script
  expect_status 1 ublk-script add waiting.lua --file disk.img --restart
  expect_output "recovery=wait, reissue or fail"
  add_recoverable reissue --restart
  expect_status 0 ublk-script list "$id"
  expect_output "restarted by itself"
  fill "$dev" 0 4096 77
  for round in 1 2 3 4 5; do
    before=$server
    kill -KILL "$server"
    wait_until 60 is_served_by_another "$before"
    expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
  done
  kill -KILL "$server"
  wait_until 20 grep -q "it is not started again" "$state_directory/$id.log"
  wait_until 40 has_state QUIESCED
  expect_status 0 ublk-script list "$id"
  expect_output "ublk-script recover $id"
  recover
  expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
  ublk-script del "$id"
  sleep 1.5
  no_leftovers
}

t_with_restart_a_server_that_is_killed_while_it_comes_up_is_followed_by_another() {
  local first next queues=2
  # before 6.15 the driver takes one queue's device back only when all of it was fetched
  kernel_is_at_least 6.15 || queues=1
  # it takes a second or two to come up
  script slow <<'LUA'
    device { size = "16M" }
    for _ = 1, 3000000 do end
LUA
  add_device slow --file disk.img recovery=wait queues=$queues --restart
  fill "$dev" 0 4096 77
  first=$server
  kill -KILL "$first"
  wait_until 60 comes_up_again
  kill -KILL "$next"
  wait_until 60 is_served_by_another "$first"
  [ "$server" != "$next" ] || fail "it was not killed"
  expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
  grep -q "died before it served device $id .*another one is started" "$state_directory/$id.log" || fail "the log does not tell"
  ublk-script del "$id"
  sleep 1.5
  no_leftovers
}

# Sets next.
comes_up_again() { next=$(pgrep -of '^ublk-script serve-again '); }

# The next one is started from the namespace of the last one, in which nothing is mounted.
t_with_restart_the_next_server_finds_a_file_that_is_on_another_filesystem() {
  local before
  waiting_script
  mkdir mnt
  mount -t tmpfs none mnt
  local device
  # it is only found through a symbolic link, and the folder of add is elsewhere
  mkdir mnt/deep
  ln -s "$work/mnt/deep" link
  device=$(ublk-script add waiting.lua --file link/disk.img recovery=wait --restart --json)
  dev=$(json_value path <<<"$device") id=$(json_value id <<<"$device") server=$(json_value serverPID <<<"$device")
  fill "$dev" 0 4096 77
  before=$server
  kill -KILL "$server"
  wait_until 60 is_served_by_another "$before"
  expect_equal "the data" "$(bytes_in "$dev" 0 4096)" 77
  ublk-script del "$id"
  sleep 1.5
  no_leftovers
  umount mnt
}

t_with_restart_a_device_that_is_stopped_deleted_or_quiesced_stays_so() {
  waiting_script
  add_recoverable wait --restart
  expect_status 0 ublk-script stop "$id"
  sleep 1.5
  expect_equal "state" "$(state_of "$id")" DEAD
  ublk-script del "$id"
  sleep 1.5
  no_leftovers
  driver_has QUIESCE || return 0
  add_recoverable wait --restart
  expect_status 0 ublk-script quiesce "$id"
  sleep 1.5
  expect_equal "state" "$(state_of "$id")" QUIESCED
  [ -z "$(processes)" ] || fail "there is a server: $(processes)"
}

run_cases "$@"
