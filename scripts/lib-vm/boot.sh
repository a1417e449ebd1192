# Sourced by scripts/vm: boots the guest, passes CMD's output on, and finds out how it ended.
# shellcheck shell=bash

boot_limit=240 # seconds until CMD must have begun; without KVM it usually takes 12

# QEMU in place of this process. Dies with the script, even if that is killed with SIGKILL.
run_emulator() {
  local options=(
    -name ublk-script,debug-threads=on # threads are called "CPU 0/TCG"
    "${qemu_roms[@]}" -M "$machine_type" "${accel_options[@]}" -m "$memory" -smp "$cpus"
    -nodefaults -no-user-config -display none -nic none -no-reboot
    -kernel "$kernel_dir/vmlinuz" -initrd /dev/fd/8
    # loglevel=5: warnings, and what is worse, go to the console log. An oops ends the VM, as a panic does.
    -append "console=$console loglevel=5 panic=-1 oops=panic mitigations=off nokaslr $accel_boot"
    -device virtio-rng-pci -device virtio-serial-pci
    -serial "file:$scratch/console"
    -chardev stdio,id=stdio,signal=off
    -chardev file,id=status,path=/dev/fd/9 -device virtserialport,chardev=status,name=status
  )
  if [ $interactive = 1 ]; then
    options+=(-device pci-serial,chardev=stdio)
  else
    options+=(-device virtserialport,chardev=stdio,name=output)
  fi
  [ -z "${UBLK_SCRIPT_VM_PIDFILE:-}" ] || options+=(-pidfile "$UBLK_SCRIPT_VM_PIDFILE")
  exec setpriv --pdeathsig KILL "$qemu" "${options[@]}" 2>>"$scratch/emulator"
}

# Boots, and sets answer to CMD's exit status, or to nothing when the guest did not tell one. A guest that is dead, or
# still not there, before CMD has begun is booted once more: nothing is lost by that. What CMD did is not done twice.
boot() {
  local input=$scratch/input questions status bytes= deadline=
  [ -z "$limit" ] || deadline=$((SECONDS + limit))
  if [ $interactive = 1 ]; then
    terminal_state=$(stty -g)
    input=/dev/tty
  else
    mkfifo "$input"
    exec {questions}<>"$input"
  fi
  echo "vm: kernel $(<"$kernel_dir/release"), $accel, $cpus cpus, QEMU $(emulator_version)" >&2
  exec 8<"$scratch/initrd"
  rm "$scratch/initrd" # it is big, and a script that is killed with SIGKILL cannot tidy up
  if ! start_guest; then
    echo "vm: the guest $(why_no_command); booting it again, once" >&2
    start_guest || true
  fi
  exec 8<&-
  # a status over 128 is the time limit, another one the end of QEMU
  if [ "$begun" = 1 ]; then read_status "$deadline" answer bytes || ending=$?; fi
  if [ "$ending" -gt 128 ]; then ask_guest >&"$questions"; fi
  [ -z "$bytes" ] || await_output "$bytes"
  stop_emulator
  # it ends when QEMU has ended, and how it ends has been dealt with
  [ -z "$relay" ] || wait "$relay" || true
}

# Starts QEMU and waits until CMD begins. Fails when the guest is gone by then, or the time for that is over.
start_guest() {
  local output word= boot_deadline=$((SECONDS + boot_limit))
  stop_emulator
  if [ $interactive = 1 ]; then exec {output}>&1; else exec {output}>"$scratch/output"; fi
  : >"$scratch/emulator"
  : >"$scratch/console"
  exec {status}< <(run_emulator <"$input" 9>&1 >&"$output")
  emulator=$!
  exec {output}>&-
  [ $interactive = 1 ] || relay_output
  [ -z "$deadline" ] || [ "$boot_deadline" -lt "$deadline" ] || boot_deadline=$deadline
  begun=0 answer= ending=0
  read_status "$boot_deadline" word || ending=$?
  [ "$word" = begun ] || return 1
  begun=1
}

# Reads the words of the guest's next report. DEADLINE: in the shell's SECONDS, or nothing.
read_status() { # DEADLINE VARIABLE...
  local left=
  if [ -n "$1" ]; then
    left=$(($1 - SECONDS))
    [ $left -gt 0 ] || return 142 # read itself takes a time of 0 for a question
  fi
  shift
  read -r ${left:+-t "$left"} -u "$status" "$@"
}

# In words, what became of a guest in which CMD has not begun.
why_no_command() {
  local last
  if [ "$ending" -gt 128 ]; then
    echo "has not started its command for $boot_limit seconds"
    return
  fi
  last=$(grep -aE 'Oops|BUG:|panic' "$scratch/console" | head -n 1 | tr -d '\r') || true
  [ -n "$last" ] || last=$(tail -n 1 "$scratch/emulator")
  echo "died before its command began (${last:-without a word})"
}

# CMD's output goes through a file. A pipe whose reader is slow would hold up the guest; and QEMU would
# change the flags of the caller's stdout if it had that. When nobody reads any more, this script ends
# as any other in a pipeline does.
relay_output() {
  { tail -q -c +1 -s 0.1 -f --pid="$emulator" "$scratch/output" || kill -s PIPE $$; } &
  relay=$!
}

# The status may overtake the last of the output, which has $1 bytes.
await_output() {
  local i
  for ((i = 0; i < 100; i++)); do
    [ "$(stat -c %s "$scratch/output")" -lt "$1" ] || return 0
    sleep 0.1
  done
}

# Has the guest write its state to its console log, if it still can. See answer_host in lib-vm/init.
ask_guest() {
  local i
  echo
  for ((i = 0; i < 20; i++)); do
    ! grep -aqs 'vm: that was all' "$scratch/console" || return 0
    sleep 0.5
  done
}

# The guest has nothing to save.
stop_emulator() {
  [ -n "$emulator" ] || return 0
  kill -KILL "$emulator" 2>/dev/null || true # it may have ended by itself
  wait "$emulator" 2>/dev/null || true       # a killed process has a status of its own
  emulator=
  [ -z "$terminal_state" ] || stty "$terminal_state"
}

clean_up() {
  stop_emulator
  [ -z "$scratch" ] || rm -rf "$scratch"
}

report() {
  local log=$scratch/log state
  tr -d '\r' <"$scratch/console" >"$log"
  [ -z "${UBLK_SCRIPT_VM_LOG:-}" ] || cp "$log" "$UBLK_SCRIPT_VM_LOG"
  if [ -z "$answer" ]; then
    if [ "$begun" = 0 ]; then
      echo "vm: the guest $(why_no_command), twice; its console log ends with:" >&2
    elif [ "$ending" -gt 128 ]; then
      echo "vm: the guest did not finish within $limit seconds; its console log ends with:" >&2
    else
      echo "vm: the guest died while its command ran; its console log ends with:" >&2
    fi
    # back to where the kernel died or was asked: a call trace alone may have more than 40 lines
    state=$(sed -nE '/vm: the time is up|Kernel panic|Oops: |BUG: /,$p' "$log" | wc -l)
    tail -n $((40 + state)) "$log" >&2
    cat "$scratch/emulator" >&2
    exit 124
  fi
  # nothing else tells when CMD itself does not look; no match is a failure to grep
  grep -aE 'WARNING: |BUG: |Oops: ' "$log" | sed 's/^/vm: in the kernel log: /' >&2 || true
  exit "$answer"
}
