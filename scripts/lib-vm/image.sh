# Sourced by scripts/vm: builds what the guest boots from, an initramfs of two parts.
# The base part has the tools and the kernel modules; it is cached per kernel. The other part has what
# changes from run to run: the binary, the project's scripts and tests, the command.
# Both are left uncompressed: under TCG unpacking costs the guest more than reading costs the host.
# shellcheck shell=bash

# Packages whose programs go into the guest. Where one of these is not installed and nowhere else,
# busybox fills the gap.
image_packages=(
  bash bsdutils coreutils dash diffutils dmsetup e2fsprogs fdisk findutils fio grep gzip kmod mawk mount procps psmisc
  sed strace util-linux util-linux-extra xfsprogs
)

# Files of the host the programs above read, or load without saying so to ldd.
image_files=(
  /etc/mke2fs.conf /usr/share/xfsprogs /usr/lib/locale/C.utf8
  /{usr/,}lib/terminfo/{l/linux,s/screen*,t/tmux*,v/vt100,x/xterm*}
  /lib/*-linux-gnu/libgcc_s.so.1
)

# Modules in the guest's /lib/modules, with whatever they depend on. Names which a kernel does not
# have, or has built in, are passed over.
image_modules=(
  ublk_drv null_blk loop nbd brd zram virtio_blk scsi_debug sd_mod
  dm_mod dm_delay dm_flakey dm_dust dm_log_writes dm_snapshot dm_zero dm_thin_pool dm_writecache
  dm_multipath dm_round_robin dm_queue_length
  ext4 xfs overlay configfs virtio_rng mq_deadline kyber_iosched bfq
  crc32c crc32c_generic crc32c_intel libcrc32c
)

# Sets image_base, the cpio file of the base part for the kernel in kernel_dir.
image_get_base() {
  local key
  key=$(image_base_key)
  image_base=$cache/images/$(<"$kernel_dir/release")-$key.cpio
  [ -e "$image_base" ] && return
  mkdir -p "$cache/images"
  with_lock "$cache/images/lock" image_build_base
}

# A name for everything the base part is made from.
image_base_key() {
  {
    cat "${BASH_SOURCE[0]}" "$kernel_dir/release"
    # fails for a package that is not installed, and that is part of the key too
    dpkg-query -W "${image_packages[@]}" busybox-static libc6 2>&1 || true
  } | sha256sum | cut -c 1-16
}

image_build_base() {
  [ ! -e "$image_base" ] || return 0 # somebody else was quicker
  local root=$cache/images/new
  echo "vm: building the guest's base image, once per kernel" >&2
  rm -rf "$root" # of a build that was killed
  mkdir -p "$root"/{dev,proc,sys,run,tmp,mnt,root,var,work,etc/modprobe.d} "$root"/usr/{bin,sbin,lib,lib64,local/bin}
  local dir
  for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
  ln -s ../run "$root/var/run"
  image_add_programs "$root"
  image_add_modules "$root"
  image_add_etc "$root"
  image_pack "$root" "$root.cpio"
  mv "$root.cpio" "$image_base"
  rm -rf "$root"
  # images of other versions are of use to other checkouts, but not for ever
  find "$cache/images" -name '*.cpio' -mmin +1440 ! -path "$image_base" -delete
}

image_add_programs() {
  local files file libraries applet
  # file by file: a package's list has folders and manual pages too
  files=$(dpkg -L "${image_packages[@]}" 2>/dev/null | grep -E '^(/usr)?/s?bin/.' | sort -u)
  mapfile -t files <<<"$files"
  for file in "${image_files[@]}" "$(command -v busybox)"; do [ ! -e "$file" ] || files+=("$file"); done
  mapfile -t libraries < <(image_libraries "${files[@]}")
  image_copy "$1" "${files[@]}" "${libraries[@]}"
  ln -sf mawk "$1/usr/bin/awk"
  for applet in $(busybox --list); do
    [ -e "$1/usr/bin/$applet" ] || [ -e "$1/usr/sbin/$applet" ] || ln -s busybox "$1/usr/bin/$applet"
  done
}

# Prints the libraries of some programs.
image_libraries() {
  # ldd speaks of scripts and static programs on stderr and fails then; they need no libraries
  { ldd "$@" 2>/dev/null || true; } | sed -n 's/^\(.*=> \)\{0,1\}[[:space:]]*\(\/[^ ]*\) (0x.*/\2/p' | sort -u
}

