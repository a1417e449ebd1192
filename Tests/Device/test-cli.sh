#!/bin/bash
# time limit: 120
# any kernel: the command line is the program alone
# The command line around a real device: names, JSON, scripts that are no files, output that cannot be written.
# shellcheck source-path=SCRIPTDIR disable=SC2154 # id, dev, server and output are set in lib.sh
. "$(dirname "$0")/lib.sh"

faulty_script() {
  script faulty <<'LUA'
    device { size = "16M" }
    local bad = ranges("bad")
    rule { name = "bad", op = "read", range = bad, error = "ENODATA" }
    rule { name = "slow", op = "read", delay = "3ms" }
    function ctl(word, ...)
      if word == "table" then return { bad = 3, list = { 1, 2, ... } } end
      return word, ...
    end
LUA
}

t_a_device_has_short_names_and_a_sole_one_needs_none() {
  faulty_script
  ublk-script add faulty.lua -n 5 --quiet
  id=5
  expect_status 0 ublk-script ctl ublkb5 seed
  expect_status 0 ublk-script ctl seed
  expect_status 0 ublk-script ctl mark go
  expect_status 0 ublk-script wait mark go --timeout 10s
  expect_status 0 ublk-script stats
  expect_output "/dev/ublkb5 faulty.lua"
  expect_status 0 ublk-script reload
  expect_status 0 ublk-script ledger
  expect_status 2 ublk-script del
  ublk-script add faulty.lua -n 6 --quiet
  expect_status 2 ublk-script ctl seed
  expect_output "There are 5, 6"
  expect_status 0 ublk-script stats
  expect_output "/dev/ublkb5" "/dev/ublkb6"
}

t_answers_come_as_JSON() {
  faulty_script
  add_device faulty
  ublk-script ctl ranges bad add 8M 4K
  expect_equal error "$(read_errno "$dev" 8388608 4096)" ENODATA
  expect_equal slow "$(read_errno "$dev" 0 4096)" ok
  expect_status 0 ublk-script ctl "$id" rule --json
  expect_output '{"acted":1,"isOn":true,"line":3,"name":"bad"}'
  expect_status 0 ublk-script ctl ranges --json
  expect_equal sets "$output" '[{"bytes":4096,"name":"bad","ranges":1}]'
  expect_status 0 ublk-script ctl ranges bad list --json
  expect_equal list "$output" '{"extents":[{"length":4096,"offset":8388608}],"more":0}'
  expect_status 0 ublk-script ctl held --json
  expect_equal held "$output" '[]'
  expect_status 0 ublk-script ctl table 7
  expect_equal table "$output" '{"bad":3,"list":[1,2,"7"]}'
  expect_status 0 ublk-script ctl --json other -- -5
  expect_equal words "$output" '{"answer":["other","-5"]}'
  expect_status 0 ublk-script wait rule bad --json
  expect_output '"count":1,"isReached":true,"name":"bad"'
  expect_status 1 ublk-script wait rule bad 2 --timeout 50ms --json
  expect_output '"isReached":false' "after 50ms: rule bad acted 1 times"
  expect_status 0 ublk-script stats --json
  expect_output '"counters":{' '"failed":1' '"operation":"read"'
}

t_stats_tell_times_and_Prometheus_gets_them() {
  faulty_script
  add_device faulty
  local reads
  reads=$(counter read)
  read_errno "$dev" 4096 4096
  expect_equal reads "$(counter read)" $((reads + 1))
  expect_status 0 ublk-script stats "$id" --prometheus
  expect_output "# TYPE ublk_script_latency_seconds histogram" "le=\"+Inf\"" \
    "ublk_script_ios_total{device=\"ublkb$id\",operation=\"read\"} $((reads + 1))" \
    "ublk_script_rule_acted_total{device=\"ublkb$id\",rule=\"slow\",line=\"4\"} 1"
  # 3 ms are over 1 ms and, even on a slow machine, under a minute
  local below above
  below=$(sed -n 's/.*bucket{.*"read",le="0.001048576"} //p' <<<"$output")
  above=$(sed -n 's/.*bucket{.*"read",le="68.719476736"} //p' <<<"$output")
  expect_equal "reads that took longer than 1 ms" $((above - below > 0)) 1
}

