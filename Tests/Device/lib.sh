# Sourced by every test file, and by run.
#
# A test file defines its cases, functions called t_..., whose names read as sentences, and ends with
# `run_cases "$@"`; run by hand it takes parts of case names to choose from. Each case runs in a subshell of its
# own with set -e, in an empty folder, and a failing command fails it. When a case ends its devices are deleted;
# it fails if that does not work or if anything is left behind.
# shellcheck shell=bash

export LC_ALL=C
state_directory=/run/ublk-script
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# ---- kernels ----

kernel_is_at_least() { # MAJOR.MINOR
  local major minor
  IFS=. read -r major minor _ <<<"$(uname -r)"
  [ "$major" -gt "${1%.*}" ] || { [ "$major" = "${1%.*}" ] && [ "$minor" -ge "${1#*.}" ]; }
}

# The driver's answer is kept for all cases of a file.
driver_has() { # FLAG
  local flag answer
  [ -e "$scratch/features" ] || ublk-script features >"$scratch/features"
  while read -r flag _ answer _; do
    [ "$flag" != "$1" ] || [ "$answer" != yes ] || return 0
  done <"$scratch/features"
  return 1
}

# What comes through a pipe has a line like that. It reads to the end: a `grep -q` ends at the first hit, and pipefail
# takes it for a failure when the writer has more to say by then.
has_line() { grep "$@" >/dev/null; }

needs_kernel() { # MAJOR.MINOR
  kernel_is_at_least "$1" || skip "the driver can do this from $1 on"
}

# Without a process: without KVM each costs 15 ms and more, and there are dozens in a case.
exec {never}<> <(:)
pause() { read -rt "$1" -u "$never" || true; } # SECONDS

# ---- running cases ----

run_cases() { # [PART OF A NAME...]
  local names name failed=0
  name=$(why_no_data_mode)
  [ -z "$name" ] || { echo "$name" >&2 && exit 2; }
  scratch=${DEVICE_TEST_SCRATCH:-$(mktemp -d /tmp/ublk-script-tests.XXXXXX)}
  mapfile -t names < <(sed -n 's/^\(t_[A-Za-z0-9_]*\)() {.*/\1/p' "$0")
  for name in "${names[@]}"; do
    is_chosen "$name" "$@" || continue
    # not `run_case || ...`: set -e has no effect anywhere below a condition
    run_case "$name"
    [ $? = 0 ] || failed=1
  done
  : >"$scratch/done"
  [ -n "${DEVICE_TEST_SCRATCH:-}" ] || rm -rf "$scratch"
  exit $failed
}

