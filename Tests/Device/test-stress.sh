#!/bin/bash
# time limit: 240
# A device that is deleted, whose server is killed, or that is served again, under heavy IO: in each data mode, with 1,
# 2 and 4 queues, at depth 1, 128 and 4096. At the end every block has what was acknowledged.
#
# Each mode meets one end, with another number of queues or another depth each time; DEVICE_TEST_LONG=1 does all of
# everything (DEVICE_TEST_PATIENCE=10). Where the machine has fewer CPUs than queues are asked for the driver gives as
# many as there are: scripts/vm --cpus 4 is for four.
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/acknowledged.sh"

long=${DEVICE_TEST_LONG:-0}
modes=(copy need_get_data user_copy zero_copy auto_buf shared_memory batch)
all_queues=(1 2 4)
depths=(1 128 4096)
recoveries=(wait reissue fail)

is_offered() { # MODE
  case $1 in
    zero_copy) driver_has SUPPORT_ZERO_COPY ;;
    auto_buf) driver_has AUTO_BUF_REG ;;
    shared_memory) driver_has SHMEM_ZC ;;
    batch) driver_has BATCH_IO ;;
    *) true ;;
  esac
}

# Has END happen to devices in that mode.
under_stress() { # MODE END
  local mode=$1 end=$2 m e queues depth
  is_offered "$mode" || skip "the driver does not have what the mode $mode takes"
  if [ "$long" = 1 ]; then
    for queues in "${all_queues[@]}"; do
      for depth in "${depths[@]}"; do
        "is_$end" "$mode" "$queues" "$depth"
      done
    done
    return
  fi
  m=$(index_of "$mode" "${modes[@]}")
  e=$(index_of "$end" deleted killed served_again)
  [ $(((m + e) % 3)) = 0 ] || skip "takes long: DEVICE_TEST_LONG=1"
  "is_$end" "$mode" "${all_queues[m % 3]}" "${depths[(m + 1 + m / 3) % 3]}"
}

index_of() { # WORD WORD...
  local word=$1 index=0
  while shift && [ "$1" != "$word" ]; do index=$((index + 1)); done
  echo $index
}

# A disk on a file, its first 128 KiB written by four writers, the rest by fio; both go on.
start_stress() { # MODE QUEUES DEPTH [OPTION...]
  local mode=$1 queues=$2 depth=$3
  shift 3
  echo "data=$mode queues=$queues depth=$depth $*"
  rm -f disk.img
  [ "$mode" != batch ] || [ "$depth" -gt 1 ] || depth=2 # of one tag the driver makes none in batches
  # the command line may not ask for more queues than there are CPUs
  script disk <<<"device { size = '16M', queues = $queues, depth = $depth, max_io = '64K' }"
  add_device disk "data=$mode" --file disk.img "$@"
  start_load "$depth"
}

# fio has up to half of a queue's tags: a server that has all of them is another case.
start_load() { # DEPTH
  start_writers
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bsrange=4k-64k --offset=1M --size=15M \
    --iodepth=$((($1 + 1) / 2)) --time_based --runtime=1000 >fio.out 2>&1 &
  load=$!
  wait_until 30 is_busy
}

is_busy() { [ "$(counter write)" -gt 100 ] && [ "$(counter read)" -gt 50 ]; }

has_state() { # STATE
  [ "$(state_of "$id")" = "$1" ]
}

# The servers of kernels before 6.15 that have every request of a queue are missed after 30 s only.
needs_a_free_tag() { # DEPTH
  [ "$1" != 1 ] || kernel_is_at_least 6.15 || [ "$long" = 1 ] ||
    skip "kernels before 6.15 notice the death of a server with a full queue after 30 s only"
}

load_has_failed() { ! wait $load || fail "fio says that all of its IO succeeded"; }

is_deleted() { # MODE QUEUES DEPTH
  local started
  start_stress "$@"
  started=$(now_ms)
  ublk-script del "$id"
  expect_within del "$started" 10000
  load_has_failed
  end_writers
  expect_blocks disk.img
  no_leftovers
}

is_killed() { # MODE QUEUES DEPTH
  needs_a_free_tag "$3"
  start_stress "$@"
  kill -KILL "$server"
  load_has_failed
  end_writers
  wait_until 40 has_state DEAD
  ublk-script del "$id"
  expect_blocks disk.img
  no_leftovers
}

# With each mode of recovery in turn.
is_served_again() { # MODE QUEUES DEPTH
  local recovery
  needs_a_free_tag "$3"
  if [ "$long" = 1 ]; then
    for recovery in "${recoveries[@]}"; do is_recovered "$@" "$recovery"; done
  else
    recovery=${recoveries[$(index_of "$1" "${modes[@]}") % 2]}
    is_recovered "$@" "$recovery"
  fi
}

