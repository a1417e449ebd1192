#!/bin/bash
# any kernel: a delay is the server's own timer
# A scripted delay is the latency that the application measures, and delayed IOs wait side by side.
. "$(dirname "$0")/lib.sh"

# A percentile of fio's completion latency of reads, in microseconds.
latency_us() { # PERCENTILE
  awk -v name="\"$1\"" '/"clat_ns"/ { inside = 1 } inside && $1 == name { print int($3 / 1000); exit }' "$work/fio.json"
}

measure() { # FIO-OPTION...
  fio --name=delay --filename="$dev" --direct=1 --ioengine=libaio --rw=randread --bs=4k --size=16M \
    --percentile_list=50:99 --output-format=json --output="$work/fio.json" "$@"
}

# The 10 ms above are for a slow virtual machine; a delay is never too short.
expect_50_ms() {
  measure --iodepth=1 --number_ios=30
  expect_between "median latency in us" "$(latency_us 50.000000)" 50000 60000
  expect_between "delayed IOs" "$(counter delayed)" 30 40
}

# 64 IOs of 50 ms take 3.2 s one after the other, 10 rounds of them 32 s. Side by side 10 rounds take 0.5 s. The
# best of a few runs counts: a busy machine can stand still for a second.
expect_overlap() {
  local i
  for i in 1 2 3 4 5; do
    measure --iodepth=64 --number_ios=640
    echo "run $i: median $(latency_us 50.000000) us, 10 x 64 IOs in $(run_time_ms) ms"
    expect_between "run time of 10 x 64 IOs in ms" "$(run_time_ms)" 499 20000
    [ "$(run_time_ms)" -gt 1000 ] || [ "$(latency_us 50.000000)" -gt 75000 ] || return 0
  done
  fail "64 delayed IOs do not wait side by side"
}

run_time_ms() { awk '/"read"/ { inside = 1 } inside && $1 == "\"runtime\"" { print int($3); exit }' "$work/fio.json"; }

t_a_delay_of_50_ms_by_rule_shows_in_fio_as_50_ms() {
  script slow <<'LUA'
    device { size = "16M" }
    rule { op = "read", delay = "50ms" }
LUA
  add_device slow
  expect_50_ms
}

t_a_delay_of_50_ms_by_handler_shows_in_fio_as_50_ms() {
  script slow <<'LUA'
    device { size = "16M" }
    function read() return delay(50*ms) end
LUA
  add_device slow
  expect_50_ms
}

t_64_IOs_delayed_by_rule_overlap() {
  script slow <<'LUA'
    device { size = "16M" }
    rule { op = "read", delay = "50ms" }
LUA
  add_device slow
  expect_overlap
}

t_64_IOs_delayed_by_handler_overlap() {
  script slow <<'LUA'
    device { size = "16M" }
    local slow = delay("50ms")
    function read() return slow end
LUA
  add_device slow queues=2
  expect_overlap
}

t_delays_of_rules_and_handler_add_up_and_reads_are_not_delayed_by_a_rule_for_writes() {
  script slow <<'LUA'
    device { size = "16M" }
    rule { op = "read", delay = "20ms" }
    rule { op = "read", range = { 0, "16M" }, delay = "30ms" }
    rule { op = "write", delay = "10s" }
    function read() return delay("50ms") end
LUA
  add_device slow
  measure --iodepth=1 --number_ios=10
  expect_between "median latency in us" "$(latency_us 50.000000)" 100000 120000
}

t_an_error_comes_after_its_delay() {
  script slow <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "4K" }, delay = "1s", error = "ENODATA" }
    function write(io, offset) if offset == MiB then return fail("ENOSPC") + delay("1s") end end
LUA
  add_device slow
  local started
  started=$(now_ms)
  expect_equal "read" "$(read_errno "$dev" 1048576 4096)" ENODATA
  expect_between "ms until the read failed" $(($(now_ms) - started)) 1000 4000
  started=$(now_ms)
  expect_equal "write" "$(write_errno "$dev" 1048576 4096)" ENOSPC
  expect_between "ms until the write failed" $(($(now_ms) - started)) 1000 4000
}

t_IOs_that_are_not_delayed_pass_those_that_are() {
  script slow <<'LUA'
    device { size = "16M", partitions = false }
    rule { op = "read", range = { "1M", "1M" }, delay = "5s" }
LUA
  add_device slow
  fio --name=slow --filename="$dev" --direct=1 --ioengine=libaio --rw=read --bs=4k --offset=1M --size=64k --iodepth=16 \
    --number_ios=16 >/dev/null &
  wait_until 4 holds_delayed 16
  local started
  started=$(now_ms)
  expect_equal "read elsewhere" "$(read_errno "$dev" 0 4096)" ok
  expect_within "the read" "$started" 2000
  wait $!
}

holds_delayed() { [ "$(counter delayed)" = "$1" ]; }

t_del_does_not_wait_for_long_delays() {
  script slow <<'LUA'
    device { size = "16M" }
    rule { op = "read", delay = "1h" }
LUA
  add_device slow
  fio --name=slow --filename="$dev" --direct=1 --ioengine=libaio --rw=read --bs=4k --size=256k --iodepth=64 &
  wait_until 10 holds_delayed 64
  local started
  started=$(now_ms)
  ublk-script del "$id"
  expect_within "del" "$started" 2000
  no_leftovers
}

run_cases "$@"