is_chosen() { # NAME [PART...]
  local name=$1 part
  shift
  [ $# -gt 0 ] || return 0
  for part in "$@"; do [[ $name != *$part* ]] || return 0; done
  return 1
}

run_case() { # FUNCTION
  local sentence=${1#t_} status started=${EPOCHREALTIME/./} took
  sentence=${sentence//_/ }
  echo "$sentence" >"$scratch/running"
  [ ! -e "$scratch/why" ] || rm "$scratch/why"
  work=$scratch/work
  mkdir -m 755 "$work"
  (
    set -euo pipefail
    cd "$work" || exit
    trap finish_case EXIT
    "$1"
  ) >"$scratch/output" 2>&1 </dev/null
  status=$?
  rm -rf "$work"
  took=$(tenths $(((${EPOCHREALTIME/./} - started) / 1000)))
  [ -z "${DEVICE_TEST_TIMES:-}" ] || echo "# $took s"
  if [ $status = 0 ]; then
    echo "ok - $sentence"
  elif [ $status = 75 ] && [ -e "$scratch/why" ]; then
    echo "skip - $sentence ($(<"$scratch/why"))"
  else
    echo "FAIL - $sentence"
    { cat "$scratch/output" && echo "(status $status, after $took s)"; } | sed 's/^/    /'
    return 1
  fi
}

# The end of each case, in its subshell.
finish_case() {
  local status=$? left jobs
  trap - EXIT
  set +e
  tidy_case || { echo "tidying up failed" && [ $status = 0 ] && status=1; }
  cd /
  if [ $status = 0 ] || [ $status = 75 ]; then
    left=$(mounts)
    [ -z "$left" ] || { echo "still mounted at the end: $left" && status=1; }
    left=$(leftovers)
    if [ -n "$left" ]; then
      ublk-script del --all || { echo "del --all failed" && status=1; }
      left=$(leftovers)
    fi
    [ -z "$left" ] || { echo "left behind: $left" && status=1; }
  fi
  jobs=$(jobs -p)
  # shellcheck disable=SC2086
  [ -z "$jobs" ] || kill -KILL $jobs 2>/dev/null
  if [ $status != 0 ] && [ $status != 75 ]; then
    for left in "$state_directory"/*.log; do [ ! -e "$left" ] || { echo "--- $left" && tail -n 20 "$left"; }; done
    remove_by_force
  fi
  exit $status
}

# What a file has to take away at the end of each of its cases, besides our devices: it defines this anew.
tidy_case() { :; }

skip() { # REASON
  echo "$1" >"$scratch/why"
  exit 75
}

fail() { # MESSAGE
  echo "$1"
  exit 1
}

# ---- what is there ----

# Prints what a deleted device must not leave: nodes, processes, files.
leftovers() {
  local path comm
  for path in /dev/ublkb* /dev/ublkc* "$state_directory"/* "$state_directory"/.[!.]*; do
    # a link that leads nowhere, too
    [ ! -e "$path" ] && [ ! -L "$path" ] || echo "$path"
  done
  for path in $(processes); do
    read -r comm 2>/dev/null <"/proc/$path/comm" || continue
    echo "process $path $comm"
  done
}

# Prints the pids of ublk-script processes, of dead ones too while nobody has waited for them. One that another one
# starts is called "exe" for its first moments.
processes() {
  local path comm
  for path in /proc/[0-9]*; do
    { read -r comm <"$path/comm"; } 2>/dev/null || continue
    [ "$comm" = ublk-script ] || [ "$comm" = exe ] || continue
    echo "${path#/proc/}"
  done
}

# Prints the pids of servers, without the process beside each that gives its control commands.
servers() {
  local pid parent
  for pid in $(processes); do
    parent=$(ps -o ppid= -p "$pid" | tr -d ' ')
    [ "$(cat "/proc/$parent/comm" 2>/dev/null)" = ublk-script ] || echo "$pid"
  done
}

# A condition for wait_until: the process is gone, or only waited for by nobody. It may go at any moment, so one look.
has_ended() { # PID
  local state
  read -r _ _ state _ 2>/dev/null <"/proc/$1/stat" || return 0
  [ "$state" = Z ]
}

all_have_ended() { # PID...
  local pid
  for pid in "$@"; do has_ended "$pid" || return 1; done
}

# What a process that does not end waits in.
tell_of() { # PID...
  local pid task
  for pid in "$@"; do
    has_ended "$pid" && continue
    for task in "/proc/$pid/task"/*; do
      echo "$pid ${task##*/}: $(cat "$task/comm" "$task/wchan" 2>/dev/null | tr '\n' ' ')$(sed -n 's/^State:\t//p' "$task/status")"
      sed 's/^/    /' "$task/stack" 2>/dev/null || true
    done
  done
}

expect_end_of_all() { # SECONDS WHAT PID...
  local end=$((${EPOCHREALTIME/./} + $1 * 1000000)) what=$2
  shift 2
  until all_have_ended "$@"; do
    [ ${EPOCHREALTIME/./} -lt $end ] || { tell_of "$@" && fail "$what: not all of its processes have ended"; }
    pause 0.05
  done
}

# Prints the mount points in the folder of the case.
mounts() {
  local lines line place
  mapfile -t lines </proc/mounts
  for line in "${lines[@]}"; do
    read -r _ place _ <<<"$line"
    [[ $place != "${work:-/nonexistent}"/* ]] || echo "$place"
  done
}

remove_by_force() {
  local path
  for path in $(mounts | tac); do umount -l "$path"; done
  for path in $(processes); do kill -KILL "$path" 2>/dev/null; done
  for _ in {1..20}; do [ -z "$(processes)" ] || sleep 0.1; done # one may be beyond even that
  timeout 100 ublk-script del --all
  rm -rf "${state_directory:?}"/* "$state_directory"/.[!.]*
}

# ---- the data mode ----

# How a server gets at the data of an IO, as `data` of device{} says it; each case that makes its device with
# add_device runs in the mode that DATA_MODE names. Without it a script's own word holds.
data_modes='copy need_get_data batch user_copy zero_copy auto_buf shared_memory'

is_data_mode() { # MODE
  [[ " $data_modes " == *" $1 "* ]]
}

# Says why DATA_MODE cannot be meant; nothing when it can.
why_no_data_mode() {
  local mode=${DATA_MODE:-copy}
  is_data_mode "$mode" || echo "DATA_MODE=$mode: one of $data_modes is expected"
}

# ---- devices ----

# Writes a script from stdin.
script() { # NAME
  cat >"$work/$1.lua"
}

# Makes a device of the script NAME.lua, in the data mode of the run; sets dev, id and server (its pid).
add_device() { # NAME [OPTION...]
  local name=$1 record mode=${DATA_MODE:-}
  shift
  [[ " $* " != *" data="* ]] || mode=
  record=$(ublk-script add "$work/$name.lua" --json ${mode:+data=$mode} "$@") || fail "add failed"
  dev=$(json_value path <<<"$record")
  id=$(json_value id <<<"$record")
  server=$(json_value serverPID <<<"$record")
  [ -b "$dev" ] || fail "$dev is no block device; add said: $record"
}

# The value of a key in JSON without nesting, from stdin.
json_value() { # KEY
  local line pattern='.*"'$1'":"?([^",}]*)'
  while read -r line || [ -n "$line" ]; do [[ ! $line =~ $pattern ]] || echo "${BASH_REMATCH[1]}"; done
}

# Writes 256 blocks from memory that is shared with the server, and reads them back to it.
verify_in_shared_memory() { # [FIO-OPTION...]
  local memory
  # Two requests that become one are not in one piece in memory.
  echo 2 >"/sys/block/ublkb$id/queue/nomerges"
  memory=$(ublk-script list "$id" --json | json_value sharedMemory)
  fio --name=shared --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bs=16k --iodepth=32 --size=4M --mem="mmapshared:$memory" \
    --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 "$@" >fio.out 2>&1 ||
    fail "fio found wrong bytes: $(tail -n 20 fio.out)"
}

state_of() { # ID
  ublk-script list "$1" --json | json_value state
}

# A counter of `ctl ID stats`.
counter() { # NAME
  ublk-script ctl "$id" stats | awk -v name="$1" '$1 == name { print $2 }'
}

holds() { # COUNT
  [ "$(counter held_now)" = "$1" ]
}

is_gone() { # ID
  [ ! -e "/dev/ublkb$1" ] && [ ! -e "/dev/ublkc$1" ] && [ -z "$(leftovers)" ]
}

no_leftovers() {
  local left
  left=$(leftovers)
  [ -z "$left" ] || fail "left behind: $left"
}

# ---- expectations ----

# Runs a command, keeps stdout and stderr in output.
expect_status() { # STATUS COMMAND...
  local wanted=$1 got=0
  shift
  output=$("$@" 2>&1) || got=$?
  [ "$got" = "$wanted" ] || fail "'$*': exit status $wanted is expected, got $got; it printed: $output"
}

# Each PATTERN must be in the output of the last expect_status.
expect_output() { # FIXED-STRING...
  local text
  for text in "$@"; do
    [[ $output == *"$text"* ]] || fail "\"$text\" is expected in: $output"
  done
}

# The output of the last expect_status is JSON as that section of docs/json.md has it.
expect_json() { # SECTION
  awk -v document="$tests/../../docs/json.md" -v section="$1" -f "$tests/json-fits.awk" <<<"$output" ||
    fail "JSON of $1: $output"
}

expect_equal() { # WHAT GOT WANTED
  [ "$2" = "$3" ] || fail "$1: $3 is expected, got $2"
}

expect_between() { # WHAT GOT LOW HIGH
  [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || fail "$1: $3 to $4 is expected, got $2"
}

wait_until() { # SECONDS COMMAND...
  local end=$((SECONDS + $1 + 1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "not within its time: $*"
    pause 0.1
  done
}

# What was started at STARTED has taken at most so many ms. A machine on which even `list` is slow (0.25 s is usual
# in a virtual machine without KVM) gets more time, up to five times as much.
expect_within() { # WHAT STARTED LIMIT
  local took=$(($(now_ms) - $2)) begun slow
  [ $took -gt "$3" ] || return 0
  begun=$(now_ms)
  ublk-script list >/dev/null
  slow=$((($(now_ms) - begun) * 100 / 250))
  [ $slow -lt 500 ] || slow=500
  echo "$1: $took ms; list takes $slow % of the usual time"
  [ $took -le $(($3 * slow / 100)) ] || fail "$1 took $took ms, $3 are expected at most"
}

# Milliseconds as seconds.
tenths() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

# ---- the kernel's log ----

# Of more than 10 block errors in 5 s the kernel does not tell, and those of an earlier case count too.
wait_for_rate_limit() {
  local last now
  last=$(dmesg | sed -n 's/^\[ *\([0-9]*\)\..* error, dev .*/\1/p' | tail -n 1)
  [ -n "$last" ] || return 0
  while read -r now _ </proc/uptime && [ "${now%.*}" -le $((last + 5)) ]; do sleep 0.5; done
}

# ---- errnos ----

# The name of the errno in a program's message, "ok" for exit status 0.
errno_of() { # COMMAND...
  local text
  if text=$("$@" 2>&1); then
    echo ok
    return
  fi
  case $text in
    *'Input/output error'*) echo EIO ;;
    *'No data available'*) echo ENODATA ;;
    *'No space left on device'*) echo ENOSPC ;;
    *'Connection timed out'*) echo ETIMEDOUT ;;
    *'Link has been severed'*) echo ENOLINK ;;
    *'Remote I/O error'*) echo EREMOTEIO ;;
    *'Invalid exchange'*) echo EBADE ;;
    *'Invalid or incomplete multibyte'*) echo EILSEQ ;;
    *'Operation not supported'*) echo EOPNOTSUPP ;;
    *'Operation not permitted'*) echo EPERM ;;
    *'Read-only file system'*) echo EROFS ;;
    *'No such device'*) echo ENODEV ;;
    *) echo "$text" ;;
  esac
}

