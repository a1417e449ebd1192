#!/bin/bash
# time limit: 420
# The data modes: how the data of an IO gets to the server and back. Whatever the mode, an application sees the same.
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"

# The modes that the driver has.
modes() {
  echo copy need_get_data user_copy
  ! driver_has SUPPORT_ZERO_COPY || echo zero_copy
  ! driver_has AUTO_BUF_REG || echo auto_buf
  ! driver_has SHMEM_ZC || echo shared_memory
  ! driver_has BATCH_IO || echo batch
}

needs_mode() { # MODE
  modes | has_line -w "$1" || skip "the driver does not have what the mode $1 takes"
}

t_a_device_says_which_data_mode_it_has_and_why() {
  local mode bits
  script disk <<<'device { size = "16M" }'
  for mode in auto $(modes); do
    add_device disk "data=$mode"
    expect_status 0 ublk-script list -v "$id"
    output=$(tr -s ' \n' ' ' <<<"$output")
    case $mode in
      auto) expect_output 'data copy: "auto" takes it' ;;
      *) expect_output "data $mode: data = \"$mode\" asks for it" ;;
    esac
    expect_status 0 ublk-script list "$id" --json
    expect_json list
    # SHMEM_ZC, BATCH_IO, AUTO_BUF_REG, USER_COPY, NEED_GET_DATA, SUPPORT_ZERO_COPY
    bits=$(($(json_value features <<<"$output") & 0x88885))
    case $mode in
      need_get_data) expect_equal "flags of $mode" "$bits" $((0x4)) ;;
      user_copy) expect_equal "flags of $mode" "$bits" $((0x80)) ;;
      zero_copy) expect_equal "flags of $mode" "$bits" $((0x81)) ;;
      auto_buf) expect_equal "flags of $mode" "$bits" $((0x881)) ;;
      shared_memory) expect_equal "flags of $mode" "$bits" $((0x80080)) ;;
      batch) expect_equal "flags of $mode" "$bits" $((0x8000)) ;;
      *) expect_equal "flags of $mode" "$bits" 0 ;;
    esac
    ublk-script del "$id"
  done
}

t_a_mode_that_the_driver_lacks_is_refused_with_the_kernel_that_has_it() {
  ! driver_has AUTO_BUF_REG || skip "the driver has all modes"
  script disk <<<'device { size = "16M", file = "disk.img" }'
  expect_status 1 ublk-script add disk.lua data=auto_buf
  expect_output 'data = "auto_buf"' "SUPPORT_ZERO_COPY (from kernel 6.15)" "AUTO_BUF_REG (from kernel 6.16)"
  expect_status 1 ublk-script add disk.lua data=zero_copy
  expect_output 'data = "zero_copy"' "SUPPORT_ZERO_COPY (from kernel 6.15)"
  [ ! -e disk.img ] || fail "a file was made"
  no_leftovers
}

t_batches_are_refused_where_the_driver_has_none() {
  ! driver_has BATCH_IO || skip "the driver has them"
  script disk <<<'device { size = "16M", file = "disk.img" }'
  expect_status 1 ublk-script add disk.lua data=batch
  expect_output 'data = "batch"' "BATCH_IO (from kernel 7.0)"
  [ ! -e disk.img ] || fail "a file was made"
  no_leftovers
}

t_a_queue_of_one_tag_is_refused_in_batches() {
  script disk <<<'device { size = "16M", file = "disk.img" }'
  expect_status 1 ublk-script add disk.lua data=batch depth=1
  expect_output 'depth' '2 or more beside data = "batch"'
  [ ! -e disk.img ] || fail "a file was made"
  no_leftovers
}

t_the_data_mode_of_a_running_device_cannot_be_changed() {
  script disk <<<'device { size = "16M" }'
  add_device disk data=user_copy
  expect_status 1 ublk-script reload "$id" data=copy
  expect_output "data" "user_copy"
  fill "$dev" 0 4096 5a
  expect_equal "bytes" "$(bytes_in "$dev" 0 4096)" 5a
}

# ---- data ----

# Random writes and reads; every block is read back and compared.
verify() { # DEPTH [FIO-OPTION...]
  local depth=$1
  shift
  fio --name=verify --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bsrange=4k-128k --bs_unaligned=0 \
    --iodepth="$depth" --size=4M --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 "$@" >fio.out 2>&1 ||
    fail "fio found wrong bytes: $(tail -n 20 fio.out)"
  expect_equal "errors" "$(counter copy_errors) $(counter backing_errors) $(counter script_errors)" "0 0 0"
}