is_recovered() { # MODE QUEUES DEPTH RECOVERY
  [ "$4" != fail ] || driver_has USER_RECOVERY_FAIL_IO || return 0
  start_stress "$1" "$2" "$3" "recovery=$4"
  kill_and_serve_again "$4"
  finish_load "$4"
  end_writers
  expect_blocks "$dev"
  ublk-script del "$id"
  expect_blocks disk.img
  no_leftovers
}

kill_and_serve_again() { # RECOVERY
  kill -KILL "$server"
  wait_until 40 has_ended "$server"
  if [ "$1" = fail ]; then wait_until 40 has_state FAIL_IO; else wait_until 40 has_state QUIESCED; fi
  server=$(ublk-script recover "$id" --json | json_value serverPID)
  expect_equal "state" "$(state_of "$id")" LIVE
}

# With reissue fio has not seen an error, and goes on; else it may have ended with one.
finish_load() { # RECOVERY
  if [ "$1" = reissue ]; then
    wait_until 30 is_busy
    jobs -rp | has_line -x $load || { cat fio.out && fail "fio ended before its time"; }
  fi
  kill -INT $load 2>/dev/null || true
  wait $load || true # it says that it was interrupted
  [ "$1" != reissue ] || has_line "err= 0" fio.out || { cat fio.out && fail "fio saw an error"; }
}

t_a_busy_device_in_copy_mode_is_deleted() { under_stress copy deleted; }
t_a_busy_device_with_announced_writes_is_deleted() { under_stress need_get_data deleted; }
t_a_busy_device_with_user_copy_is_deleted() { under_stress user_copy deleted; }
t_a_busy_device_with_zero_copy_is_deleted() { under_stress zero_copy deleted; }
t_a_busy_device_with_pages_lent_unasked_is_deleted() { under_stress auto_buf deleted; }
t_a_busy_device_that_shares_memory_is_deleted() { under_stress shared_memory deleted; }
t_a_busy_device_in_batches_is_deleted() { under_stress batch deleted; }

t_a_busy_server_in_copy_mode_is_killed() { under_stress copy killed; }
t_a_busy_server_with_announced_writes_is_killed() { under_stress need_get_data killed; }
t_a_busy_server_with_user_copy_is_killed() { under_stress user_copy killed; }
t_a_busy_server_with_zero_copy_is_killed() { under_stress zero_copy killed; }
t_a_busy_server_with_pages_lent_unasked_is_killed() { under_stress auto_buf killed; }
t_a_busy_server_that_shares_memory_is_killed() { under_stress shared_memory killed; }
t_a_busy_server_in_batches_is_killed() { under_stress batch killed; }

t_a_busy_device_in_copy_mode_is_served_again() { under_stress copy served_again; }
t_a_busy_device_with_announced_writes_is_served_again() { under_stress need_get_data served_again; }
t_a_busy_device_with_user_copy_is_served_again() { under_stress user_copy served_again; }
t_a_busy_device_with_zero_copy_is_served_again() { under_stress zero_copy served_again; }
t_a_busy_device_with_pages_lent_unasked_is_served_again() { under_stress auto_buf served_again; }
t_a_busy_device_that_shares_memory_is_served_again() { under_stress shared_memory served_again; }
t_a_busy_device_in_batches_is_served_again() { under_stress batch served_again; }

# Its legs are looked at through the device only. Afterwards it takes a filesystem.
t_a_busy_stripe_of_files_is_served_again() {
  ublk-script faults stripe --source | script stripe
  add_device stripe size=16M queues=2 depth=128 "path=$work/leg" backing=null recovery=reissue
  start_load 128
  kill_and_serve_again reissue
  finish_load reissue
  end_writers
  expect_blocks "$dev"
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  cp blocks mnt/blocks
  umount mnt
  e2fsck -fn "$dev"
  ublk-script del "$id"
  no_leftovers
}

# A target that keeps nothing: nothing slows the requests down.
null_under_stress() { # MODE
  script null <<<'device { size = "1G", backing = "null", queues = 2 }'
  add_device null "data=$1"
  fio --name=load --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=128 --time_based \
    --runtime=1000 >fio.out 2>&1 &
  load=$!
  wait_until 30 is_busy
}

t_a_busy_device_that_keeps_nothing_is_deleted() {
  null_under_stress copy
  ublk-script del "$id"
  load_has_failed
  no_leftovers
}

t_a_busy_server_that_keeps_nothing_is_killed() {
  local mode=user_copy
  ! is_offered zero_copy || mode=zero_copy
  null_under_stress $mode
  kill -KILL "$server"
  load_has_failed
  wait_until 40 has_state DEAD
  ublk-script del "$id"
  no_leftovers
}

run_cases "$@"
