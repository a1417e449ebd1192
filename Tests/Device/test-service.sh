#!/bin/bash
# time limit: 150
# any kernel: the unit is about processes and folders
# The unit ublk-script@.service by hand, as no systemd runs here: its lines, with the folder, the words, the capabilities
# and the privileges that it gives them.
. "$(dirname "$0")/lib.sh"

unit=$tests/../../scripts/lib-install/ublk-script@.service

# What a key has in the unit, the values of several lines in one.
unit_has() { # KEY
  sed -n "s/^$1=//p" "$unit" | xargs
}

# Does what the line Exec$1= of ublk-script@3 says, as a service.
service() { # Start|Stop|Reload
  local line ADD='' capabilities
  line=$(unit_has "Exec$1" | sed 's|@PREFIX@/bin/||; s/%i/3/g')
  [ "$(unit_has WorkingDirectory) $(unit_has NoNewPrivileges)" = "@SYSCONFDIR@/ublk-script yes" ] || fail "another unit"
  capabilities=$(unit_has CapabilityBoundingSet | sed 's/CAP_/+/g; s/ /,/g' | tr '[:upper:]' '[:lower:]')
  # the words may be quoted, as for systemd
  ADD=$(sed -n 's/^ADD=//p' etc/3.conf)
  eval "set -- ${line/\$ADD/$ADD}"
  (cd etc && setpriv --no-new-privs --bounding-set="-all,$capabilities" "$@")
}

configuration() { # WORD...
  mkdir -p etc
  printf '# by a test\nADD=%s\n' "$*" >etc/3.conf
}

tidy_case() {
  local point
  for point in $(mounts); do umount "$point" || return; done
}

t_a_service_makes_its_device_reloads_and_deletes_it() {
  configuration "faulty.lua size=16M -d 16"
  echo "rule { op = \"read\", range = { \"8M\", \"4K\" }, trigger = \"$work/now\", error = \"ENODATA\" }" >etc/faulty.lua
  expect_status 0 service Start
  expect_output "/dev/ublkb3: 16M state LIVE"
  expect_equal "the mode" "$(unit_has Type) $(unit_has RemainAfterExit) $(unit_has KillMode)" "oneshot yes process"
  expect_equal "a read" "$(read_errno /dev/ublkb3 8M 4096)" ok
  : >now
  sees_trigger() { [ "$(read_errno /dev/ublkb3 8M 4096)" = ENODATA ]; }
  wait_until 10 sees_trigger
  sed -i 's/ENODATA/EIO/' etc/faulty.lua
  expect_status 0 service Reload
  expect_equal "a read after reload" "$(read_errno /dev/ublkb3 8M 4096)" EIO
  expect_status 0 service Stop
  no_leftovers
}

t_a_service_has_words_in_quotes_and_a_server_that_comes_back() {
  configuration "-e 'rule { op = \"read\", range = { \"8M\", \"4K\" }, error = \"ENODATA\" }' --file disk.img size=16M" \
    "recovery=reissue --restart"
  expect_status 0 service Start
  [ -s etc/disk.img ] || fail "the file is not in the folder of the configuration: $(ublk-script list 3)"
  server=$(json_value serverPID < <(ublk-script list 3 --json))
  kill -KILL "$server"
  has_another() { [ "$(json_value serverPID < <(ublk-script list 3 --json))" != "$server" ] && [ "$(state_of 3)" = LIVE ]; }
  wait_until 60 has_another
  expect_equal "a read" "$(read_errno /dev/ublkb3 8M 4096)" ENODATA
  expect_status 0 service Stop
  no_leftovers
}

t_a_service_does_not_take_a_mounted_disk_away() {
  configuration "-e 'device { size = \"32M\" }'"
  service Start
  mkfs.ext4 -q /dev/ublkb3
  mkdir mnt
  mount /dev/ublkb3 mnt
  expect_status 1 service Stop
  expect_output "device 3 is in use" "mnt"
  echo written >mnt/file
  umount mnt
  expect_status 0 service Stop
  no_leftovers
}

t_a_service_whose_configuration_is_wrong_leaves_nothing() {
  configuration "missing.lua size=16M"
  expect_status 1 service Start
  expect_output "missing.lua"
  no_leftovers
}

run_cases "$@"