t_words_that_are_none_are_refused() {
  faulty_script
  add_device faulty
  expect_status 1 ublk-script ctl "$id" stats foo
  expect_output "stats takes no argument" foo
  expect_status 1 ublk-script ctl "$id" held foo
  expect_status 1 ublk-script ctl "$id" seed 5
  expect_status 2 ublk-script ctl "$id" stats --frobnicate
  expect_output "Unknown option '--frobnicate'" "Usage: ublk-script ctl"
  expect_status 2 ublk-script stats "$id" --json --prometheus
  expect_status 2 ublk-script reload "$id" faulty.lua other.lua
  expect_output '"other.lua" is no setting' "Usage: ublk-script reload"
  expect_status 1 ublk-script ctl "$id" release fifo lifo
  expect_output "two orders are named: fifo and lifo"
}

t_a_script_from_standard_input_is_served_and_cannot_be_read_again() {
  faulty_script
  ublk-script add - size=8M --quiet <faulty.lua
  id=0
  dev=/dev/ublkb0
  [ -b $dev ] || fail "$dev is no block device"
  ublk-script ctl ranges bad add 0 4K
  expect_equal error "$(read_errno $dev 0 4096)" ENODATA
  cmp faulty.lua "$state_directory/0.lua"
  expect_status 1 ublk-script reload 0
  expect_output "the script of device 0 came from stdin, and cannot be read again" "reload 0 SCRIPT"
  expect_status 0 ublk-script reload 0 -e 'rule { name = "new", op = "read", error = "EILSEQ" }'
  grep -q EILSEQ "$state_directory/0.1.lua"
  [ ! -e "$state_directory/0.lua" ] || fail "the script of before is still there"
  expect_equal error "$(read_errno $dev 0 4096)" EILSEQ
  expect_status 1 ublk-script reload 0
  expect_output "came from (command line)"
  # what <(...) gives can be read only once
  expect_status 0 ublk-script reload 0 <(echo 'rule { op = "read", error = "EREMOTEIO" }')
  expect_equal error "$(read_errno $dev 0 4096)" EREMOTEIO
  expect_status 0 ublk-script reload 0 faulty.lua
  expect_status 0 ublk-script reload 0
  expect_status 0 ublk-script ctl rule --json
  expect_output '"name":"slow"'
}

t_an_add_whose_output_is_lost_leaves_no_device() {
  faulty_script
  expect_status 1 bash -c 'ublk-script add faulty.lua >/dev/full'
  expect_output "standard output: No space left on device (ENOSPC)"
  no_leftovers
  expect_status 1 bash -c 'ublk-script add faulty.lua >&-'
  expect_output "standard output: Bad file descriptor (EBADF)"
  no_leftovers
  add_device faulty
  local command
  for command in list "list --json" stats "stats --prometheus" "ctl stats" "ctl rule" "ctl seed" features ledger; do
    [ "$command" != ledger ] || read_errno "$dev" 0 4096
    expect_status 1 bash -c "ublk-script $command >/dev/full"
    expect_output "standard output: No space left on device"
  done
}

