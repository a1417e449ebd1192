# Sourced by scripts/vm: boots the guest, passes CMD's output on, and finds out how it ended.
# shellcheck shell=bash

# QEMU in place of this process. Dies with the script, even if that is killed with SIGKILL.
run_emulator() {
  local options=(
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
  exec setpriv --pdeathsig KILL "$qemu" "${options[@]}" 2>>"$scratch/emulator"
}

# Boots, and sets answer to CMD's exit status, or to nothing when the guest did not tell one.
boot() {
  local input=$scratch/input output questions status bytes=
  if [ $interactive = 1 ]; then
    terminal_state=$(stty -g)
    input=/dev/tty
    exec {output}>&1
  else
    mkfifo "$input"
    exec {questions}<>"$input" {output}>"$scratch/output"
  fi
  echo "vm: kernel $(<"$kernel_dir/release"), $accel, $cpus cpus, QEMU $(emulator_version)" >&2
  exec 8<"$scratch/initrd"
  rm "$scratch/initrd" # it is big, and a script that is killed with SIGKILL cannot tidy up
  exec {status}< <(run_emulator <"$input" 9>&1 >&"$output")
  emulator=$!
  exec 8<&-
  exec {output}>&-
  [ $interactive = 1 ] || relay_output
  answer= ending=0
  # a status over 128 is the time limit, another one the end of QEMU
  read -r ${limit:+-t "$limit"} -u "$status" answer bytes || ending=$?
  if [ "$ending" -gt 128 ]; then ask_guest >&"$questions"; fi
  [ -z "$bytes" ] || await_output "$bytes"
  stop_emulator
  # it ends when QEMU has ended, and how it ends has been dealt with
  [ -z "$relay" ] || wait "$relay" || true
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
    if [ "$ending" -gt 128 ]; then
      echo "vm: the guest did not finish within $limit seconds; its console log ends with:" >&2
    else
      echo "vm: the guest died; its console log ends with:" >&2
    fi
    state=$(sed -n '/vm: the time is up/,$p' "$log" | wc -l)
    tail -n $((40 + state)) "$log" >&2
    cat "$scratch/emulator" >&2
    exit 124
  fi
  # nothing else tells when CMD itself does not look; no match is a failure to grep
  grep -aE 'WARNING: |BUG: |Oops: ' "$log" | sed 's/^/vm: in the kernel log: /' >&2 || true
  exit "$answer"
}
