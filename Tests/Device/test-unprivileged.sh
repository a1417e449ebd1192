#!/bin/bash
# time limit: 150
# Devices of users without root.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/users.sh"

t_a_user_without_root_adds_uses_lists_and_deletes_a_device() {
  open_to_users
  add_bobs -e 'rule { op = "read", range = { "8M", "4K" }, error = "ENODATA" }' size=16M queues=2
  expect_equal "the disk's node" "$(owner_of "$dev")" "$bob:$bob 600"
  expect_equal "the server's node" "$(owner_of "/dev/ublkc$id")" "$bob:$bob 600"
  expect_equal "the server's user" "$(stat -c %u "/proc/$server")" $bob
  expect_status 0 as_bob fio --name=own --filename="$dev" --rw=randwrite --bs=4k --size=4M --direct=1 \
    --verify=crc32c --ioengine=psync --output="$work/run-$bob/fio"
  expect_status 1 as_bob dd if="$dev" of=/dev/null bs=4k count=1 skip=2048 iflag=direct
  expect_output "No data available"
  expect_status 0 as_bob ublk-script list
  expect_output "$dev: 16M state LIVE script (command line)" "UNPRIVILEGED_DEV" "owner user $bob"
  expect_status 0 as_bob ublk-script list --json
  expect_json list
  expect_output "\"ownerUID\":$bob"
  expect_status 0 as_bob ublk-script ctl "$id" stats
  expect_equal "what is kept of it" "$(owner_of "$work/run-$bob/ublk-script")" "$bob:$bob 700"
  expect_status 0 as_bob ublk-script del "$id"
  [ ! -e "$dev" ] && [ ! -e "/dev/ublkc$id" ] || fail "a node is left"
  expect_equal "files of the device" "$(ls -A "$work/run-$bob/ublk-script")" ""
}

t_a_user_s_own_file_is_a_disk_that_is_stopped_and_reloaded() {
  open_to_users
  add_bobs -e 'device { size = "8M" }' --file "$work/run-$bob/disk.img" data=need_get_data
  expect_equal "the file" "$(owner_of "$work/run-$bob/disk.img" | cut -d' ' -f1)" "$bob:$bob"
  as_bob sh -c 'printf hello | dd of="$1" conv=sync bs=4096 oflag=direct status=none' sh "$dev"
  expect_status 0 as_bob ublk-script reload "$id" -e 'device { size = "8M" } rule { op = "write", error = "ENOSPC" }'
  expect_status 1 as_bob dd if=/dev/zero of="$dev" bs=4k count=1 oflag=direct
  expect_output "No space left"
  expect_status 0 as_bob ublk-script stop "$id"
  expect_status 0 as_bob ublk-script del "$id"
  expect_equal "what the file has" "$(head -c 5 "$work/run-$bob/disk.img")" hello
}

t_io_that_is_held_does_not_keep_a_user_from_deleting_his_device() {
  open_to_users
  add_bobs -e 'rule { op = "read", hang = true }' size=1M
  as_bob dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null &
  wait_until 5 held_by_bob 1
  expect_status 0 as_bob ublk-script del "$id"
}

held_by_bob() { # COUNT
  [ "$(as_bob ublk-script ctl "$id" stats | awk '$1 == "held_now" { print $2 }')" = "$1" ]
}

t_a_server_that_is_killed_takes_its_device_s_disk_with_it_and_del_the_rest() {
  open_to_users
  add_bobs size=1M -e 'device {}'
  as_bob kill -KILL "$server"
  wait_until 40 disk_is_gone # kernels before 6.15 notice it late
  expect_status 0 as_bob ublk-script del "$id"
  [ ! -e "/dev/ublkc$id" ] || fail "its node is left"
}

disk_is_gone() { [ ! -e "$dev" ]; }

t_a_deleted_disk_that_is_still_open_keeps_its_number_only() {
  open_to_users
  add_bobs size=1M -e 'device {}'
  exec 7<"$dev"
  expect_status 0 as_bob ublk-script del "$id" 7<&-
  expect_output "its number is free when they let go"
  exec 7<&-
  wait_until 5 is_free
}

is_free() { ! ublk-script list "$id" >listed 2>&1 && grep -q "no ublk device $id" listed; }

t_what_the_driver_has_for_root_only_is_refused_before_anything_is_made() {
  open_to_users
  expect_status 1 as_bob ublk-script add -e 'device {}' size=1M recovery=wait backing=null
  expect_output 'recovery = "wait" needs root' "recovery=off"
  expect_status 1 as_bob ublk-script add -e 'device {}' size=1M data=user_copy
  expect_output 'data = "user_copy" needs root' '"need_get_data"'
  expect_equal devices "$(echo /dev/ublkc*)" "/dev/ublkc*"
}