t_JSON_is_what_its_document_says() {
  local words section
  faulty_script
  expect_status 0 ublk-script add faulty.lua --json
  expect_json list
  id=0 dev=/dev/ublkb0
  mkfs.ext4 -q "$dev"
  mkdir mnt
  mount "$dev" mnt
  dd if=/dev/zero of=mnt/file bs=4k count=2 conv=fsync status=none
  ublk-script ctl ranges bad add 8M 4K
  expect_equal error "$(read_errno "$dev" 8388608 4096)" ENODATA
  while IFS=: read -r section words; do
    # shellcheck disable=SC2086
    expect_status 0 ublk-script $words --json
    expect_json "$section"
  done <<'END'
list:list
stats:stats
stats:ctl stats
ctl rule:ctl rule
ctl rule:ctl rule off slow
ctl ranges:ctl ranges
ctl ranges:ctl ranges bad count
ctl ranges list:ctl ranges bad list
ctl held:ctl held
ctl mark:ctl mark go
ctl state:ctl state
ctl seed:ctl seed
ctl release:ctl release
ctl of the script:ctl other 7
wait:wait rule bad
map:map mnt/file
features:features
END
  umount mnt
  expect_status 0 ublk-script ledger --json --rule bad
  expect_json ledger
  read_errno "$dev" 0 4096
  ublk-script ctl rule on slow
  ublk-script ctl pause
  dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct status=none &
  wait_until 10 ublk-script wait held --timeout 1ms
  expect_status 0 ublk-script ctl held --json
  expect_json "ctl held"
  expect_output '"isPaused":true'
  ublk-script ctl resume
  wait $!
  # what does not fit is found
  output='[{"path":1,"id":0,"colour":"red"}]'
  if (expect_json list >unfit); then fail "a wrong document fits"; fi
  output=$(<unfit)
  expect_output "path is a number, not a string" "colour is not documented" "state is missing"
}

# What a command shows on a terminal, without colours and line ends.
on_a_terminal() { # COMMAND...
  shown=$(env TERM=xterm script -qefc "$*" /dev/null </dev/null | tr -d "\r") || true
  plain=$(sed 's/\x1b\[[0-9]*m//g' <<<"$shown")
  awk -v command="$*" 'length > 80 && /[^ ] +[^ ]/ { print command ": " $0; wide = 1 } END { exit wide }' <<<"$plain" ||
    fail "a line is longer than 80 columns"
  ! LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f\x7f]' <<<"$plain" || fail "$*: raw control characters: $(cat -v <<<"$plain")"
}

t_on_a_terminal_lines_fit_and_no_script_drives_it() {
  local command
  script $'loud\e[35m' <<'LUA'
    device { size = "16M" }
    local bad = ranges("a-set-of-ranges-whose-name-is-long"):add("8M", "4K")
    rule { name = "a-rule-with-quite-a-long-name-that-nobody-likes-to-type", op = "read", range = bad, error = "ENODATA" }
    rule { op = "read", delay = "100ms", range = bad, log = true }
    function ctl(word)
      if word == "raise" then error("\27[35m" .. ("words and "):rep(20)) end
      return "\27]0;title\7\27[35mcolour" .. ("\n" .. ("words and "):rep(20)):rep(2)
    end
LUA
  add_device $'loud\e[35m'
  read_errno "$dev" 8388608 4096
  for command in list stats "ctl rule" "ctl ranges" "ctl held" "ctl say" "ctl raise" "ctl seed colour" ledger features \
    "stats --colour" "del 7" "add -n 0 '$work/loud'*" "map /etc/passwd" "wait state x --timeout 1ms"; do
    on_a_terminal ublk-script "$command"
    case $command in
      list) [[ $shown == *$'state \e[32mLIVE\e[0m script'* && $plain == *'loud\x1b[35m.lua'* ]] || fail "$shown" ;;
      "ctl say") [[ $plain == *'\x1b[35mcolour'* ]] || fail "$plain" ;;
    esac
  done
  on_a_terminal "NO_COLOR=1 ublk-script list"
  expect_equal "without colours" "$shown" "$plain"
  expect_status 0 ublk-script list
  [[ $output != *$'\e[32m'* ]] || fail "colours in a pipe"
}

# How many callers the server has, and those that still wait for it.
callers() {
  echo $(($(grep -c "/run/ublk-script/$id.sock" /proc/net/unix) - 1))
}

