# Sourced by tests of what the next server of a device goes on with: kills the server of $id, and has another one serve.
# shellcheck shell=bash disable=SC2154 # id is set in lib.sh

has_state() { # STATE
  [ "$(state_of "$id")" = "$1" ]
}

waits_for_server() { has_state QUIESCED || has_state FAIL_IO; }

kill_server() {
  kill -KILL "$server"
  wait_until 40 has_ended "$server"
  wait_until 40 waits_for_server
}

recover() {
  local record
  record=$(ublk-script recover "$id" --json) || fail "recover failed"
  server=$(json_value serverPID <<<"$record")
}
