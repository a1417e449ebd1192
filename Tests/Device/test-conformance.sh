#!/bin/bash
# time limit: 240
# Every command and flag of the driver: tried on the running kernel and held against its column of the table in
# docs/protocol.md. What each case has seen goes to $scratch/rows; with CONFORMANCE_PRINT=1 the last one prints the
# table with the running kernel's column as it should be, to be pasted there.
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/users.sh"

document=$tests/../../docs/protocol.md
exec 3>&1 # a case's own output is shown only when it fails

# ---- the table ----

# Rows of the document with the states seen in place of the running kernel's, the others as they are; of a kernel
# that has no column, one is added.
table() {
  awk -F ' *[|] *' -v release="$(uname -r)" -v rows="$scratch/rows" '
    BEGIN { while ((getline <rows) > 0) seen[$1 " " $2] = $3 }
    inside && !/^[|]/ { exit }
    $2 == "kind" {
      inside = 1
      split(release, number, ".")
      for (n = 4; n < NF; n++) if (index($n, number[1] "." number[2] ".") == 1) column = n
      last = column ? NF - 1 : NF
      if (!column) column = NF
      $column = release
    }
    !inside { next }
    $2 ~ /^---/ { $column = "---" }
    ($2 " " $3) in seen { $column = seen[$2 " " $3] }
    {
      line = "|"
      for (n = 2; n <= last; n++) line = line ($2 ~ /^---/ ? "---|" : " " $n " |")
      print line
    }' "$document"
}

# Of a series that is in the document, though of another build of it.
has_column() {
  has_line "^| kind | name |.* $(uname -r | cut -d. -f1,2)\\." "$document"
}

# Notes what was seen of some rows.
state() { # STATE KIND NAME...
  local state=$1 kind=$2 name
  shift 2
  for name; do echo "$kind | $name | $state" | tee -a seen >>"$scratch/rows"; done
}

works() { state works "$@"; }
is_lacking() { state "not in this kernel" "$@"; }

# At the end of a case: each row of what was seen is in the document.
rows_agree() {
  has_column || skip "docs/protocol.md has no column for $(uname -r)"
  table | awk -F ' *[|] *' 'FNR == NR { seen[$1 " " $2]; next } ($2 " " $3) in seen' seen - >rows
  [ "$(wc -l <rows)" = "$(wc -l <seen)" ] || fail "docs/protocol.md has no row for some of these:
$(<seen)"
  ! grep -vxFf "$document" rows >differ || fail "docs/protocol.md differs from $(uname -r); the rows wanted:
$(<differ)"
}

# For what ublk-script has nothing for.
is_missing() { # FLAG KIND NAME...
  local flag=$1
  shift
  [ -e features ] || ublk-script features >features
  if grep -q "^$flag .* yes " features; then state "not yet" "$@"; else is_lacking "$@"; fi
}

# A device that needs the flag is refused before anything is made.
is_refused() { # FLAG OPTION...
  local flag=$1
  shift
  expect_status 1 ublk-script add -e 'device { size = "16M", file = "refused.img" }' "$@"
  expect_output "$flag" "from kernel"
  [ ! -e refused.img ] || fail "a file was made"
  no_leftovers
}

# Another program gets EOPNOTSUPP; some kernels of 6.13 had an errno of their own.
has_no_command() { # COMMAND
  expect_status 1 ublk-script raw "$1" "$id" 65536
  expect_output "$1 of device $id failed"
  expect_equal "a read after it" "$(read_errno "$dev" 0 4096)" ok
}

# ---- devices ----

plain_script() { script plain <<<'device { size = "16M", depth = 4 }'; }

has_flag() { # BIT
  local flags
  flags=$(ublk-script list "$id" --json | json_value features)
  ((flags >> $1 & 1))
}

expect_flag() { # BIT
  has_flag "$1" || fail "the device does not have flag $1"
}