# Copies files and folders to the same place below $1, and links to what they point at.
image_copy() {
  local root=$1
  shift
  # the guest has /bin, /sbin and /lib* in /usr, wherever the host has them
  printf '%s\n' "${@#/}" |
    tar -C / -chf - --verbatim-files-from -T - --transform='s#^\(s\{0,1\}bin\|lib[^/]*\)/#usr/\1/#' |
    tar -C "$root" -xf -
}

image_add_modules() {
  local release module kind path source
  release=$(<"$kernel_dir/release")
  for module in "${image_modules[@]}"; do
    # fails for a name this kernel does not have
    modprobe -C /dev/null -d "$kernel_dir" -S "$release" --show-depends "$module" 2>/dev/null || true
  done | sort -u | while read -r kind path _; do
    [ "$kind" = insmod ] || continue
    source=$path
    path=$1/usr${path#"$kernel_dir"}
    mkdir -p "$(dirname "$path")"
    case $source in
      *.xz) xz -dc "$source" >"${path%.xz}" ;;
      *.zst) zstd -q -dc "$source" >"${path%.zst}" ;;
      *) cp "$source" "$path" ;;
    esac
  done
  cp "$kernel_dir/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$1/usr/lib/modules/$release/"
  depmod -b "$1" "$release"
}

image_add_etc() {
  echo 'root:x:0:0:root:/root:/bin/bash' >"$1/etc/passwd"
  echo 'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' >>"$1/etc/passwd"
  printf '%s\n' root:x:0: disk:x:6: nogroup:x:65534: >"$1/etc/group"
  printf '%s\n' 'passwd: files' 'group: files' 'hosts: files' >"$1/etc/nsswitch.conf"
  echo '127.0.0.1 localhost ublk-vm' >"$1/etc/hosts"
  echo ublk-vm >"$1/etc/hostname"
  ln -s /proc/self/mounts "$1/etc/mtab"
  # tests make the null_blk devices they want; the module's own one would be in their way
  echo 'options null_blk nr_devices=0' >"$1/etc/modprobe.d/null_blk.conf"
  # udev would load it
  echo 'softdep scsi_debug post: sd_mod' >"$1/etc/modprobe.d/scsi_debug.conf"
}

# Makes the second part. $1: scratch folder, $2: cpio file, $3: binary, $4: project folder, others:
# extra files. The guest's configuration comes in on stdin.
image_build_run_part() {
  local root=$1 out=$2 binary=$3 project=$4 folder
  shift 4
  mkdir -p "$root"/{etc,work/Tests,work/extra,usr/lib,usr/local/bin}
  cat >"$root/etc/vm.conf"
  cp "$project/scripts/lib-vm/init" "$root/init"
  for folder in scripts Tests/Device docs; do
    [ ! -d "$project/$folder" ] || cp -a "$project/$folder" "$root/work/$folder"
  done
  cp -L "$binary" "$root/usr/local/bin/ublk-script"
  [ $# = 0 ] || cp -aL "$@" "$root/work/extra/"
  image_add_libraries "$root" "$binary" "$@"
  image_add_injector "$root" "$project"
  image_pack "$root" "$out"
}

# Builds inject, which Tests/Device/test-injection.sh needs; without it that is skipped.
image_add_injector() { # ROOT PROJECT
  local source=$2/Tests/Injection/inject.c compiler
  [ -e "$source" ] && [ "$(uname -m)" = x86_64 ] || return 0
  compiler=$(command -v cc || command -v clang) || return 0
  "$compiler" -O1 -Wall -Wextra -static -o "$1/usr/local/bin/inject" "$source"
}

# Adds the libraries of some programs, or of the programs in some folders.
image_add_libraries() {
  local root=$1 programs libraries library
  shift
  mapfile -t programs < <(find -L "$@" -type f -perm /111)
  mapfile -t libraries < <(image_libraries "${programs[@]}")
  [ ${#libraries[@]} -gt 0 ] || return 0
  image_copy "$root" "${libraries[@]}"
  # one that was found next to its program ($ORIGIN) has to be found from another place in the guest
  for library in "${libraries[@]}"; do
    case $library in
      /lib* | /usr/lib/*) ;;
      *) ln -sf "$library" "$root/usr/lib/" ;;
    esac
  done
}

# Packs the folder $1 into the cpio file $2, with root as the owner of everything.
image_pack() {
  (cd "$1" && find . -print0 | cpio --null -o -H newc -R +0:+0 --quiet) >"$2"
}
