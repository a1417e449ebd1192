# Sourced by tests that have users without root.
#
# No udev runs here: play_udev does what the shipped rule has it do, runs the rule's program for each node that comes,
# and /dev/ublk-control is opened to all meanwhile (open_to_users).
# shellcheck shell=bash disable=SC2034,SC2154

rule=$tests/../../scripts/lib-install/90-ublk-script.rules

# They need no entry in /etc/passwd.
bob=4001 eve=4002

as_bob() { as_user $bob "$@"; }

# As after a login of theirs, without any right or limit of root's.
as_user() { # UID COMMAND...
  local user=$1
  shift
  (
    ulimit -l 8192 # what systemd gives a login
    cd / || exit
    exec setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all --no-new-privs \
      env XDG_RUNTIME_DIR="$work/run-$user" HOME=/nonexistent PATH="$PATH" "$@"
  )
}

open_to_users() {
  local user
  chmod 666 /dev/ublk-control
  chmod 755 "$scratch"
  for user in $bob $eve; do
    mkdir -m 700 "$work/run-$user"
    chown "$user:$user" "$work/run-$user"
  done
  [ "${1:-}" = without_udev ] || play_udev &
}

play_udev() {
  local node inode words
  declare -A known
  read -r -a words < <(sed -n 's|.*RUN+="@PREFIX@/bin/\([^"]*\) %k".*|\1|p' "$rule")
  set +e
  while sleep 0.05; do
    for node in /dev/ublk[bc]*; do
      inode=$(stat -c %i "$node" 2>/dev/null) || continue
      [ "${known[$node]:-}" != "$inode" ] || continue
      known[$node]=$inode
      "${words[@]}" "${node#/dev/}"
    done
  done
}

# At the end of each case of a file that sources this.
tidy_case() {
  local node status=0
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null
  wait
  for node in /dev/ublkc*; do
    [ -e "$node" ] || continue
    ublk-script del "${node#/dev/ublkc}" --without-record || ublk-script del "${node#/dev/ublkc}" || status=1
  done
  (wait_until 5 no_processes) || status=1
  chmod 600 /dev/ublk-control
  return $status
}

no_processes() { [ -z "$(processes)" ]; }

# Makes a device of bob's; sets dev, id and server.
add_bobs() { # OPTION...
  local record
  record=$(as_bob ublk-script add --json "$@") || fail "add failed"
  dev=$(json_value path <<<"$record")
  id=$(json_value id <<<"$record")
  server=$(json_value serverPID <<<"$record")
}

owner_of() { stat -c '%u:%g %a' "$1"; }