# Data that went through the device is there, in the file of its store too.
keeps_data() {
  head -c 256K /dev/urandom >data
  dd if=data of="$dev" bs=16K oflag=direct conv=notrunc status=none
  dd if="$dev" of=back bs=16K count=16 iflag=direct status=none
  cmp data back
  [ ! -e disk.img ] || cmp -n 262144 data disk.img
}

# The trace of the device: the commands that the server has given, and a read.
trace_of_a_read() {
  ublk-script trace "$id" --seconds 3 >trace &
  while jobs -rp | has_line .; do
    dd if="$dev" of=/dev/null bs=4K count=1 iflag=direct status=none
    sleep 0.2
  done
  wait
}

was_given() { # COMMAND...
  local name
  for name; do grep -Eq " $name +result 0 in" trace || fail "no $name in the trace: $(<trace)"; done
}

# ---- a device from its beginning to its end ----

t_a_device_comes_up_and_serves() {
  local queue
  plain_script
  add_device plain queues=2
  trace_of_a_read
  was_given GET_FEATURES ADD_DEV SET_PARAMS GET_PARAMS GET_QUEUE_AFFINITY START_DEV GET_DEV_INFO
  grep -q 'ADD_DEV .*CMD_IOCTL_ENCODE' trace
  [ -c "/dev/ublkc$id" ]
  expect_equal "size" "$(blockdev --getsize64 "$dev")" $((16 << 20))
  expect_equal "state" "$(state_of "$id")" LIVE
  expect_status 0 ublk-script list -v "$id"
  for queue in /sys/block/ublkb"$id"/mq/*; do
    expect_output "queue ${queue##*/}: tags 0 to 3"
    grep -q "queue ${queue##*/}: .* on CPUs\? $(<"$queue/cpu_list")" <<<"$output" || fail "other CPUs: $output"
  done
  works control GET_FEATURES ADD_DEV SET_PARAMS GET_PARAMS GET_QUEUE_AFFINITY START_DEV GET_DEV_INFO
  grep -q " FETCH_REQ " trace && grep -q " COMMIT_AND_FETCH_REQ .*result 4096" trace
  works io FETCH_REQ COMMIT_AND_FETCH_REQ
  expect_flag 1
  works flag URING_CMD_COMP_IN_TASK
  expect_flag 6
  works flag CMD_IOCTL_ENCODE
  is_set_by_the_driver PER_IO_DAEMON 13
  is_set_by_the_driver BUF_REG_OFF_DAEMON 14
  rows_agree
}

# A flag that nobody asks for and each device has: the server lives with it.
is_set_by_the_driver() { # FLAG BIT
  if driver_has "$1"; then
    expect_flag "$2"
    works flag "$1"
  else
    ! has_flag "$2" || fail "the device has $1, which the driver does not list"
    is_lacking flag "$1"
  fi
}

t_a_device_is_stopped_and_deleted() {
  plain_script
  add_device plain
  ublk-script stop "$id"
  [ ! -e "$dev" ] && [ -c "/dev/ublkc$id" ]
  expect_equal "state" "$(state_of "$id")" DEAD
  works control STOP_DEV
  ublk-script del "$id"
  no_leftovers
  works control DEL_DEV_ASYNC
  # of another program
  add_device plain
  ublk-script raw DEL_DEV "$id"
  wait_until 10 is_gone "$id"
  works control DEL_DEV
  rows_agree
}

t_a_disk_in_use_is_not_stopped() {
  plain_script
  add_device plain
  if driver_has SAFE_STOP_DEV; then
    expect_flag 17
    exec 4<"$dev"
    expect_status 1 ublk-script stop --safe "$id"
    expect_equal "state" "$(state_of "$id")" LIVE
    exec 4<&-
    ublk-script stop --safe "$id"
    expect_equal "state" "$(state_of "$id")" DEAD
    works control TRY_STOP_DEV
    works flag SAFE_STOP_DEV
  else
    has_no_command TRY_STOP_DEV
    expect_status 1 ublk-script stop --safe "$id"
    expect_output TRY_STOP_DEV
    expect_equal "state" "$(state_of "$id")" LIVE
    is_lacking control TRY_STOP_DEV
    is_lacking flag SAFE_STOP_DEV
  fi
  rows_agree
}

