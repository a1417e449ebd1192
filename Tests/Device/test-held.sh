#!/bin/bash
# time limit: 300
# Held IOs against each way a device can end, or be changed under them: 1 of them, and 4096, which is all that a queue can
# have. 5 s later everybody has an answer and no process is stuck.
#
# Cells that are elsewhere: 64 IOs against del, stop, SIGTERM and SIGINT, a flush, a mounted filesystem (test-hang.sh); our own
# quiesce (test-recover.sh); a server that is killed or stopped while another program's command waits, and writeback
# (test-kill-grid.sh); a server that is stopped or stuck while it holds one (test-patience.sh).
. "$(dirname "$0")/lib.sh"

# Reads of the second 16 MiB hang. With one IO its queue has a tag to spare; 4096 take all of the queue, or half of each
# of two.
held_script() { # COUNT QUEUES
  script held <<LUA
    device { size = "48M", queues = $2, depth = $(($1 == 1 ? 2 : $1)), max_io = "4K" }
    rule { op = "read", range = { "16M", "16M" }, hang = true }
LUA
}

# Makes a device of QUEUES queues that holds COUNT reads; sets user, the process that waits for them.
hold() { # COUNT QUEUES [OPTION...]
  local count=$1 jobs
  held_script "$1" "$2"
  add_device held "${@:3}"
  jobs=$(find "/sys/block/ublkb$id/mq" -mindepth 1 -maxdepth 1 | wc -l) # it has no more queues than there are CPUs
  if [ "$count" = 1 ]; then
    dd if="$dev" of=/dev/null bs=4k count=1 skip=16M iflag=direct,skip_bytes 2>user.out &
  else
    echo none >"/sys/block/ublkb$id/queue/scheduler" # another one lets 256 through at most
    fio --name=held --filename="$dev" --direct=1 --ioengine=libaio --rw=read --bs=4k --numjobs="$jobs" \
      --cpus_allowed=0-$((jobs - 1)) --cpus_allowed_policy=split --iodepth=$((count / jobs)) --iodepth_batch=256 \
      --offset=16M --offset_increment=$((count * 4096 / jobs)) --size=$((count * 4096 / jobs)) --group_reporting >user.out 2>&1 &
  fi
  user=$!
  wait_until 30 holds "$count"
}

# From STARTED on the processes have 5 s to end.
expect_ends() { # STARTED WHAT PID...
  local started=$1 what=$2
  shift 2
  expect_end_of_all 25 "$what" "$@"
  expect_within "$what" "$started" $((5000 * ${DEVICE_TEST_PATIENCE:-1}))
}

user_fails() { ! wait "$user" || fail "it was told that all of its reads succeeded: $(<user.out)"; }
user_succeeds() { wait "$user" || fail "it was told that a read failed: $(<user.out)"; }

# ---- an end by us ----

# A command, or a signal for the server, that deletes the device.
expect_deletion() { # COUNT COMMAND...
  local started
  hold "$1" 1
  shift
  started=$(now_ms)
  "$@"
  expect_ends "$started" "$*" "$user" "$server"
  user_fails
  wait_until 5 is_gone "$id"
}

give_to_device() { ublk-script "$1" "$id"; }
signal_server() { kill "-$1" "$server"; }

t_del_ends_1_held_IO() { expect_deletion 1 give_to_device del; }
t_del_ends_4096_held_IOs() { expect_deletion 4096 give_to_device del; }
t_SIGTERM_ends_1_held_IO() { expect_deletion 1 signal_server TERM; }
t_SIGTERM_ends_4096_held_IOs() { expect_deletion 4096 signal_server TERM; }

expect_stop() { # COUNT
  local started
  hold "$1" 1
  started=$(now_ms)
  ublk-script stop "$id"
  expect_ends "$started" "stop" "$user" "$server"
  user_fails
  expect_equal "state" "$(state_of "$id")" DEAD
  ublk-script del "$id"
  no_leftovers
}

t_stop_ends_1_held_IO() { expect_stop 1; }
t_stop_ends_4096_held_IOs() { expect_stop 4096; }

# ---- a dead server ----

expect_SIGKILL() { # COUNT
  local started queues=1
  # before, nobody notices the death of one that has all of a queue until a request is 30 s old
  kernel_is_at_least 6.15 || queues=2
  hold "$1" "$queues"
  started=$(now_ms)
  kill -KILL "$server"
  expect_ends "$started" "SIGKILL" "$user" "$server"
  user_fails
  ublk-script del "$id"
  no_leftovers
}

