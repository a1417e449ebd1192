#!/bin/bash
# time limit: 300
# A disk whose script passes everything is a disk: filesystems live on it, no byte is wrong.
. "$(dirname "$0")/lib.sh"

pass_script() {
  script pass <<'LUA'
    device { size = "320M" }
    function read(io, offset, length) end
    function write(io, offset, length) end
    function flush(io) end
    function discard(io, offset, length) end
    function write_zeroes(io, offset, length) end
LUA
}

# Sets more, the options for a backing.
choose_backing() { # memory|file
  more=()
  [ "$1" = memory ] || more=(--file "$work/disk.img")
}

# Some hundred files in folders, of 0 bytes to 2 MiB.
populate() { # FOLDER
  local i
  for i in {1..12}; do
    mkdir "$1/folder$i"
    split -d -a 2 -b $((i * 300)) <(head -c $((i * 300 * 25 - 1)) /dev/urandom) "$1/folder$i/file"
  done
  head -c 2M /dev/urandom >"$1/large"
  head -c 1M /dev/zero >"$1/zeroes"
  : >"$1/empty"
  ln "$1/large" "$1/link"
}

checksums() { # FOLDER
  (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

mount_cycle() { # FSCK-COMMAND...
  mkdir "$work/mnt"
  mount "$dev" "$work/mnt"
  populate "$work/mnt"
  checksums "$work/mnt" >"$work/before"
  expect_between "files" "$(wc -l <"$work/before")" 300 400
  rm -r "$work"/mnt/folder3
  fstrim "$work/mnt"
  sed -i '/folder3/d' "$work/before"
  umount "$work/mnt"
  "$@" "$dev"
  # another reader of the same blocks than the one that wrote them
  blockdev --flushbufs "$dev"
  mount "$dev" "$work/mnt"
  checksums "$work/mnt" >"$work/after"
  umount "$work/mnt"
  cmp "$work/before" "$work/after"
}

filesystem() { # TYPE BACKING QUEUES
  local more
  pass_script
  choose_backing "$2"
  add_device pass "queues=$3" "${more[@]}"
  case $1 in
    ext4)
      mkfs.ext4 -q "$dev"
      mount_cycle e2fsck -f -n
      ;;
    xfs)
      mkfs.xfs -q "$dev"
      mount_cycle xfs_repair -n
      ;;
  esac
  [ "$(counter failed)" = 0 ] && [ "$(counter script_errors)" = 0 ] && [ "$(counter backing_errors)" = 0 ]
}

t_ext4_lives_on_memory_with_1_queue() { filesystem ext4 memory 1; }
t_ext4_lives_on_memory_with_2_queues() { filesystem ext4 memory 2; }
t_ext4_lives_on_a_file_with_1_queue() { filesystem ext4 file 1; }
t_ext4_lives_on_a_file_with_2_queues() { filesystem ext4 file 2; }
t_XFS_lives_on_memory_with_1_queue() { filesystem xfs memory 1; }
t_XFS_lives_on_memory_with_2_queues() { filesystem xfs memory 2; }
t_XFS_lives_on_a_file_with_1_queue() { filesystem xfs file 1; }
t_XFS_lives_on_a_file_with_2_queues() { filesystem xfs file 2; }

# fio writes blocks that carry their checksum, reads them back and compares.
verified_fio() { # BACKING QUEUES FIO-OPTION...
  local backing=$1 queues=$2 more
  shift 2
  pass_script
  choose_backing "$backing"
  add_device pass size=8M "queues=$queues" "${more[@]}"
  expect_status 0 fio --name=verify --filename="$dev" --direct=1 --ioengine=libaio --iodepth=32 --size=8M \
    --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 "$@"
  expect_output "err= 0"
}

t_fio_finds_no_wrong_byte_on_memory_with_1_queue() { verified_fio memory 1 --rw=randwrite --bs=4k; }
t_fio_finds_no_wrong_byte_on_memory_with_2_queues() { verified_fio memory 2 --rw=randwrite --bsrange=512-128k --bs_unaligned=0; }
t_fio_finds_no_wrong_byte_on_a_file_with_1_queue() { verified_fio file 1 --rw=randwrite --bsrange=4k-256k; }
t_fio_finds_no_wrong_byte_on_a_file_with_2_queues() { verified_fio file 2 --rw=randwrite --bs=4k; }
t_fio_finds_no_wrong_byte_between_discards_on_memory() { verified_fio memory 2 --rw=randtrimwrite --bs=16k; }
t_fio_finds_no_wrong_byte_between_discards_on_a_file() { verified_fio file 2 --rw=randtrimwrite --bs=16k; }

# Four writers of their own parts, with requests as large as the device takes.
t_fio_finds_no_wrong_byte_with_four_writers_and_large_requests() {
  local more
  pass_script
  choose_backing file
  add_device pass size=32M queues=2 max_io=1M "${more[@]}"
  expect_status 0 fio --name=verify --filename="$dev" --direct=1 --ioengine=io_uring --iodepth=8 --numjobs=4 \
    --size=8M --offset_increment=8M --rw=write --bs=1M --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
    --group_reporting
  expect_output "err= 0"
}

# What was written is in the file, at its place.
t_the_backing_file_holds_what_was_written() {
  pass_script
  head -c 8M /dev/urandom >"$work/data"
  add_device pass size=8M --file "$work/disk.img"
  dd if="$work/data" of="$dev" bs=64K oflag=direct status=none
  ublk-script del "$id"
  cmp "$work/data" "$work/disk.img"
}

run_cases "$@"
