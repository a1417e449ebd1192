#!/bin/bash
# time limit: 180
# One system call of a server's life fails, or comes up short, once: in `add` and the processes that it starts, until
# `del` has taken the device away. Whatever call it is, add and del work, or say why not; nothing crashes, hangs or stays
# behind.
#
# Each fault is a run of its own, in which `inject` (Tests/Injection/inject.c) has the n-th call of a kind of thread fail
# with an error that the kernel gives for it. The cases have the faults that have broken something, and some of each
# kind; with INJECTION_CALLS=. the calls of one run are listed and each is tried, which takes hours without KVM.
. "$(dirname "$0")/lib.sh"

# Writes what the runs need.
prepare() {
  command -v inject >/dev/null || skip "there is no inject in PATH: cc -o inject Tests/Injection/inject.c, on x86-64"
  script faulty <<'LUA'
    device { size = "64M", queues = 2, depth = 8 }
    function write(io) if io.offset == 0 then return pass() end end
LUA
  head -c 256K /dev/urandom >data
}

# Runs add under inject, uses the device and deletes it; prints what is wrong, nothing when all is well.
use_a_device_under() { # OPTION OF INJECT... [SYSCALL]
  local status=0 left
  rm -f trace out err del io
  timeout 60 inject -o trace "$@" ublk-script add faulty.lua --json >out 2>err || status=$?
  case $status in
    0) use_and_delete ;;
    124) echo "add hangs" ;;
    *) [ -s err ] || echo "add ends with status $status and says nothing" ;;
  esac
  left=$(wait_for_end) || echo "after 5 s there is still: $left"
  grep '^crash' trace || true
  grep -h 'Fatal error' err del 2>/dev/null || true
}

use_and_delete() {
  local dev id
  dev=$(json_value path <out) id=$(json_value id <out)
  move_data || echo "IO fails: $(<io)"
  timeout 60 ublk-script del "$id" 2>del && return
  [ -s del ] || echo "del fails and says nothing"
  timeout 60 ublk-script del "$id" 2>>del || echo "del fails twice: $(<del)"
}

move_data() {
  timeout 30 dd if=data of="$dev" bs=64K seek=512 oflag=direct status=none 2>io &&
    timeout 30 dd if="$dev" of=back bs=64K count=4 skip=512 iflag=direct status=none 2>io && cmp back data 2>io
}

# Fails, and prints what is there, when something is after 5 s.
wait_for_end() {
  local end=$((SECONDS + 6 * ${DEVICE_TEST_PATIENCE:-1}))
  until [ -z "$(leftovers)" ] && has_line '^end' trace; do
    [ $SECONDS -lt $end ] || { leftovers && return 1; }
    sleep 0.05
  done
}

tidy_case() {
  local tracer
  tracer=$(sed -n 's/^tracer //p' trace 2>/dev/null) || true
  [ -z "$tracer" ] || ! kill -KILL "$tracer" 2>/dev/null || wait_until 5 nobody_runs
}

nobody_runs() { [ -z "$(processes)" ]; }

# Tries a fault; what is wrong goes to the file wrong. "works": add has to succeed; "ends": it may say why not; "any":
# the call need not even come, as not each run makes the same ones.
try() { # works|ends|any THREAD SYSCALL N OPTION OF INJECT...
  local wanted=$1 thread=$2 call=$3 number=$4 wrong hit
  shift 4
  wrong=$(use_a_device_under -t "$thread" -n "$number" "$@" "$call" </dev/null)
  hit=$(sed -n 's/^hit //p' trace)
  [ -n "$hit" ] || [ "$wanted" = any ] || wrong+="${wrong:+; }it was not reached"
  [ -s out ] || [ "$wanted" != works ] || wrong+="${wrong:+; }add fails: $(<err)"
  echo "$thread $call $number $*: ${wrong:-$(cat err del 2>/dev/null | head -n 1)}"
  [ -z "$wrong" ] || echo "$thread $call $number $*: $wrong" >>wrong
  [ -z "$(leftovers)" ] || remove_by_force
}

expect_nothing_wrong() {
  [ ! -s wrong ] || fail "$(<wrong)"
}

t_what_cannot_be_had_is_told_and_nothing_is_left() {
  prepare
  try ends outside-control openat 1 -e EMFILE
  try ends outside-control read 1 -e EIO
  expect_nothing_wrong
}

t_what_is_interrupted_or_refused_is_done_again_or_done_without() {
  prepare
  try works add/load-watch madvise 1 -e ENOMEM
  try works outside-control chdir 1 -e EPERM
  try works outside-control poll 1 -e EINTR
  try works outside-control recvfrom 1 -e EINTR
  expect_nothing_wrong
}

# The errors that a call is tried with; none for what a process cannot do without, by design.
errors_of() { # SYSCALL
  case $1 in
    accept*) echo ECONNABORTED EMFILE ;;
    bind | connect | listen) echo EADDRINUSE ;;
    brk | exit* | getrandom | prlimit64) ;;
    clone* | vfork) echo EAGAIN ;;
    chdir | chroot | close_range | fch* | mount | prctl | sched_* | set* | shutdown | tgkill | umount2 | unshare) echo EPERM ;;
    dup2 | eventfd2 | fcntl | memfd_create | open* | pipe* | signalfd4 | socket*) echo EMFILE ;;
    execve | fallocate | io_uring_[rs]* | madvise | mmap | mprotect | mremap) echo ENOMEM ;;
    io_uring_enter) echo EAGAIN EBUSY EINTR ENOMEM ;;
    poll | ppoll | recv* | send* | wait4) echo EINTR ENOMEM ;;
    read | write | pwrite*) echo EINTR EIO ;;
    *) echo EIO ;;
  esac
}

moves_bytes() { # SYSCALL
  case $1 in read | write | pread64 | pwrite64 | recvfrom | sendto) ;; *) return 1 ;; esac
}

t_each_call_of_a_run_may_fail() {
  local count thread call number errno
  [ -n "${INJECTION_CALLS:-}" ] || skip "it takes hours: INJECTION_CALLS=."
  prepare
  use_a_device_under -l >wrong
  expect_nothing_wrong
  grep -vE '^(tracer|end)' trace | sort -k 2 >calls
  while read -r count thread call; do
    [[ "$thread $call" =~ $INJECTION_CALLS ]] || continue
    for ((number = 1; number <= count; number++)); do
      for errno in $(errors_of "$call"); do try any "$thread" "$call" "$number" -e "$errno"; done
      ! moves_bytes "$call" || try any "$thread" "$call" "$number" -s 1
    done
  done <calls
  expect_nothing_wrong
}

run_cases "$@"