t_a_server_that_ends_is_not_called_silent() {
  local command asked=0 pids=()
  faulty_script
  add_device faulty
  kill -STOP "$server"
  for command in "ctl seed" ledger stats "wait held" reload "map --ranges bad ." "ctl -"; do
    # shellcheck disable=SC2086
    (printf 'seed\n' | ublk-script $command >"said-$asked" 2>&1) &
    pids+=($!)
    asked=$((asked + 1))
  done
  wait_until 20 eval '[ "$(callers)" -ge 6 ]'
  kill -KILL "$server"
  for command in "${!pids[@]}"; do
    if wait "${pids[$command]}"; then fail "a question without an answer is a success: $(<"said-$command")"; fi
  done
  for command in 0 1 2 3 4 6; do
    grep -q "the server of device $id ended before it answered" "said-$command" || fail "$(<"said-$command")"
  done
  ublk-script del "$id"
}

t_a_damaged_record_is_called_damaged_everywhere() {
  faulty_script
  add_device faulty
  local record=/run/ublk-script/$id.json command listed refused what
  cp "$record" kept
  sed 's/"format":[0-9]*/"format":99/' kept >"$record"
  # Each on one line; the record is whole again before anything is expected, or the device could not be deleted.
  listed=$(ublk-script list "$id" 2>&1 | tr -s ' \n' ' ')
  refused=$(for command in "stats $id" "del $id" "stop $id" "ctl $id seed"; do
    # shellcheck disable=SC2086
    ublk-script $command 2>&1 || echo "status $?"
  done | tr -s ' \n' ' ')
  cp kept "$record"
  output=$listed
  expect_output "its record is of format 99"
  for what in "$record is of format 99" "a newer one made device $id" "status 1"; do
    expect_equal "refusals with \"$what\"" "$(grep -o "$what" <<<"$refused" | wc -l)" 4
  done
  # As the first versions wrote it.
  sed -e 's/"format":[0-9]*,//' -e 's/"driver":{.*"queues":[0-9]*},//' -e 's/"patienceSeconds":[0-9]*,//' kept >"$record"
  if grep -qE 'format|driver|params|patience' "$record"; then fail "$(<"$record")"; fi
  expect_status 0 ublk-script list "$id"
  expect_output faulty.lua
  expect_status 0 ublk-script ctl "$id" seed
  expect_status 0 ublk-script del "$id"
  [ ! -e "$record" ]
}

t_list_v_says_what_each_flag_and_parameter_and_queue_of_a_device_is() {
  script held <<'LUA'
    device { size = "16M", depth = 64, cache = "volatile", fua = true }
    rule { name = "stuck", op = "read", range = { "8M", "4K" }, hang = "1h" }
LUA
  add_device held
  dd if="$dev" of=/dev/null bs=4k count=1 skip=2048 iflag=direct status=none &
  wait_until 20 holds 1
  expect_status 0 ublk-script list -v "$id" --json
  expect_json list
  local thread path
  thread=$(json_value thread <<<"$output")
  expect_equal "the thread of queue 0" "$(<"/proc/$server/task/$thread/comm")" ublk-q0
  for path in disk character record socket log script; do
    path=$(json_value "$path" <<<"${output##*\"paths\":}")
    [ -e "$path" ] || fail "$path is not there"
  done
  expect_status 0 ublk-script list -v "$id"
  output=$(tr -s ' \n' ' ' <<<"$output")
  expect_output "queue 0: tags 0 to 63, thread $thread on CPU" ", 1 IO in the server (1 held)" \
    "size 16M, 32768 sectors of 512 bytes" "attributes VOLATILE_CACHE FUA" \
    "CMD_IOCTL_ENCODE commands are ioctl codes; always on" "recovery off: when its server dies the disk goes too"
  expect_status 0 ublk-script ctl "$id" release
}

run_cases "$@"