t_a_running_disk_gets_another_size() {
  plain_script
  add_device plain
  if driver_has UPDATE_SIZE; then
    ublk-script resize "$id" 32M
    expect_equal "size" "$(blockdev --getsize64 "$dev")" $((32 << 20))
    fill "$dev" 31M 4096 5a
    expect_equal "its end" "$(bytes_in "$dev" 31M 4096)" 5a
    works control UPDATE_SIZE
    works flag UPDATE_SIZE
  else
    has_no_command UPDATE_SIZE
    expect_status 1 ublk-script resize "$id" 32M
    expect_output UPDATE_SIZE
    expect_equal "size" "$(blockdev --getsize64 "$dev")" $((16 << 20))
    is_lacking control UPDATE_SIZE
    is_lacking flag UPDATE_SIZE
  fi
  rows_agree
}

t_the_partition_table_is_read_when_the_server_is_ready() {
  plain_script
  truncate -s 16M disk.img
  echo 'start=2048, size=8192' | sfdisk -q disk.img
  add_device plain --file disk.img
  [ -b "${dev}p1" ] || fail "there is no ${dev}p1"
  if driver_has NO_AUTO_PART_SCAN; then
    expect_flag 18
    works flag NO_AUTO_PART_SCAN
  else
    is_lacking flag NO_AUTO_PART_SCAN
  fi
  ublk-script del "$id"
  rows_agree
}

# ---- the ways to the data ----

t_a_write_is_announced_before_its_data_comes() {
  plain_script
  add_device plain data=need_get_data --file disk.img
  expect_flag 2
  keeps_data
  works flag NEED_GET_DATA
  works io NEED_GET_DATA
  rows_agree
}

t_the_server_copies_data_itself() {
  plain_script
  add_device plain data=user_copy --file disk.img
  expect_flag 7
  keeps_data
  works flag USER_COPY
  rows_agree
}

t_the_pages_of_a_request_are_lent() {
  if driver_has SUPPORT_ZERO_COPY; then
    plain_script
    add_device plain data=zero_copy --file disk.img
    expect_flag 0
    keeps_data
    works flag SUPPORT_ZERO_COPY
    works io REGISTER_IO_BUF UNREGISTER_IO_BUF
  else
    is_refused SUPPORT_ZERO_COPY data=zero_copy
    is_lacking flag SUPPORT_ZERO_COPY
    is_lacking io REGISTER_IO_BUF UNREGISTER_IO_BUF
  fi
  rows_agree
}

t_the_driver_lends_the_pages_unasked() {
  if driver_has AUTO_BUF_REG; then
    plain_script
    add_device plain data=auto_buf --file disk.img
    expect_flag 11
    keeps_data
    works flag AUTO_BUF_REG
  else
    is_refused AUTO_BUF_REG data=auto_buf
    is_lacking flag AUTO_BUF_REG
  fi
  rows_agree
}

# A program has the memory mapped, and its IO is not copied; then the device is deleted while it has the disk open.
t_memory_is_shared_with_a_program() {
  if ! driver_has SHMEM_ZC; then
    is_refused SHMEM_ZC data=shared_memory
    is_lacking control REG_BUF UNREG_BUF
    is_lacking flag SHMEM_ZC
    rows_agree
    return
  fi
  plain_script
  add_device plain data=shared_memory --file disk.img
  expect_flag 19
  keeps_data
  expect_equal "shared IOs of programs that have not mapped it" "$(counter shared_ios)" 0
  verify_in_shared_memory
  expect_equal "IOs that were copied all the same" "$(counter shared_ios)" 512
  works flag SHMEM_ZC
  trace_of_a_read
  was_given REG_BUF
  works control REG_BUF
  # The driver has let go of the memory, whose pages cannot be told from others: the command is known to it.
  ublk-script stop "$id"
  ublk-script raw UNREG_BUF "$id"
  expect_status 1 ublk-script raw UNREG_BUF "$id"
  expect_output ENOENT
  ublk-script del "$id"
  works control UNREG_BUF
  rows_agree
}