# What an O_DIRECT reader gets.
read_errno() { # DEVICE OFFSET LENGTH
  errno_of dd if="$1" of=/dev/null bs="$3" count=1 skip="$2" iflag=direct,skip_bytes
}

# A condition for wait_until: what an O_DIRECT reader of 4 KiB gets from the device.
reads_as() { # OFFSET ERRNO
  [ "$(read_errno "$dev" "$1" 4096)" = "$2" ]
}

write_errno() { # DEVICE OFFSET LENGTH
  errno_of dd if=/dev/zero of="$1" bs="$3" count=1 seek="$2" oflag=direct,seek_bytes conv=notrunc
}

# What fsync says.
flush_errno() { # DEVICE
  errno_of dd if=/dev/null of="$1" conv=fsync,notrunc
}

discard_errno() { # DEVICE OFFSET LENGTH
  errno_of blkdiscard -o "$2" -l "$3" "$1"
}

write_zeroes_errno() { # DEVICE OFFSET LENGTH
  errno_of blkdiscard -z -o "$2" -l "$3" "$1"
}

# Writes LENGTH bytes of value 0xBYTE at OFFSET.
fill() { # DEVICE OFFSET LENGTH BYTE
  head -c "$3" /dev/zero | tr '\0' "\\$(printf '%o' "0x$4")" |
    dd of="$1" bs="$3" iflag=fullblock oflag=direct,seek_bytes seek="$2" conv=notrunc status=none
}

# The different bytes in a piece of a device, as hex: "00" for all zero.
bytes_in() { # DEVICE OFFSET LENGTH
  dd if="$1" bs="$3" count=1 skip="$2" iflag=direct,skip_bytes status=none | tr -s '\0-\377' |
    od -An -v -tx1 -w1 | sort -u | tr -d ' \n'
}