t_a_user_who_may_not_open_the_driver_is_told_so() {
  open_to_users
  chmod 600 /dev/ublk-control
  expect_status 1 as_bob ublk-script add -e 'device {}' size=1M
  expect_output "/dev/ublk-control may not be opened" "the group that may open it"
}

t_nodes_that_nobody_gives_to_their_user_are_told_with_the_next_step() {
  open_to_users without_udev
  expect_status 1 as_bob ublk-script add -e 'device {}' size=1M -n 5
  expect_output "the kernel makes /dev/ublkc5 root's" "udev" "sudo ublk-script del 5 --without-record"
  expect_status 0 ublk-script list
  expect_output "/dev/ublkb5" "DEAD" "by user $bob"
  expect_status 0 ublk-script del 5 --without-record
  [ ! -e /dev/ublkc5 ] || fail "the device is still there"
}

t_a_folder_that_is_not_the_user_s_alone_is_not_used() {
  open_to_users
  chmod 755 "$work/run-$bob"
  as_bob mkdir -m 755 "$work/run-$bob/ublk-script"
  expect_status 1 as_bob ublk-script add -e 'device {}' size=1M
  expect_output "is not used" "nobody else may look into" "XDG_RUNTIME_DIR"
  expect_status 1 as_bob env XDG_RUNTIME_DIR=/run/none ublk-script add -e 'device {}' size=1M
  expect_output "set XDG_RUNTIME_DIR"
  expect_equal devices "$(echo /dev/ublkc*)" "/dev/ublkc*"
}

# ---- another user ----

refused_as() { # UID TEXT COMMAND...
  local user=$1 text=$2
  shift 2
  expect_status 1 as_user "$user" "$@"
  expect_output "$text"
}

t_another_user_cannot_use_a_user_s_disk_or_give_its_commands() {
  local command
  open_to_users
  add_bobs size=1M -e 'device {}'
  refused_as $eve "Permission denied" dd if="$dev" of=/dev/null bs=4k count=1
  refused_as $eve "Permission denied" dd if=/dev/zero of="$dev" bs=4k count=1 conv=notrunc
  refused_as $eve "Permission denied" dd if="/dev/ublkc$id" of=/dev/null bs=4k count=1
  for command in STOP_DEV DEL_DEV DEL_DEV_ASYNC TRY_STOP_DEV UPDATE_SIZE QUIESCE_DEV; do
    expect_status 1 as_user $eve ublk-script raw $command "$id" 8
    [[ $output == *"it is another user's"* ]] || ! kernel_has $command || fail "$command: $output"
  done
  for command in "list $id" "ctl $id stats" "stop $id" "del $id" "del $id --force --without-record" "reload $id"; do
    # shellcheck disable=SC2086
    refused_as $eve "it is another user's" ublk-script $command
  done
  expect_status 0 as_user $eve ublk-script list
  expect_output "there are devices that are not yours, which root may list: $id"
  expect_status 0 as_user $eve ublk-script del --all
  refused_as $eve "Operation not permitted" kill -KILL "$server"
  refused_as $eve "Operation not permitted" chown $eve "$dev"
  refused_as $eve "(E" ublk-script give-node "ublkc$id"
  expect_equal state "$(as_bob ublk-script list "$id" --json | json_value state)" LIVE
  expect_equal "size" "$(blockdev --getsize64 "$dev")" $((1 << 20))
  expect_status 0 as_bob ublk-script del "$id"
}

# Whether the driver of this kernel knows the command at all; without a path it says EINVAL of all it does not.
kernel_has() { # COMMAND
  case $1 in
    DEL_DEV_ASYNC) false ;; # of users' devices never
    UPDATE_SIZE | QUIESCE_DEV) kernel_is_at_least 6.16 ;;
    TRY_STOP_DEV) kernel_is_at_least 7.0 ;;
  esac
}