t_tags_are_fetched_and_committed_many_at_a_time() {
  if driver_has BATCH_IO; then
    plain_script
    add_device plain data=batch --file disk.img
    expect_flag 15
    keeps_data
    works flag BATCH_IO
    works io PREP_IO_CMDS COMMIT_IO_CMDS FETCH_IO_CMDS
  else
    is_refused BATCH_IO data=batch
    is_lacking flag BATCH_IO
    is_lacking io PREP_IO_CMDS COMMIT_IO_CMDS FETCH_IO_CMDS
  fi
  rows_agree
}

# ---- another server ----

# Reads of the second MiB take 3 s.
slow_script() {
  script slow <<<'device { size = "16M" } rule { op = "read", range = { "1M", "1M" }, delay = "3s" }'
}

has_state() { # STATE
  [ "$(state_of "$id")" = "$1" ]
}

# A slow read that the server has, in the background; what it gets comes to the file fate.
start_slow_read() {
  (read_errno "$dev" $((1 << 20)) 4096 >fate.part && mv fate.part fate) &
  wait_until 10 a_read_is_in_the_server
}

a_read_is_in_the_server() { [ "$(awk '{ print $1 }' "/sys/block/ublkb$id/inflight")" = 1 ]; }

kill_server() { # STATE-AFTERWARDS
  kill -KILL "$server"
  wait_until 40 has_state "$1"
}

# Sets server.
serve_again() {
  server=$(ublk-script recover "$id" --json | json_value serverPID)
  expect_equal "state" "$(state_of "$id")" LIVE
  wait_until 20 test -e fate
}

t_a_device_outlives_its_server() {
  slow_script
  add_device slow --file disk.img recovery=wait
  expect_flag 3
  fill "$dev" 3M 4096 5a
  start_slow_read
  kill_server QUIESCED
  serve_again
  expect_equal "a read that the server had" "$(<fate)" EIO
  expect_equal "the data" "$(bytes_in "$dev" 3M 4096)" 5a
  trace_of_a_read
  was_given START_USER_RECOVERY END_USER_RECOVERY
  works control START_USER_RECOVERY END_USER_RECOVERY
  works flag USER_RECOVERY
  rows_agree
}

t_the_next_server_gets_what_the_last_one_had() {
  slow_script
  add_device slow --file disk.img recovery=reissue
  expect_flag 4
  start_slow_read
  kill_server QUIESCED
  serve_again
  expect_equal "a read that the server had" "$(<fate)" ok
  works flag USER_RECOVERY_REISSUE
  rows_agree
}

t_without_a_server_IO_fails() {
  if ! driver_has USER_RECOVERY_FAIL_IO; then
    is_refused USER_RECOVERY_FAIL_IO recovery=fail
    is_lacking flag USER_RECOVERY_FAIL_IO
    rows_agree
    return
  fi
  slow_script
  add_device slow --file disk.img recovery=fail
  expect_flag 9
  start_slow_read
  kill_server FAIL_IO
  case $(read_errno "$dev" 0 4096) in
    EIO | EREMOTEIO) ;;
    *) fail "a read without a server: $(read_errno "$dev" 0 4096)" ;;
  esac
  serve_again
  expect_equal "a read that the server had" "$(<fate)" EIO
  expect_equal "a read with one" "$(read_errno "$dev" 0 4096)" ok
  works flag USER_RECOVERY_FAIL_IO
  rows_agree
}

t_a_device_is_taken_from_its_server_without_an_error() {
  slow_script
  add_device slow --file disk.img recovery=reissue
  if driver_has QUIESCE; then
    expect_flag 12
    start_slow_read
    ublk-script quiesce "$id"
    wait_until 10 has_state QUIESCED
    has_ended "$server" || fail "the server goes on"
    serve_again
    expect_equal "a read that the server had" "$(<fate)" ok
    works control QUIESCE_DEV
    works flag QUIESCE
  else
    has_no_command QUIESCE_DEV
    expect_status 1 ublk-script quiesce "$id"
    expect_output QUIESCE
    expect_equal "state" "$(state_of "$id")" LIVE
    is_lacking control QUIESCE_DEV
    is_lacking flag QUIESCE
  fi
  rows_agree
}

