# Sourced by scripts/vm: fetches stock Debian cloud kernels through apt.
# What is fetched stays; delete $cache/kernels/SERIES to get a newer kernel of the series.
# shellcheck shell=bash

# The suites that carry a series, the likeliest first. Only the newest kernels stay in a suite.
kernel_suites() {
  case $1 in
    6.12) echo bookworm-backports trixie ;;
    *) echo trixie-backports forky sid ;;
  esac
}

# Sets kernel_dir, a folder with vmlinuz, release (a text file) and lib/modules/RELEASE.
# $1: series. Fetches the kernel when it is not there yet.
kernel_get() {
  kernel_dir=$cache/kernels/$1
  [ -e "$kernel_dir/release" ] && return
  mkdir -p "$cache/kernels"
  with_lock "$cache/kernels/$1.lock" kernel_fetch "$1"
}

kernel_fetch() {
  local new=$cache/kernels/$1.new suite mirror
  [ ! -e "$kernel_dir/release" ] || return 0 # somebody else was quicker
  mirror=$(apt_mirror) || exit 1
  echo "vm: fetching the newest $1 kernel" >&2
  for suite in $(kernel_suites "$1"); do
    rm -rf "$new" # of a suite without the series, or of a fetch that was killed
    mkdir -p "$new"
    apt_private_state "$new/apt" "$mirror" "$suite"
    kernel_download "$1" "$new" || continue
    kernel_unpack "$new"
    rm -rf "$new/apt" "$new/debs" "$new/unpacked" "$kernel_dir"
    mv "$new" "$kernel_dir" # in one step: nobody ever sees half a kernel
    return
  done
  rm -rf "$new"
  echo "vm: no cloud kernel of the series $1 for $arch in: $(kernel_suites "$1")" >&2
  exit 1
}

# Downloads the packages of the newest kernel of the series $1 to $2/debs; fails when there is none.
kernel_download() {
  local names release package
  apt-get -qq "${apt_options[@]}" update >&2 || return 1
  names=$(apt-cache "${apt_options[@]}" pkgnames linux-)
  release=$(sed -n "s/^linux-image-\(${1//./\\.}\.[0-9][^-]*\(-[0-9]*\)\{0,1\}-cloud-$arch\)\$/\1/p" <<<"$names" |
    sort -V | tail -n 1)
  [ -n "$release" ] || return 1
  mkdir "$2/debs" || return 1
  # one package up to 6.x; 7.x has modules and the image itself in packages of their own
  for package in linux-{image,base,modules,binary}-"$release"; do
    grep -qxF "$package" <<<"$names" || continue
    (cd "$2/debs" && apt-get -qq "${apt_options[@]}" download "$package" >&2) || return 1
  done
}

# Makes of $1/debs the files kernel_get promises, in $1.
kernel_unpack() {
  local deb modules image release
  for deb in "$1"/debs/*.deb; do dpkg-deb -x "$deb" "$1/unpacked"; done
  modules=$(dirname "$(find "$1/unpacked" -name modules.order)")
  image=$(find "$1/unpacked" -type f -name 'vmlinuz*')
  release=$(basename "$modules")
  mkdir -p "$1/lib/modules"
  mv "$image" "$1/vmlinuz"
  mv "$modules" "$1/lib/modules/"
  depmod -b "$1" "$release"
  echo "$release" >"$1/release"
}
