#!/bin/bash
# time limit: 4000
# A script that decides about every IO, on several queues, and no IO that fails. Tests/VM/standstill runs this while it
# stops one of the guest's CPUs again and again, which no script may be blamed for; for longer than here.
. "$(dirname "$0")/lib.sh"

t_a_stripe_on_two_queues_never_fails_an_IO() {
  local end=$((SECONDS + ${DEVICE_TEST_STRIPE_SECONDS:-5})) round=0
  cp "$(dirname "$(readlink -f "$0")")/../../scripts/targets/stripe.lua" stripe.lua
  add_device stripe legs=2 chunk=64K path="$work/leg" size=512M -q 2
  while [ $SECONDS -lt $end ]; do
    round=$((round + 1))
    fio --name=stripe --filename="$dev" --rw=randwrite --bs=8k --iodepth=32 --ioengine=libaio --direct=1 \
      --verify=crc32c --verify_fatal=1 --size=512M --io_size=32M --randseed=$round >fio.log 2>&1 ||
      fail "round $round: $(tail -n 20 fio.log) $(tail -n 5 "$state_directory/$id.log") $(ublk-script list "$id")"
  done
  echo "$round rounds"
  expect_equal "errors" "$(counter script_errors) $(counter backing_errors) $(counter failed)" "0 0 0"
}

t_thin_takes_a_filesystem_and_never_fails_an_IO() {
  local end=$((SECONDS + ${DEVICE_TEST_STRIPE_SECONDS:-5} / 3))
  cp "$(dirname "$(readlink -f "$0")")/../../scripts/targets/thin.lua" thin.lua
  add_device thin size=512M
  while mkfs.xfs -q -f "$dev" >mkfs.out 2>&1 || fail "$(<mkfs.out) $(ublk-script list "$id")"; do
    [ $SECONDS -lt $end ] || break
  done
  expect_equal "errors" "$(counter script_errors) $(counter backing_errors) $(counter failed)" "0 0 0"
}

run_cases "$@"
