# Sourced by scripts/vm: what depends on the machine it runs on.
# Everything that differs between architectures is in machine_describe, and nowhere else.
# shellcheck shell=bash

# Sets: arch, qemu, qemu_roms (options), machine_type, console (the guest's name for QEMU's first serial port).
machine_describe() {
  qemu_roms=() # the installed QEMU finds its own
  arch=$(dpkg --print-architecture)
  case $arch in
    amd64) qemu=qemu-system-x86_64 machine_type=q35 console=ttyS0 ;;
    # arm64 has not been tried: no such machine was at hand
    arm64) qemu=qemu-system-aarch64 machine_type=virt,gic-version=max console=ttyAMA0 ;;
    *)
      echo "vm: no virtual machine is described for the architecture $arch (scripts/lib-vm/machine.sh)" >&2
      exit 1
      ;;
  esac
}

# Sets: accel (kvm or tcg), accel_options (for QEMU), accel_boot (for the guest's kernel).
# $1: a kernel image to try KVM with.
machine_choose_accel() {
  if kvm_works "$1"; then
    accel=kvm accel_options=(-accel kvm -cpu host) accel_boot=
  else
    emulator_choose
  fi
}

# /dev/kvm may be there and still be unable to run a stock kernel, so the only test that counts is
# to boot one. The answer holds until this machine boots again.
kvm_works() {
  local boot_id answer
  [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
  boot_id=$(</proc/sys/kernel/random/boot_id)
  answer=$cache/kvm/$boot_id
  [ -e "$answer" ] || with_lock "$cache/kvm.lock" kvm_find_out "$1" "$answer"
  [ "$(<"$answer")" = yes ]
}

# $1: kernel image, $2: the file that gets the answer.
kvm_find_out() {
  [ ! -e "$2" ] || return 0 # somebody else was quicker
  local scratch=$cache/kvm/probe
  rm -rf "$cache/kvm" # answers of earlier boots, and what a killed probe left
  mkdir -p "$scratch"
  echo "vm: trying KVM, once until the next boot: up to 20 seconds" >&2
  kvm_probe "$1" "$scratch" 2>/dev/null # the shell has a word to say when QEMU aborts
  if grep -aqs kvm-works "$scratch/console"; then echo yes; else echo no; fi >"$scratch/answer"
  mv "$scratch/answer" "$2"
  rm -rf "$scratch"
}

# Boots the kernel image $1 with an init that says one word. $2: scratch folder.
kvm_probe() {
  mkdir -p "$2/root/bin"
  cp "$(command -v busybox)" "$2/root/bin/busybox"
  printf '#!/bin/busybox sh\necho kvm-works\n/bin/busybox poweroff -f\n' >"$2/root/init"
  chmod +x "$2/root/init"
  (cd "$2/root" && find . | cpio -o -H newc --quiet) >"$2/initrd"
  # where KVM is broken QEMU may hang as well as fail; the two setpriv keep it from staying behind
  # whoever is killed first. How it ends does not matter: the word is the answer.
  setpriv --pdeathsig KILL timeout --foreground -s KILL 20 setpriv --pdeathsig KILL \
    "$qemu" -M "$machine_type" -accel kvm -cpu host -m 512 -nodefaults -no-user-config -display none \
    -no-reboot -serial "file:$2/console" -kernel "$1" -initrd "$2/initrd" \
    -append "console=$console panic=-1" </dev/null >"$2/qemu" 2>&1 || true
}