verified_at_depths() { # MODE OPTION...
  local depth mode=$1 least=1
  shift
  needs_mode "$mode"
  [[ "${DEVICE_TEST_LONG:-0}" = 1 || " $* " = *" queues=2 "* || $mode = need_get_data ]] || skip "takes long: DEVICE_TEST_LONG=1"
  [ "$mode" != batch ] || least=2
  script disk <<<'device { size = "8M" }'
  for depth in 1 128; do
    # the driver makes no queue of one tag in batches
    add_device disk "data=$mode" "depth=$((depth < least ? least : depth))" "$@"
    verify "$depth"
    ublk-script del "$id"
  done
}

t_fio_finds_no_wrong_byte_on_memory_with_2_queues_and_announced_writes() { verified_at_depths need_get_data queues=2; }
t_fio_finds_no_wrong_byte_on_a_file_with_1_queue_and_announced_writes() { verified_at_depths need_get_data queues=1 file=disk.img; }
t_fio_finds_no_wrong_byte_on_memory_with_1_queue_and_user_copy() { verified_at_depths user_copy queues=1; }
t_fio_finds_no_wrong_byte_on_memory_with_2_queues_and_user_copy() { verified_at_depths user_copy queues=2; }
t_fio_finds_no_wrong_byte_on_a_file_with_1_queue_and_user_copy() { verified_at_depths user_copy queues=1 file=disk.img; }
t_fio_finds_no_wrong_byte_on_a_file_with_2_queues_and_user_copy() { verified_at_depths user_copy queues=2 file=disk.img; }
t_fio_finds_no_wrong_byte_on_memory_with_2_queues_and_zero_copy() { verified_at_depths zero_copy queues=2; }
t_fio_finds_no_wrong_byte_on_memory_with_2_queues_and_pages_lent_unasked() { verified_at_depths auto_buf queues=2; }
t_fio_finds_no_wrong_byte_on_a_file_with_1_queue_and_zero_copy() { verified_at_depths zero_copy queues=1 file=disk.img; }
t_fio_finds_no_wrong_byte_on_a_file_with_2_queues_and_zero_copy() { verified_at_depths zero_copy queues=2 file=disk.img; }
t_fio_finds_no_wrong_byte_on_a_file_with_2_queues_and_pages_lent_unasked() { verified_at_depths auto_buf queues=2 file=disk.img; }

t_fio_finds_no_wrong_byte_on_memory_with_2_queues_that_shares_memory() { verified_at_depths shared_memory queues=2; }

in_shared_memory() { # OPTION...
  needs_mode shared_memory
  script disk <<<'device { size = "8M", queues = 2, data = "shared_memory" }'
  add_device disk data=shared_memory "$@"
  verify_in_shared_memory
  expect_equal "IOs that were not copied" "$(counter shared_ios)" 512
  expect_equal "errors" "$(counter copy_errors) $(counter backing_errors)" "0 0"
  # of a program that has not mapped it
  verify 32
  expect_equal "IOs that were not copied" "$(counter shared_ios)" 512
}

t_fio_finds_no_wrong_byte_in_shared_memory_on_memory() { in_shared_memory; }
t_fio_finds_no_wrong_byte_in_shared_memory_on_a_file() { in_shared_memory file=disk.img; }

t_a_write_that_a_rule_changes_is_copied_from_shared_memory() {
  needs_mode shared_memory
  script disk <<<'device { size = "8M" } rule { op = "write", verdict = corrupt("flip") }'
  add_device disk data=shared_memory
  verify_in_shared_memory --do_verify=0
  expect_equal "IOs that were not copied" "$(counter shared_ios)" 0
  expect_equal "writes that were changed" "$(counter corrupted)" 256
}

# Pages that the kernel has been made to keep and has let go of since it started.
pages_let_go() { awk '$1 == "nr_foll_pin_released" { print $2 }' /proc/vmstat; }

has_let_go_of() { [ $(($(pages_let_go) - $1)) -ge "$2" ]; } # BEFORE PAGES

# A deleted device stays while its disk is open.
t_shared_memory_is_given_back_while_somebody_has_the_disk_open() {
  local before
  needs_mode shared_memory
  script disk <<<'device { size = "8M" }'
  add_device disk data=shared_memory shared_memory=32M
  exec 4<"$dev"
  before=$(pages_let_go)
  ublk-script del "$id" || true
  has_let_go_of "$before" $((32 * 256)) || fail "let go of $(($(pages_let_go) - before)) pages"
  exec 4<&-
  wait_until 10 is_gone "$id"
}

# The next server has other memory; what the driver knows is lost.
t_a_device_that_shared_memory_is_served_again_by_copy() {
  needs_mode shared_memory
  script disk <<<'device { size = "8M", file = "disk.img", recovery = "reissue" }'
  add_device disk data=shared_memory
  verify_in_shared_memory
  kill -KILL "$server"
  wait_until 20 waits_for_a_server
  ublk-script recover "$id" --quiet
  verify 32
  expect_equal "IOs that were not copied" "$(counter shared_ios)" 0
}

