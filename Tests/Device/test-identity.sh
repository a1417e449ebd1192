#!/bin/bash
# time limit: 300
# A name is what it says: the node is the device, a backing is nobody else's, and what is in use is not taken away.
. "$(dirname "$0")/lib.sh"

plain_script() {
  script plain <<'LUA'
    device { size = "64M" }
LUA
}

loop_of() { losetup -n -O NAME -j "$work/$1"; }

# lib.sh calls this at the end of each case.
tidy_case() {
  local loop status=0 path
  swapoff -a 2>/dev/null
  for path in $(mounts | tac); do umount "$path" || status=1; done
  [ ! -e /dev/mapper/ublk-script-top ] || dmsetup remove --retry ublk-script-top || status=1
  for loop in $(losetup -n -O NAME); do losetup -d "$loop" || status=1; done
  for path in /dev/ublkb*; do [ ! -f "$path" ] || rm "$path"; done
  return $status
}

# ---- nodes ----

t_a_file_in_the_place_of_the_node_fails_add() {
  plain_script
  echo hello >/dev/ublkb7
  expect_status 1 ublk-script add plain.lua -n 7
  expect_output "/dev/ublkb7 is a regular file"
  expect_equal "what is there" "$(</dev/ublkb7)" hello
  rm /dev/ublkb7
  no_leftovers
}

t_a_file_in_the_place_of_the_node_of_a_live_device_is_told() {
  plain_script
  add_device plain
  mknod "$work/kept" b "$(stat -c '0x%t' "$dev")" "$(stat -c '0x%T' "$dev")"
  rm "$dev"
  echo hello >"$dev"
  expect_status 0 ublk-script list
  expect_output "$dev is a regular file"
  expect_status 1 ublk-script del "$dev"
  expect_output "$dev is a regular file"
  local command
  for command in "stop $dev" "stats $dev" "ledger $dev" "ctl $dev stats" "reload $dev plain.lua" "map $dev file" \
    "wait $dev held" "list $dev" "add plain.lua -n $dev"; do
    # shellcheck disable=SC2086
    expect_status 1 timeout 10 ublk-script $command
    expect_output "$dev is a regular file"
  done
  touch file
  expect_status 1 ublk-script map "$id" file
  expect_output "$dev is a regular file"
  rm "$dev"
  mv "$work/kept" "$dev"
  ublk-script del "$dev"
  rm -f "$dev"
}

# ---- backing ----

t_no_file_is_made_below_dev_proc_and_sys() {
  plain_script
  local path
  for path in /dev/sdx /dev/ublkb9 /dev/shm/../sdy /proc/sdx /sys/sdx; do
    expect_status 1 ublk-script add plain.lua --file $path
    expect_output "$path" "no file is made"
    [ ! -e $path ] || fail "$path was made"
  done
  ln -s /dev link
  expect_status 1 ublk-script add plain.lua --file link/sdx
  expect_output "no file is made"
  truncate -s 64M /dev/sdx
  expect_status 1 ublk-script add plain.lua --file /dev/sdx
  rm /dev/sdx
  no_leftovers
}

t_a_block_device_as_backing_is_nobody_elses_while_it_is_used() {
  plain_script
  truncate -s 64M below.img
  local loop
  loop=$(losetup -f --show below.img)
  mkfs.ext4 -q "$loop"
  mkdir mnt
  add_device plain --file "$loop"
  ! mount "$loop" mnt 2>/dev/null || fail "it was mounted beside the device"
  expect_status 1 ublk-script add "$work/plain.lua" --file "$loop"
  expect_output "in use"
  ublk-script del "$id"
  mount "$loop" mnt
  expect_status 1 ublk-script add "$work/plain.lua" --file "$loop"
  expect_output "in use"
  umount mnt
}

# ---- in use ----

expect_refused_in_use() { # WHAT
  expect_status 1 ublk-script del "$id"
  expect_output "in use" "$1" "--force"
  expect_status 1 ublk-script stop "$id"
  expect_output "in use" "$1"
  expect_status 1 ublk-script del --all
  expect_output "$1"
  expect_equal "state" "$(state_of "$id")" LIVE
}

