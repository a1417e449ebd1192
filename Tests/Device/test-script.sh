#!/bin/bash
# time limit: 240
# any kernel: the driver does not know that there is a script
# Wrong scripts: those that do not load never become a device, those that raise later never lose it, and no
# other device notices.
. "$(dirname "$0")/lib.sh"

# A device that is up all the time.
add_bystander() {
  script bystander <<'LUA'
    device { size = "16M" }
    function read() end
LUA
  add_device bystander
  fill "$dev" 0 4096 77
}

expect_bystander_well() {
  expect_equal "what the other device holds" "$(bytes_in "$dev" 0 4096)" 77
  expect_equal "servers" "$(servers)" "$server"
  ublk-script del "$id"
  no_leftovers
}

# Adds bad.lua, which must fail with these words.
expect_no_load() { # TEXT...
  expect_status 1 timeout 60 ublk-script add bad.lua
  expect_output "$@"
}

t_syntax_errors_and_unknown_keys_and_runtime_errors_are_shown_by_file_and_line() {
  add_bystander
  printf 'device { size = "16M" }\nfunction read(\n' >bad.lua
  expect_no_load bad.lua:
  printf 'device { size = "16M" }\n\nlocal x = = 1\n' >bad.lua
  expect_no_load bad.lua:3:
  printf 'device { size = "16M" }\nrule { op = "read", color = 1 }\n' >bad.lua
  expect_no_load bad.lua:2: color range
  printf 'device { size = "16M" }\nrule { op = "read", error = "EBOGUS" }\n' >bad.lua
  expect_no_load bad.lua:2: EBOGUS ENODATA
  printf 'device { size = "16M" }\nlocal x = nil + 1\n' >bad.lua
  expect_no_load bad.lua:2: nil
  printf 'device { size = "16M" }\nerror("my own words")\n' >bad.lua
  expect_no_load bad.lua:2: "my own words"
  printf 'device { size = "16M" }\nos.execute("true")\n' >bad.lua
  expect_no_load bad.lua:2: os
  printf 'device { size = "16M" }\nlocal f = require "io"\n' >bad.lua
  expect_no_load bad.lua:2: require
  printf 'device { size = "16M" }\nread = 5\n' >bad.lua
  expect_no_load bad.lua: read function
  expect_bystander_well
}

t_a_load_without_end_is_interrupted_by_file_and_line() {
  add_bystander
  printf 'device { size = "16M" }\nwhile true do end\n' >bad.lua
  expect_no_load bad.lua:2: interrupted
  printf 'device { size = "16M" }\nwhile true do pcall(function() while true do end end) end\n' >bad.lua
  expect_no_load bad.lua:2: interrupted
  expect_bystander_well
}

t_10_GiB_of_strings_are_refused_by_file_and_line() {
  add_bystander
  cat >bad.lua <<'LUA'
    device { size = "16M" }
    local t = {}
    for i = 1, 10240 do t[i] = string.rep("x", 1024 * 1024) .. i end
LUA
  # a slow machine's time is over first
  expect_no_load bad.lua:3:
  grep -qE 'out of memory.*limit|interrupted' <<<"$output" || fail "neither memory nor time: $output"
  cat >bad.lua <<'LUA'
    device { size = "16M" }
    local s = string.rep("x", 10 * 1024 * 1024 * 1024)
LUA
  expect_no_load bad.lua:2: too large
  expect_bystander_well
}

t_recursion_without_end_is_refused_by_file_and_line() {
  add_bystander
  printf 'device { size = "16M" }\nlocal function f(n) return 1 + f(n + 1) end\nf(1)\n' >bad.lua
  expect_no_load bad.lua:2: "stack overflow"
  {
    printf 'device { size = "16M" }\nlocal x = '
    head -c 100000 /dev/zero | tr '\0' '('
  } >bad.lua
  expect_no_load bad.lua: overflow
  expect_bystander_well
}

t_bytecode_is_refused() {
  add_bystander
  # the head of what luac 5.4 writes
  printf '\x1bLua\x54\x00\x19\x93\r\n\x1a\n\x04\x08\x08\x78\x56\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x28\x77\x40\x01' >bad.lua
  expect_no_load bad.lua bytecode text
  head -c 1000 /dev/urandom >bad.lua
  expect_no_load bad.lua
  expect_bystander_well
}

