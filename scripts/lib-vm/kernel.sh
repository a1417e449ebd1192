# Sourced by scripts/vm: fetches stock Debian cloud kernels through apt.
#
# A kernel is named by its series (6.12: the newest build of it that any suite offers), or exactly (6.12.95, or
# 6.12.95+deb12 where two releases have built it). Each build fetched stays below $cache/kernels, by its full name;
# SERIES.newest there has the name of the one that was the newest when the archive was last asked.
# shellcheck shell=bash

kernel_name_is_valid() { [[ $1 =~ ^[0-9]+\.[0-9]+(\.[0-9]+(\+[a-z0-9.]+)?)?$ ]]; } # NAME

kernel_is_series() { [[ $1 =~ ^[0-9]+\.[0-9]+$ ]]; } # NAME

# Sets kernel_dir, a folder with vmlinuz, release (a text file) and lib/modules/RELEASE. Fetches the kernel when it is
# not there yet; with a second word also asks whether there is a newer one.
kernel_get() { # NAME [update]
  local release
  release=$(kernel_cached "$1")
  if [ -z "$release" ] || [ -n "${2:-}" ]; then
    mkdir -p "$cache/kernels"
    with_lock "$cache/kernels/lock" kernel_fetch "$1" "${2:-}"
    release=$(kernel_cached "$1")
  fi
  kernel_dir=$cache/kernels/$release
}

# Prints the release of the kernel NAME that is there.
kernel_cached() { # NAME
  local releases
  if kernel_is_series "$1"; then
    cat "$cache/kernels/$1.newest" 2>/dev/null || true
    return
  fi
  releases=$(cd "$cache/kernels" 2>/dev/null && ls) || true
  kernel_newest "$1" <<<"$releases"
}

# Prints the newest of the releases on stdin that NAME means; nothing when there is none.
kernel_newest() { # NAME
  local pattern=${1//./\\.}
  pattern=${pattern//+/\\+}
  if kernel_is_series "$1"; then pattern=$pattern'\.[0-9]+'; fi
  { grep -E "^$pattern([+-].*)?-cloud-$arch\$" || true; } | sort -V | tail -n 1
}

kernel_fetch() { # NAME [update]
  local new=$cache/kernels/new names releases release suites
  [ -n "$2" ] || [ -z "$(kernel_cached "$1")" ] || return 0 # somebody else was quicker
  suites=$(apt_all_suites) || exit 1
  # shellcheck disable=SC2086
  apt_private_state "$cache/apt" $suites
  apt_update
  names=$(apt-cache "${apt_options[@]}" pkgnames linux-)
  releases=$(sed -n "s/^linux-image-\([0-9]*\.[0-9]*\.[0-9].*-cloud-$arch\)\$/\1/p" <<<"$names" | sort -V)
  release=$(kernel_newest "$1" <<<"$releases")
  [ -n "$release" ] || kernel_refuse "$1" "$releases"
  if [ ! -e "$cache/kernels/$release/release" ]; then
    echo "vm: fetching the kernel $release" >&2
    rm -rf "$new" # of a fetch that was killed
    mkdir -p "$new/debs"
    kernel_download "$release" "$new/debs" "$names"
    kernel_unpack "$new"
    rm -rf "$new/debs" "$new/unpacked"
    mv "$new" "$cache/kernels/$release" # in one step: nobody ever sees half a kernel
  fi
  if kernel_is_series "$1"; then
    echo "$release" >"$cache/kernels/$1.newest.new"
    mv "$cache/kernels/$1.newest.new" "$cache/kernels/$1.newest"
  fi
}

# Ends because no suite has the kernel NAME, and tells which RELEASES there are.
kernel_refuse() { # NAME RELEASES
  local series same
  if [ -z "$2" ]; then
    echo "vm: no suite of this machine's Debian mirror could be read, or none has a cloud kernel for $arch" >&2
    exit 1
  fi
  series=$(cut -d . -f 1,2 <<<"$2" | sort -Vu)
  same=$(grep -E "^$(cut -d . -f 1,2 <<<"$1" | sed 's/\./\\./')\." <<<"$2" || true)
  if kernel_is_series "$1" || [ -z "$same" ]; then
    echo "vm: the archive has no kernel $1 for $arch (or no more); it has the series" $series >&2
  else
    echo "vm: the archive has no kernel $1 for $arch (or no more); of its series it has" ${same//-cloud-$arch/} >&2
  fi
  exit 1
}

# Downloads the packages of a kernel to a folder. One package up to 6.x; 7.x has modules and the image itself in
# packages of their own.
kernel_download() { # RELEASE FOLDER NAMES-OF-PACKAGES
  local package
  for package in linux-{image,base,modules,binary}-"$1"; do
    grep -qxF "$package" <<<"$3" || continue
    (cd "$2" && apt-get -qq "${apt_options[@]}" download "$package" >&2) || {
      echo "vm: apt-get could not download $package" >&2
      exit 1
    }
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