t_another_user_cannot_reach_what_a_server_keeps_or_talk_to_it() {
  local file state=$work/run-$bob/ublk-script
  open_to_users
  add_bobs size=1M -e 'device {}'
  for file in "$state" "$state"/*; do
    refused_as $eve "Permission denied" stat "$file"
    expect_equal "$file" "$(stat -c %u "$file")" $bob
  done
  [ -S "$state/$id.sock" ] || fail "there is no control socket to be refused"
  refused_as $eve "Permission denied" env XDG_RUNTIME_DIR="$work/run-$bob" ublk-script ctl "$id" stats
  # even where the folder is open to all
  chmod 755 "$work/run-$bob" "$state"
  refused_as $eve "is not used" env XDG_RUNTIME_DIR="$work/run-$bob" ublk-script ctl "$id" stats
  expect_equal "the socket's mode" "$(stat -c %a "$state/$id.sock")" 600
  chmod 700 "$state"
  expect_status 0 as_bob ublk-script del "$id"
}

t_a_record_that_a_user_forges_gives_him_no_device() {
  local forged=$work/run-$eve/ublk-script
  open_to_users
  add_bobs size=1M -e 'device {}'
  mkdir -m 700 "$forged"
  cp "$work/run-$bob/ublk-script/"*.json "$work/run-$bob/ublk-script/"*.lua "$forged"
  chown -R "$eve:$eve" "$forged"
  for command in stop del recover; do
    expect_status 1 as_user $eve ublk-script $command "$id"
  done
  expect_equal state "$(as_bob ublk-script list "$id" --json | json_value state)" LIVE
  expect_status 0 as_bob dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct
  expect_status 0 as_bob ublk-script del "$id"
}

t_two_users_have_devices_beside_root_s_each_his_own() {
  open_to_users
  script plain <<<'device { size = "1M" }'
  local roots bobs eves
  add_device plain
  roots=$id
  add_bobs size=2M -e 'device {}'
  bobs=$id
  eves=$(as_user $eve ublk-script add --json size=4M -e 'device {}' | json_value id)
  expect_equal "root's node" "$(owner_of "/dev/ublkc$roots" | cut -d: -f1)" 0
  expect_equal "eve's node" "$(owner_of "/dev/ublkb$eves")" "$eve:$eve 600"
  refused_as $bob "needs root" ublk-script list "$roots"
  refused_as $bob "needs root" ublk-script del "$roots"
  refused_as $bob "it is another user's" ublk-script del "$eves"
  refused_as $eve "Permission denied" dd if="/dev/ublkb$roots" of=/dev/null bs=4k count=1
  expect_status 0 ublk-script list
  expect_output "owner user $bob" "owner user $eve" "(not made here, but by user $eve)"
  expect_status 1 ublk-script del "$bobs"
  expect_output "device $bobs is user $bob's" "--without-record as root"
  expect_status 0 as_user $eve ublk-script del --all
  expect_equal "what eve deleted" "$(ls -d /dev/ublkc*)" "$(printf '/dev/ublkc%s\n' "$roots" "$bobs" | sort)"
  expect_status 0 ublk-script del "$bobs" --without-record
  expect_status 0 ublk-script del "$roots"
}

# ---- containers ----

# Runs a script of stdin in a container as a user makes one, with user, mount and process namespaces of its own: he is
# root in there, and root of the machine is nobody.
in_container() { # USER
  local script=$work/run-$1/inside
  cat >"$script"
  as_user "$1" unshare --user --map-root-user --mount --pid --fork --mount-proc bash -euc \
    'mount -t tmpfs none /run; . "$1"' bash "$script"
}

needs_containers() {
  as_bob unshare --user --map-root-user true || skip "users may not make user namespaces here"
}

t_root_of_a_container_has_devices_as_the_user_has_who_made_it() {
  open_to_users
  needs_containers
  expect_status 0 in_container $bob <<'END'
[ "$(id -u)" = 0 ]
ublk-script add -n 3 size=16M -e 'rule { op = "read", range = { "8M", "4K" }, error = "ENODATA" }'
ls -l /dev/ublkc3 /dev/ublkb3
mkfs.ext4 -q -F /dev/ublkb3 8M
e2fsck -fn /dev/ublkb3
dd if=/dev/ublkb3 of=/dev/null bs=4k count=1 skip=2048 iflag=direct || echo "dd: $?"
ublk-script list
ublk-script stop 3
ublk-script del 3
! ls /dev/ublkc3 2>/dev/null
[ "$(ls -A /run/ublk-script)" = "" ]
END
  expect_output "/dev/ublkb3: 16M state LIVE script (command line)" "owner user $bob" "No data available" "dd: 1"
}

t_a_container_that_ends_takes_its_disk_along_and_its_user_deletes_the_rest() {
  open_to_users
  needs_containers
  expect_status 0 in_container $bob <<<"ublk-script add --quiet -n 3 size=1M -e 'device {}'"
  dev=/dev/ublkb3
  wait_until 40 disk_is_gone
  refused_as $eve "it is another user's" ublk-script del 3 --without-record
  expect_status 0 as_bob ublk-script del 3 --without-record
  [ ! -e /dev/ublkc3 ] || fail "its node is left"
}

t_a_container_with_a_dev_of_its_own_is_told_that_its_node_is_missing() {
  open_to_users
  needs_containers
  expect_status 1 in_container $bob <<'END'
mkdir /run/dev
touch /run/dev/ublk-control /run/dev/null
mount --bind /dev/ublk-control /run/dev/ublk-control
mount --bind /dev/null /run/dev/null
mount --rbind /run/dev /dev
ublk-script add -n 3 size=1M -e 'device {}'
END
  expect_output "/dev/ublkc3 is not there, although the driver has the device. Is this a container's /dev?" \
    "sudo ublk-script del 3 --without-record"
  expect_status 0 ublk-script del 3 --without-record
}

run_cases "$@"