waits_for_a_server() { [ "$(state_of "$id")" = QUIESCED ]; }

t_fio_finds_no_wrong_byte_on_memory_with_1_queue_in_batches() { verified_at_depths batch queues=1; }
t_fio_finds_no_wrong_byte_on_memory_with_2_queues_in_batches() { verified_at_depths batch queues=2; }
t_fio_finds_no_wrong_byte_on_a_file_with_1_queue_in_batches() { verified_at_depths batch queues=1 file=disk.img; }
t_fio_finds_no_wrong_byte_on_a_file_with_2_queues_in_batches() { verified_at_depths batch queues=2 file=disk.img; }

# More requests at a time than there are buffers for their tags.
t_the_deepest_queue_keeps_its_data_in_batches() {
  needs_mode batch
  script disk <<<'device { size = "64M", max_io = "64K" }'
  add_device disk data=batch queues=1 depth=4096
  fio --name=verify --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=4096 \
    --iodepth_batch=256 --size=64M --verify=crc32c --verify_fatal=1 --verify_state_save=0 >fio.out 2>&1 ||
    fail "fio found wrong bytes: $(tail -n 20 fio.out)"
}

the_largest_requests_are_whole() { # OPTION...
  script disk <<<'device { size = "64M", max_io = "32M" }'
  add_device disk depth=2 "$@"
  echo 32768 >"/sys/block/ublkb$id/queue/max_sectors_kb"
  head -c 32M /dev/urandom >data
  dd if=data of="$dev" bs=32M count=1 oflag=direct status=none
  dd if="$dev" of=back bs=32M count=1 iflag=direct status=none
  cmp data back
}

t_the_largest_requests_are_copied_whole() { the_largest_requests_are_whole data=user_copy; }
t_the_largest_announced_writes_are_whole() { the_largest_requests_are_whole data=need_get_data; }
t_the_largest_requests_are_whole_in_batches() {
  needs_mode batch
  the_largest_requests_are_whole data=batch
}
t_the_pages_of_the_largest_requests_are_lent() {
  needs_mode zero_copy
  the_largest_requests_are_whole data=zero_copy file=disk.img
}
t_the_driver_lends_the_pages_of_the_largest_requests() {
  needs_mode auto_buf
  the_largest_requests_are_whole data=auto_buf file=disk.img
}

ext4_lives_on_a_file() { # MODE
  needs_mode "$1"
  script disk <<<'device { size = "32M", queues = 2 }'
  add_device disk "data=$1" file=disk.img
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  head -c 4M /dev/urandom >data
  cp data mnt/data
  umount mnt
  mount "$dev" mnt
  cmp data mnt/data
  umount mnt
  e2fsck -fn "$dev" >/dev/null
}

t_ext4_lives_on_a_file_with_user_copy() { ext4_lives_on_a_file user_copy; }
t_ext4_lives_on_a_file_with_zero_copy() { ext4_lives_on_a_file zero_copy; }
t_ext4_lives_on_a_file_with_shared_memory() { ext4_lives_on_a_file shared_memory; }
t_ext4_lives_on_a_file_in_batches() { ext4_lives_on_a_file batch; }

shipped_target_keeps_data() { # NAME MODE
  needs_mode "$2"
  ublk-script faults "$1" --source | script "$1"
  add_device "$1" size=16M queues=2 "data=$2" "path=$work/leg"
  verify 32
  [ "$(bytes_in leg1 0 65536 | wc -c)" -gt 100 ] && [ "$(bytes_in leg2 0 65536 | wc -c)" -gt 100 ] || fail "a leg was not used"
}

t_a_stripe_of_files_keeps_data_with_user_copy() { shipped_target_keeps_data stripe user_copy; }
t_a_mirror_of_files_keeps_data_with_user_copy() { shipped_target_keeps_data mirror user_copy; }
t_a_stripe_of_files_keeps_data_with_zero_copy() { shipped_target_keeps_data stripe zero_copy; }
t_a_mirror_of_files_keeps_data_with_zero_copy() { shipped_target_keeps_data mirror zero_copy; }
t_a_mirror_of_files_keeps_data_with_pages_lent_unasked() { shipped_target_keeps_data mirror auto_buf; }

# What the script does to certain requests: what they bring, what is stored, and the ledger without times and numbers.
outcome_in() { # MODE
  local block
  add_device faulty "data=$1" seed=7
  for block in {0..63}; do
    dd if=written of="$dev" bs=16K skip="$block" seek=$((block + 10)) count=1 oflag=direct conv=notrunc status=none 2>/dev/null || true
  done
  dd if="$dev" of="read.$1" bs=16K skip=10 count=64 iflag=direct conv=noerror,sync status=none 2>/dev/null || true
  ublk-script ledger "$id" --json | sed 's/"\(t\|io\)":[0-9]*,//g' >"ledger.$1"
  ublk-script ctl "$id" rule off all
  dd if="$dev" of="stored.$1" bs=1M iflag=direct status=none
  ublk-script del "$id"
}

