# Sourced by scripts/vm: a QEMU that is fit to emulate several processors (TCG). Where KVM works any QEMU is.
#
# A kernel patches its own text while it runs (static keys: a breakpoint first, then the new instruction). QEMU before
# 8.1 may go on with what it had translated of the old text when each processor has a thread of its own, and the guest
# dies of `Oops: int3` at any moment. The installed QEMU is used when it is new enough; otherwise the one in the
# backports suite of this machine's release, kept in $cache/emulator. Delete that folder to get a newer one.
#
# A small gap is in every QEMU: a store to translated text first drops the translations, then stores, and nothing holds
# off a translation between the two (notdirty_write in accel/tcg/cputlb.c). It takes a host that stops one processor's
# thread right there, within some hundred nanoseconds: seen on a host with several times the work it could do, and in guests
# that had run all device tests before they switched a key as fast as they could. So a kernel under TCG should patch
# itself as little as possible while it runs.
# shellcheck shell=bash

emulator_fit=8.1

# Sets accel, accel_options and accel_boot for TCG, and qemu and qemu_roms when another QEMU than the installed one
# is to be used. Says why when several processors have to share a thread.
emulator_choose() {
  local threads=multi version why=
  accel=tcg accel_boot=
  # The watchdog of the TSC takes a processor that the host has stopped for a bad clock, and marking the clock so patches
  # sched_clock_cpu, at the worst moment there is. The TSC of QEMU is the host's clock.
  [ "$arch" != amd64 ] || accel_boot=tsc=reliable
  if ! emulator_is_fit "$(emulator_version)"; then
    if why=$(emulator_get); then
      qemu=$cache/emulator/usr/bin/$qemu
      qemu_roms=(-L "$cache/emulator/usr/share/qemu" -L "$cache/emulator/usr/share/seabios")
    else
      threads=single
    fi
  fi
  version=$(emulator_version)
  if [ $threads = single ]; then
    echo "vm: QEMU $version lets guests die at random when it uses a thread for each processor ($emulator_fit is" \
      "sound), and $why: all processors share one thread now, which is slow" >&2
  fi
  accel_options=(-accel "tcg,thread=$threads,tb-size=512" -cpu max)
  # QEMU before 8.0 leaves garbage in EFLAGS after cmpxchg16b, and 6.12 runs one in each allocation:
  # guests died of impossible faults. The kernel must do without; programs hardly use it.
  if [ "$arch" = amd64 ] && ! emulator_is_at_least 8.0 "$version"; then accel_boot+=" clearcpuid=cx16"; fi
}

# The version of qemu; nothing when it does not run.
emulator_version() { "$qemu" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p' || true; }

emulator_is_fit() { emulator_is_at_least "$emulator_fit" "$1"; } # VERSION

emulator_is_at_least() { [ "$(printf '%s\n' "$1" "${2:-0}" | sort -V | head -n 1)" = "$1" ]; } # WANTED VERSION

# Fetches one when none is there yet; else, or when it cannot, prints why.
emulator_get() {
  [ -e "$cache/emulator/fit" ] || with_lock "$cache/emulator.lock" emulator_fetch
  [ -e "$cache/emulator/fit" ]
}

emulator_fetch() {
  local new=$cache/emulator.new suite mirror deb
  [ ! -e "$cache/emulator/fit" ] || return 0 # somebody else was quicker
  suite=$(apt_codename)-backports
  mirror=$(apt_mirror 2>/dev/null) && [ "$suite" != -backports ] || {
    echo "this machine's apt sources name no Debian release to take another from"
    return 1
  }
  echo "vm: QEMU $(emulator_version) is too old for a guest of several processors; fetching the one of $suite" >&2
  rm -rf "$new" # of a fetch that was killed
  mkdir -p "$new/debs"
  apt_private_state "$new/apt" "$mirror" "$suite"
  if ! emulator_download "$new/debs" "$suite"; then
    echo "none could be fetched from $suite"
    return 1
  fi
  for deb in "$new"/debs/*.deb; do dpkg-deb -x "$deb" "$new" || return 1; done
  rm -rf "$new/apt" "$new/debs"
  if ! emulator_is_fit "$(qemu=$new/usr/bin/$qemu emulator_version)"; then
    echo "the one of $suite does not run here, or is too old"
    return 1
  fi
  touch "$new/fit"
  rm -rf "$cache/emulator"
  mv "$new" "$cache/emulator" # in one step: nobody ever sees half of it
}

# The libraries it needs are those of the installed one, which scripts/setup has seen to.
emulator_download() { # FOLDER SUITE
  local packages=(qemu-system-common qemu-system-data) package
  case $arch in
    amd64) packages+=(qemu-system-x86 seabios) ;;
    arm64) packages+=(qemu-system-arm) ;;
  esac
  apt_update
  for package in "${packages[@]}"; do
    (cd "$1" && apt-get -qq "${apt_options[@]}" download "$package/$2" >&2) || return 1
  done
}