# ---- users without root ----

# Only with GET_DEV_INFO2 the helper that udev runs learns whose the device is: nodes that are the user's come of it.
t_a_user_without_root_has_a_device() {
  open_to_users
  add_bobs -e 'device { size = "16M" }'
  expect_equal "the disk's node" "$(owner_of "$dev")" "$bob:$bob 600"
  expect_equal "the server's node" "$(owner_of "/dev/ublkc$id")" "$bob:$bob 600"
  works control GET_DEV_INFO2
  expect_flag 5
  as_bob dd if=/dev/urandom of="$work/run-$bob/data" bs=64K count=1 status=none
  as_bob dd if="$work/run-$bob/data" of="$dev" bs=16K oflag=direct conv=notrunc status=none
  as_bob dd if="$dev" bs=16K count=4 iflag=direct status=none | cmp - "$work/run-$bob/data"
  expect_status 1 as_user $eve ublk-script del "$id"
  expect_output "it is another user's"
  as_bob ublk-script del "$id"
  is_gone "$id"
  # of root's it tells as well, and whoever asks about one that is not his is refused
  plain_script
  add_device plain
  ublk-script give-node "ublkc$id"
  expect_equal "root's node" "$(owner_of "/dev/ublkc$id" | cut -d: -f1)" 0
  expect_status 1 as_user $eve ublk-script give-node "ublkc$id"
  works flag UNPRIVILEGED_DEV
  rows_agree
}

# ---- the rest ----

t_io_descriptors_are_as_far_apart_as_the_server_says() {
  local bytes queue
  plain_script
  if driver_has IO_DESC_SIZE; then
    for bytes in 32 256; do
      add_device plain io_desc_size=$bytes queues=2 depth=128
      expect_flag 20
      expect_equal "list -v" "$(ublk-script list -v "$id" --json | json_value ioDescBytes)" $bytes
      # A CPU sends its IO to the queue that is its own.
      for queue in 0 1; do
        fio --name=deep --filename="$dev" --cpus_allowed="$(<"/sys/block/ublkb$id/mq/$queue/cpu_list")" \
          --ioengine=libaio --iodepth=128 --direct=1 --rw=randwrite --bs=4k --size=8M --offset=$((queue * 8))M \
          --verify=crc32c --do_verify=1 --verify_fatal=1 >fio.out 2>&1 || fail "fio: $(<fio.out)"
      done
      ublk-script del "$id"
    done
    works flag IO_DESC_SIZE
  else
    is_refused IO_DESC_SIZE io_desc_size=64
    is_lacking flag IO_DESC_SIZE
  fi
  rows_agree
}

t_what_ublk_script_does_not_do_is_told() {
  is_missing ZONED flag ZONED
  is_missing INTEGRITY flag INTEGRITY
  rows_agree
}

# Runs last. Cases that were left out by name leave rows out.
t_each_flag_and_command_has_its_row_in_the_table() {
  table >wanted
  [ -z "${CONFORMANCE_PRINT:-}" ] || cat wanted >&3
  awk -F ' *[|] *' '$2 ~ /^(control|flag|io)$/ { print $2 " | " $3 }' wanted | sort >rows
  sed 's/ | [^|]*$//' "$scratch/rows" | sort >seen
  has_column || skip "docs/protocol.md has no column for $(uname -r)"
  diff rows seen || fail "rows of docs/protocol.md that nothing was seen of (<), or the other way round (>)"
  awk '$1 == "flag" { print $3 }' rows | sort >flags
  ublk-script features | awk '$3 == "yes" || $3 == "no" { print $1 }' | sort | diff - flags || fail "not all flags have a row"
  grep -qxF "$(head -n 1 wanted)" "$document" || skip "the table is of another build than $(uname -r)"
}

run_cases "$@"
