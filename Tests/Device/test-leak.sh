#!/bin/bash
# time limit: 2400
# Nothing is lost over many devices, and nothing over many questions to one.
#
# DEVICE_TEST_ROUNDS sets the number of devices (1000), and with it that of what else is done again and again; 1000 take
# 10 minutes and more in a virtual machine without KVM.
. "$(dirname "$0")/lib.sh"

rounds=${DEVICE_TEST_ROUNDS:-1000}
workers=$(nproc) # more than the machine has only wait for each other
[ "$workers" -le 4 ] || workers=4
questions=$((rounds * 3)) refusals=$((rounds / 3))
[ $questions -le 1000 ] || questions=1000
[ $refusals -le 100 ] || refusals=100

plain_script() {
  script plain <<'LUA'
    device { size = "16M", depth = 8, max_io = "64K" }
    function read() end
    function ctl(word, ...) if word == "raise" then error("raised") end return word, ... end
LUA
}

# KiB of free pages that the CPUs keep at hand. MemFree leaves them out, and the kernel lets these lists grow to
# many MiB when much is allocated and freed (mm/page_alloc.c, nr_pcp_high).
kept_by_cpus_kib() { awk '/^ +count:/ { pages += $2 } END { print pages * 4 }' /proc/zoneinfo; }

# Memory that is not coming back by itself, in KiB: what is not free after the caches are dropped.
memory_kib() {
  local used before=
  sync
  echo 3 >/proc/sys/vm/drop_caches
  # what was dropped comes back bit by bit
  used=$(used_kib)
  while [ -z "$before" ] || [ "$used" -lt "$before" ]; do
    before=$used
    sleep 0.3
    used=$(used_kib)
  done
  echo "$used"
}

used_kib() {
  local used
  used=$(awk '/^MemTotal/ { total = $2 } /^MemFree/ { free = $2 } END { print total - free }' /proc/meminfo)
  echo $((used - $(kept_by_cpus_kib)))
}

open_files() { awk '{ print $1 }' /proc/sys/fs/file-nr; }

# Slabs that grew by more than 1000 objects, without those the kernel may keep as it likes.
slab_objects() { awk 'NR > 2 { print $1, $2 }' /proc/slabinfo | sort; }

# Each worker has a number of its own and IO on each device.
add_and_delete() { # ID ROUNDS
  local round
  for ((round = 0; round < $2; round++)); do
    ublk-script add plain.lua --quiet -n "$1"
    [ "$(read_errno "/dev/ublkb$1" 0 4096)" = ok ]
    ublk-script del "$1"
  done
}

run_rounds() { # ROUNDS
  local worker pids=()
  for ((worker = 0; worker < workers; worker++)); do
    add_and_delete "$worker" $(($1 / workers)) &
    pids+=($!)
  done
  for worker in "${pids[@]}"; do wait "$worker"; done
}

t_many_devices_leave_no_file_and_no_memory_and_no_process() {
  plain_script
  run_rounds $((10 * workers)) # the kernel's caches grow to their size
  no_leftovers
  local memory files started=$SECONDS
  memory=$(memory_kib)
  files=$(open_files)
  slab_objects >slabs.before
  echo "free pages kept by the CPUs: $(kept_by_cpus_kib) KiB before"
  run_rounds "$rounds"
  no_leftovers
  echo "$rounds rounds in $((SECONDS - started)) s"
  slab_objects >slabs.after
  echo "free pages kept by the CPUs: $(kept_by_cpus_kib) KiB after"
  echo "memory: $memory KiB before, $(memory_kib) KiB after; open files: $files before, $(open_files) after"
  echo "slabs that grew by an object a round:"
  join slabs.before slabs.after | awk -v rounds="$rounds" '$3 - $2 >= rounds { print }'
  # a page a device would be 4 MiB
  expect_between "KiB of memory that are gone" $(($(memory_kib) - memory)) -1000000 4000
  expect_between "open files that were not closed" $(($(open_files) - files)) -1000000 100
}

fd_count() { find "/proc/$server/fd" -mindepth 1 | wc -l; }
rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }

t_many_questions_leave_a_server_as_it_was() {
  plain_script
  add_device plain
  ask 50
  local rss files threads
  rss=$(rss_kib)
  files=$(fd_count)
  threads=$(find "/proc/$server/task" -mindepth 1 -maxdepth 1 | wc -l)
  ask $questions
  expect_equal "open files" "$(fd_count)" "$files"
  expect_equal "threads" "$(find "/proc/$server/task" -mindepth 1 -maxdepth 1 | wc -l)" "$threads"
  echo "RSS $rss KiB before, $(rss_kib) KiB after"
  expect_between "KiB the server grew" $(($(rss_kib) - rss)) -1000000 2048
}

# Four at a time. One question in four is a stats, one is refused, one is an error of the script.
ask() { # COUNT
  local worker pids=()
  for worker in 1 2 3 4; do
    ask_one_after_the_other $(($1 / 4)) &
    pids+=($!)
  done
  for worker in "${pids[@]}"; do wait "$worker"; done
}

ask_one_after_the_other() { # COUNT
  local i
  for ((i = 0; i < $1; i++)); do
    case $((i % 4)) in
      0) ublk-script ctl "$id" stats ;;
      1) ublk-script ctl "$id" word "$i" ;;
      2) ! ublk-script ctl "$id" release EBOGUS ;;
      3) ! ublk-script ctl "$id" raise ;;
    esac >/dev/null 2>&1
  done
}

t_a_hundred_thousand_IOs_leave_a_server_as_it_was() {
  plain_script
  add_device plain
  read_many 5000
  local rss
  rss=$(rss_kib)
  read_many 100000
  echo "RSS $rss KiB before, $(rss_kib) KiB after"
  expect_between "KiB the server grew" $(($(rss_kib) - rss)) -1000000 2048
}

read_many() { # COUNT
  fio --name=many --filename="$dev" --direct=1 --ioengine=libaio --rw=randread --bs=4k --iodepth=8 --norandommap \
    --number_ios="$1" --io_size=1T --time_based=0 >/dev/null
}

# What fails on the way up is undone, however often.
t_many_refused_adds_leave_nothing() {
  plain_script
  add_device plain -n 0
  local files i
  files=$(open_files)
  for ((i = 0; i < refusals; i++)); do ! ublk-script add plain.lua -n 0 --file disk.img --quiet 2>/dev/null || fail "round $i succeeded"; done
  [ ! -e disk.img ]
  expect_equal "servers" "$(servers)" "$server"
  expect_between "open files that were not closed" $(($(open_files) - files)) -1000000 50
}

run_cases "$@"