t_a_mounted_device_is_not_deleted_unless_forced() {
  plain_script
  add_device plain
  mkfs.ext4 -q "$dev"
  mkdir "a b"
  mount "$dev" "a b"
  expect_refused_in_use "mounted at $work/a b (ext4)"
  ublk-script del "$id" --force
  ! touch "a b/file" 2>/dev/null || ! sync "a b/file" 2>/dev/null || fail "the filesystem goes on"
  umount "a b"
  wait_until 5 is_gone "$id"
}

t_a_device_mounted_in_another_namespace_is_not_deleted() {
  plain_script
  add_device plain
  mkfs.ext4 -q "$dev"
  mkdir mnt
  unshare -m bash -c 'mount "$1" mnt && touch mounted && exec sleep 60' - "$dev" &
  local holder=$!
  wait_until 5 test -e mounted
  expect_refused_in_use "mounted at $work/mnt (ext4) for $holder"
  kill $holder
  wait $holder || true
  ublk-script del "$id"
}

t_a_partition_counts_as_its_device() {
  plain_script
  add_device plain
  command -v sfdisk >/dev/null || skip "no sfdisk"
  echo 'size=32M, type=83' | sfdisk -q "$dev"
  wait_until 5 test -b "${dev}p1"
  mkfs.ext4 -q "${dev}p1"
  mkdir mnt
  mount "${dev}p1" mnt
  expect_refused_in_use "mounted at $work/mnt"
  umount mnt
}

t_swap_is_not_deleted() {
  plain_script
  add_device plain
  mkswap -q "$dev" >/dev/null
  swapon "$dev"
  expect_refused_in_use "used as swap"
  swapoff "$dev"
}

t_what_another_device_lies_on_is_not_deleted() {
  plain_script
  add_device plain
  local loop
  loop=$(losetup -f --show "$dev")
  expect_refused_in_use "beneath $loop"
  losetup -d "$loop"
  echo "0 2048 linear $dev 0" | dmsetup create ublk-script-top
  expect_refused_in_use "(ublk-script-top)"
  dmsetup remove --retry ublk-script-top
  local lower=$id
  add_device plain --file "$dev"
  expect_status 1 ublk-script del "$lower"
  expect_output "in use" "ublk-script serves"
  ublk-script del "$id"
  ublk-script del "$lower"
}

t_a_deleted_device_that_is_open_has_one_story() {
  plain_script
  add_device plain
  sleep 60 <"$dev" &
  local holder=$! story
  story="deleted, still open by $holder sleep"
  expect_status 0 ublk-script del "$id"
  expect_output "device $id is $story"
  expect_status 0 ublk-script list
  expect_output "DELETED $story"
  expect_status 0 ublk-script list "$id"
  expect_output "DELETED $story"
  expect_status 1 ublk-script del "$id"
  expect_output "device $id is $story"
  expect_status 1 ublk-script add "$work/plain.lua" -n "$id"
  expect_output "device $id is $story"
  kill $holder
  wait $holder || true
  wait_until 5 is_gone "$id"
  expect_status 1 ublk-script del "$id"
  expect_output "no ublk device"
}

# ---- records ----

t_a_device_without_a_record_is_deleted_only_when_told_so() {
  plain_script
  add_device plain
  kill -KILL "$server"
  wait_until 5 test ! -e "/proc/$server"
  rm "$state_directory/$id".*
  expect_status 1 ublk-script del "$id"
  expect_output "--without-record"
  expect_status 0 ublk-script del "$id" --without-record
  no_leftovers
}

t_a_state_directory_that_others_may_write_to_is_not_used() {
  plain_script
  add_device plain
  chmod 777 "$state_directory"
  local command
  for command in "list" "del $id" "ctl $id stats" "add plain.lua -n 9"; do
    # shellcheck disable=SC2086
    expect_status 1 ublk-script $command
    expect_output "$state_directory is not used"
  done
  chmod 755 "$state_directory"
  [ ! -e /dev/ublkc9 ] || fail "device 9 is there"
}

run_cases "$@"