t_SIGKILL_ends_1_held_IO() { expect_SIGKILL 1; }
t_SIGKILL_ends_4096_held_IOs() { expect_SIGKILL 4096; }

# ---- another program ----

# Starts another program that gives COMMAND; sets foreign.
give_from_outside() { # COMMAND [DATA]
  ublk-script raw "$1" "$id" "${@:2}" >foreign.out 2>&1 &
  foreign=$!
}

expect_foreign_end() { # COUNT COMMAND [OPTION...]
  local started
  hold "$1" 1 "${@:3}"
  started=$(now_ms)
  give_from_outside "$2"
  expect_ends "$started" "$2" "$user" "$foreign" "$server"
  user_fails
  wait "$foreign" || fail "$2 failed: $(<foreign.out)"
  [ -z "$(leftovers)" ] || ublk-script del "$id"
  wait_until 5 is_gone "$id"
}

t_another_programs_STOP_DEV_ends_1_held_IO() { expect_foreign_end 1 STOP_DEV; }
t_another_programs_STOP_DEV_ends_4096_held_IOs() { expect_foreign_end 4096 STOP_DEV; }
t_another_programs_DEL_DEV_ends_1_held_IO() { expect_foreign_end 1 DEL_DEV; }
t_another_programs_DEL_DEV_ends_4096_held_IOs() { expect_foreign_end 4096 DEL_DEV; }
t_another_programs_DEL_DEV_ASYNC_ends_64_held_IOs() { expect_foreign_end 64 DEL_DEV_ASYNC; }

# Of such a device the kernel keeps the disk until the last IO is over.
t_another_programs_STOP_DEV_ends_64_held_IOs_of_a_device_with_recovery() {
  expect_foreign_end 64 STOP_DEV --file disk.img recovery=reissue
}

# The device waits for the next server, which gets what was held (FATE waits) or finds it answered.
expect_foreign_quiesce() { # COUNT RECOVERY FATE
  local started queues=1
  driver_has QUIESCE || skip "the driver can do this from 6.16 on"
  # one that has no tag left is not told: docs/operating.md
  [ "$1" = 1 ] || queues=2
  hold "$1" "$queues" --file disk.img recovery="$2"
  started=$(now_ms)
  give_from_outside QUIESCE_DEV 1000
  expect_ends "$started" "QUIESCE_DEV" "$foreign" "$server"
  wait "$foreign" || fail "it failed: $(<foreign.out)"
  if [ "$3" = waits ]; then
    ! has_ended "$user" || fail "what was held has an end: $(<user.out)"
  else
    expect_ends "$started" "QUIESCE_DEV" "$user"
    user_fails
  fi
  expect_equal "state" "$(state_of "$id")" QUIESCED
  ublk-script recover "$id" --quiet
  expect_equal "a read" "$(read_errno "$dev" 0 4096)" ok
  if [ "$3" = waits ]; then
    wait_until 30 holds "$1"
    started=$(now_ms)
    ublk-script ctl "$id" release || true
    expect_ends "$started" "release" "$user"
    user_succeeds
  fi
  ublk-script del "$id"
  no_leftovers
}

t_another_programs_QUIESCE_DEV_ends_1_held_IO() { expect_foreign_quiesce 1 wait fails; }
t_another_programs_QUIESCE_DEV_ends_4096_held_IOs() { expect_foreign_quiesce 4096 wait fails; }
t_another_programs_QUIESCE_DEV_leaves_1_held_IO_to_the_next_server() { expect_foreign_quiesce 1 reissue waits; }
t_another_programs_QUIESCE_DEV_leaves_4096_held_IOs_to_the_next_server() { expect_foreign_quiesce 4096 reissue waits; }

# ---- another script ----

# What is held stays so, and ends as the script meant that holds it.
expect_reload() { # COUNT
  local started
  hold "$1" 1
  started=$(now_ms)
  ublk-script reload "$id" -e "device { size = '48M', depth = $(($1 == 1 ? 2 : $1)), max_io = '4K' }"
  expect_within "reload" "$started" 5000
  holds "$1" || fail "held are $(counter held_now)"
  started=$(now_ms)
  ublk-script ctl "$id" release || true # a queue that takes longer than the answer may goes on with it
  expect_ends "$started" "release" "$user"
  user_succeeds
  expect_equal "a read that hung before" "$(read_errno "$dev" 16M 4096)" ok
}

t_a_reload_keeps_1_held_IO() { expect_reload 1; }
t_a_reload_keeps_4096_held_IOs() { expect_reload 4096; }

run_cases "$@"