# A handler for each kind of mistake; the offset of the IO chooses it.
mistakes_script() {
  script mistakes <<'LUA'
    device { size = "16M", partitions = false }
    local mistakes = {
      [1] = function() local x = nil; return x.y end,
      [2] = function() error("my own words") end,
      [3] = function() return 42 end,
      [4] = function() while true do end end,
      [5] = function() while true do pcall(function() while true do end end) end end,
      [6] = function() local t = {}; for i = 1, 10240 do t[i] = string.rep("x", 1024 * 1024) .. i end end,
      [7] = function() local function f(n) return 1 + f(n + 1) end return f(1) end,
      [8] = function(io) return drop() end,
      [9] = function(io) return io.colour end,
      [10] = function() return to("16M") end,
      [11] = function() new_global = 1 end,
      [12] = function() device {} end,
      [13] = function() return fail("EBOGUS") end,
      [14] = function(io) io.offset = 0 end,
    }
    function read(io, offset, length)
      local mistake = offset % MiB == 0 and mistakes[offset // MiB]
      if mistake then return mistake(io) end
    end
LUA
}

expect_policy() { # ERRNO
  local i
  for i in {1..14}; do
    expect_equal "read with mistake $i" "$(read_errno "$dev" $((i * 1048576)) 4096)" "$1"
    expect_equal "read elsewhere after mistake $i" "$(read_errno "$dev" 8192 4096)" ok
  done
  expect_equal "script errors" "$(counter script_errors)" 14
}

t_mistakes_of_a_handler_give_EIO_and_are_in_the_log_by_file_and_line_and_the_device_stays() {
  mistakes_script
  add_device mistakes
  expect_policy EIO
  local log=$state_directory/$id.log
  cat "$log"
  grep -E 'mistakes.lua:3: .*nil' "$log"
  grep -F 'mistakes.lua:4: my own words' "$log"
  grep -E 'mistakes.lua:.*returned a number' "$log"
  grep -F 'mistakes.lua:6: interrupted' "$log"
  grep -F 'mistakes.lua:7: interrupted' "$log"
  # on a slow machine the time budget comes first
  grep -E 'mistakes.lua:8: (out of memory|interrupted)' "$log"
  grep -E 'mistakes.lua:9: (.*stack overflow|interrupted)' "$log"
  grep -E 'mistakes.lua:.*drop.*read' "$log"
  grep -E 'mistakes.lua:11: .*colour' "$log"
  grep -E 'mistakes.lua:.*past the end' "$log"
  grep -E 'mistakes.lua:13: .*new_global' "$log"
  grep -E 'mistakes.lua:14: .*device is not available' "$log"
  grep -E 'mistakes.lua:15: .*EBOGUS' "$log"
  grep -E 'mistakes.lua:16: .*assigned' "$log"
  grep -E 'offset 1048576 length 4096' "$log"
}

t_mistakes_of_a_handler_pass_with_on_error_pass() {
  mistakes_script
  add_device mistakes on_error=pass
  expect_policy ok
}

t_a_mistake_of_a_handler_ends_the_device_with_on_error_stop() {
  script mistake <<'LUA'
    device { size = "16M", on_error = "stop" }
    function read(io, offset) if offset == MiB then error("my own words") end end
LUA
  add_device mistake
  expect_equal "a read" "$(read_errno "$dev" 8192 4096)" ok
  expect_equal "the read with the mistake" "$(read_errno "$dev" 1048576 4096)" EIO
  wait_until 5 is_stopped
}

is_stopped() { [ ! -e "$dev" ] && [ -z "$(processes)" ]; }

t_a_mistake_of_ctl_is_an_answer_and_the_device_stays() {
  script mistake <<'LUA'
    device { size = "16M" }
    function ctl(word)
      if word == "raise" then error("my own words") end
      if word == "loop" then while true do end end
      if word == "memory" then return string.rep("x", 1024*MiB) end
      if word == "many" then return string.rep("x", 200*KiB) end
      return word
    end
LUA
  add_device mistake
  expect_status 1 ublk-script ctl "$id" raise
  expect_output mistake.lua:3: "my own words"
  expect_status 1 ublk-script ctl "$id" loop
  expect_output mistake.lua:4: interrupted
  expect_status 1 ublk-script ctl "$id" memory
  expect_output mistake.lua "out of memory"
  expect_status 1 ublk-script ctl "$id" many
  expect_output "longer than 64 KiB"
  expect_status 0 ublk-script ctl "$id" hello
  expect_equal "the answer" "$output" hello
  expect_status 2 ublk-script ctl "$id"
  expect_equal "a read" "$(read_errno "$dev" 0 4096)" ok
}

t_a_loop_in_a_handler_costs_its_budget_and_no_more() {
  script loop <<'LUA'
    device { size = "16M", budget = "200ms" }
    function read(io, offset) if offset == MiB then while true do end end end
LUA
  add_device loop
  local started
  started=$(now_ms)
  expect_equal "the read" "$(read_errno "$dev" 1048576 4096)" EIO
  expect_between "ms it took" $(($(now_ms) - started)) 200 1500
}

# A C function cannot be interrupted: the server ends itself after 5 s rather than holding the machine up.
t_a_handler_that_is_stuck_in_a_C_function_ends_the_server_with_a_message() {
  script stuck <<'LUA'
    device { size = "16M" }
    function read(io, offset)
      if offset == MiB then
        local s = string.rep("a", 40000)
        return s:find(string.rep("a?", 30) .. string.rep(".-", 8) .. "b")
      end
    end
LUA
  add_device stuck
  (read_errno "$dev" 1048576 4096 >answer) &
  wait_until 20 has_no_server
  grep -q "stuck in a C function" "$state_directory/$id.log" || fail "the log does not tell: $(<"$state_directory/$id.log")"
  expect_equal "state" "$(state_of "$id")" DEAD
  ublk-script del "$id"
  wait $!
  expect_equal "the read" "$(<answer)" EIO
}

has_no_server() { [ -z "$(processes)" ]; }

t_a_script_that_logs_without_end_fills_no_disk() {
  script chatty <<'LUA'
    device { size = "16M" }
    function read(io, offset) for i = 1, 200 do log(string.rep("x", 900)) end end
LUA
  add_device chatty budget=2s
  fio --name=chatty --filename="$dev" --direct=1 --ioengine=libaio --rw=randread --bs=4k --number_ios=200 --iodepth=4 >/dev/null
  expect_between "bytes of log" "$(cat "$state_directory/$id".log* | wc -c)" 900 $((10 << 20))
}

run_cases "$@"