t_faults_do_the_same_in_each_mode() {
  local mode part byte blanks
  script faulty <<'LUA'
    device { size = "4M", file = "disk.img", depth = 2, partitions = false }
    rule { name = "flip", op = "write", every = 5, verdict = corrupt("flip") }
    rule { name = "torn", op = "write", every = 7, verdict = store { keep = "random", unit = 512 } }
    rule { name = "lost", op = "write", every = 11, drop = true }
    rule { name = "zero", op = "write", content = { at = 0, hex = "20" }, zero = true }
    rule { name = "fail", op = "write", every = 13, error = "ENOSPC" }
    rule { name = "slow", op = { "read", "write" }, every = 17, delay = "5ms" }
    rule { name = "bits", op = "read", every = 3, verdict = corrupt("garbage") }
    rule { name = "medium", op = "read", every = 19, error = "ENODATA" }
    function write(io)
      if io:byte(0) % 9 == 0 then io:patch(100, "patched") end
    end
LUA
  # without a process for each of the blocks
  blanks=$(printf '%16384s' '')
  for byte in {16..79}; do
    printf -v byte "\\$(printf %o "$byte")"
    printf '%s' "${blanks// /"$byte"}"
  done >written
  for mode in $(modes); do
    rm -f disk.img
    outcome_in "$mode"
    for part in read stored ledger; do
      cmp "$part.copy" "$part.$mode" || fail "$part differs: $(diff "$part.copy" "$part.$mode" | head -n 20)"
    done
  done
  [ "$(wc -l <ledger.copy)" -gt 50 ] || fail "there was little to compare: $(<ledger.copy)"
}

# ---- a device that goes while it is busy ----

busy_device() { # MODE
  needs_mode "$1"
  script disk <<<'device { size = "16M", queues = 2 }'
  add_device disk "data=$1" file=disk.img
  fio --name=busy --filename="$dev" --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=64 --time_based \
    --runtime=100 >fio.out 2>&1 &
  wait_until 15 is_busy
}

is_busy() { [ "$(counter write)" -gt 200 ] && [ "$(counter read)" -gt 200 ]; }

busy_device_is_deleted() { # MODE
  local started
  busy_device "$1"
  started=$(now_ms)
  ublk-script del "$id"
  expect_within "del" "$started" 10000
  ! wait $! || fail "fio says that all of its IO succeeded"
}

t_a_busy_device_with_announced_writes_is_deleted() { busy_device_is_deleted need_get_data; }
t_a_busy_device_with_user_copy_is_deleted() { busy_device_is_deleted user_copy; }
t_a_busy_device_with_zero_copy_is_deleted() { busy_device_is_deleted zero_copy; }
t_a_busy_device_with_pages_lent_unasked_is_deleted() { busy_device_is_deleted auto_buf; }
t_a_busy_device_in_batches_is_deleted() { busy_device_is_deleted batch; }

killed_server_leaves_nothing() { # MODE
  busy_device "$1"
  kill -KILL "$server"
  ! wait $! || fail "fio says that all of its IO succeeded"
  ublk-script del "$id"
}

t_a_server_killed_under_load_with_announced_writes_leaves_nothing() { killed_server_leaves_nothing need_get_data; }
t_a_server_killed_under_load_with_user_copy_leaves_nothing() { killed_server_leaves_nothing user_copy; }
t_a_server_killed_under_load_with_zero_copy_leaves_nothing() { killed_server_leaves_nothing zero_copy; }
t_a_server_killed_under_load_with_pages_lent_unasked_leaves_nothing() { killed_server_leaves_nothing auto_buf; }
t_a_server_killed_under_load_in_batches_leaves_nothing() { killed_server_leaves_nothing batch; }

# Its tag is committed alone, after the command that brings tags has ended for the others.
t_held_IO_in_batches_is_let_go_by_del() {
  local started
  needs_mode batch
  script held <<<'device { size = "16M", partitions = false } rule { op = "read", range = { "1M", "4K" }, hang = true }'
  add_device held data=batch
  (read_errno "$dev" $((1 << 20)) 4096 >fate.part && mv fate.part fate) &
  wait_until 10 holds 1
  fill "$dev" 0 65536 5a
  expect_equal "bytes" "$(bytes_in "$dev" 0 65536)" 5a
  started=$(now_ms)
  ublk-script del "$id"
  expect_within "del" "$started" 5000
  wait_until 5 test -e fate
  expect_equal "the held read" "$(<fate)" EIO
  no_leftovers
}

run_cases "$@"
