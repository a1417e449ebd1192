#!/bin/bash
# The errno that a script says is the errno that the application gets: there and nowhere else.
. "$(dirname "$0")/lib.sh"

errnos=(EIO ENODATA ENOSPC ETIMEDOUT ENOLINK EREMOTEIO EBADE EILSEQ)

# One bad 4 KiB block per errno, 1 MiB apart.
bad_offset() { echo $((($1 + 1) * 1048576)); }

expect_faults_in_place() { # ERRNO-COMMAND
  local i offset
  for i in "${!errnos[@]}"; do
    offset=$(bad_offset "$i")
    expect_equal "$1 before the ${errnos[i]} block" "$("$1" "$dev" $((offset - 4096)) 4096)" ok
    expect_equal "$1 on the ${errnos[i]} block" "$("$1" "$dev" "$offset" 4096)" "${errnos[i]}"
    expect_equal "$1 after the ${errnos[i]} block" "$("$1" "$dev" $((offset + 4096)) 4096)" ok
  done
}

t_a_reader_gets_the_errno_of_a_rule_until_the_range_is_rewritten() {
  script bad <<'LUA'
    device { size = "16M" }
    for i, name in ipairs { "EIO", "ENODATA", "ENOSPC", "ETIMEDOUT", "ENOLINK", "EREMOTEIO", "EBADE", "EILSEQ" } do
      local bad = ranges(name):add(i * MiB, "4K")
      rule { op = "read", range = bad, error = name }
      rule { op = "write", range = bad, heal = true }
    end
LUA
  add_device bad
  expect_faults_in_place read_errno
  local i
  for i in "${!errnos[@]}"; do
    expect_equal "rewriting" "$(write_errno "$dev" "$(bad_offset "$i")" 4096)" ok
    expect_equal "${errnos[i]} after rewriting" "$(read_errno "$dev" "$(bad_offset "$i")" 4096)" ok
  done
}

t_a_reader_gets_the_errno_of_a_handler_until_the_range_is_rewritten() {
  script bad <<'LUA'
    device { size = "16M" }
    local names = { "EIO", "ENODATA", "ENOSPC", "ETIMEDOUT", "ENOLINK", "EREMOTEIO", "EBADE", "EILSEQ" }
    local bad = {}
    for i, name in ipairs(names) do bad[i] = ranges(name):add(i * MiB, "4K") end
    function read(io, offset, length)
      for i, name in ipairs(names) do
        if bad[i]:has(offset, length) then return fail(name) end
      end
    end
    function write(io, offset, length)
      for i in ipairs(names) do
        if bad[i]:has(offset, length) then bad[i]:remove(offset, length) end
      end
    end
LUA
  add_device bad
  expect_faults_in_place read_errno
  local i
  for i in "${!errnos[@]}"; do
    expect_equal "rewriting" "$(write_errno "$dev" "$(bad_offset "$i")" 4096)" ok
    expect_equal "${errnos[i]} after rewriting" "$(read_errno "$dev" "$(bad_offset "$i")" 4096)" ok
  done
}

t_a_writer_gets_the_errno_of_a_rule() {
  script bad <<'LUA'
    device { size = "16M" }
    for i, name in ipairs { "EIO", "ENODATA", "ENOSPC", "ETIMEDOUT", "ENOLINK", "EREMOTEIO", "EBADE", "EILSEQ" } do
      rule { op = "write", range = { i * MiB, "4K" }, error = name }
    end
LUA
  add_device bad
  expect_faults_in_place write_errno
}

t_a_writer_gets_the_errno_of_a_handler() {
  script bad <<'LUA'
    device { size = "16M" }
    local names = { "EIO", "ENODATA", "ENOSPC", "ETIMEDOUT", "ENOLINK", "EREMOTEIO", "EBADE", "EILSEQ" }
    function write(io, offset, length)
      local last = (offset + length - 1) // MiB
      if last * MiB < offset + length and offset < last * MiB + 4 * KiB and names[last] then return fail(names[last]) end
    end
LUA
  add_device bad
  expect_faults_in_place write_errno
}

t_a_failed_write_changes_nothing() {
  script bad <<'LUA'
    device { size = "16M" }
    local bad = ranges("bad")
    rule { op = "write", range = bad, error = "EIO" }
    function ctl(word) if word == "on" then bad:add("1M", "4K") else bad:clear() end end
LUA
  add_device bad
  fill "$dev" 1048576 4096 ab
  ublk-script ctl "$id" on
  expect_equal "a write to the bad block" "$(write_errno "$dev" 1048576 4096)" EIO
  expect_equal "what the block holds" "$(bytes_in "$dev" 1048576 4096)" ab
}

t_a_flush_and_a_discard_and_a_write_zeroes_fail_as_scripted() {
  script bad <<'LUA'
    device { size = "16M", cache = "volatile" }
    rule { op = "flush", error = "ENOSPC" }
    rule { op = "discard", range = { "1M", "1M" }, error = "ENODATA" }
    rule { op = "write_zeroes", range = { "1M", "1M" }, error = "EREMOTEIO" }
LUA
  add_device bad
  expect_equal "flush" "$(flush_errno "$dev")" ENOSPC
  expect_equal "discard of the range" "$(discard_errno "$dev" 1048576 1048576)" ENODATA
  expect_equal "discard elsewhere" "$(discard_errno "$dev" 4194304 1048576)" ok
  expect_equal "write_zeroes of the range" "$(write_zeroes_errno "$dev" 1048576 1048576)" EREMOTEIO
  expect_equal "write_zeroes elsewhere" "$(write_zeroes_errno "$dev" 4194304 1048576)" ok
}

t_an_error_is_in_the_kernel_log_under_the_name_of_its_kind() {
  script bad <<'LUA'
    device { size = "16M" }
    rule { op = "read", range = { "1M", "4K" }, error = "ENODATA" }
LUA
  add_device bad
  wait_for_rate_limit
  expect_equal "read" "$(read_errno "$dev" 1048576 4096)" ENODATA
  dmesg | grep -F "critical medium error, dev ublkb$id, sector 2048 op 0x0:(READ)" || fail "not in the kernel log"
}

t_counted_rules_act_on_the_IOs_they_name() {
  script count <<'LUA'
    device { size = "16M", partitions = false }
    rule { op = "read", range = { "1M", "4K" }, nth = 2, error = "EIO" }
    rule { op = "read", range = { "2M", "4K" }, every = 3, error = "ENODATA" }
    rule { op = "read", range = { "3M", "4K" }, times = 2, error = "EBADE" }
    rule { op = "read", range = { "4M", "4K" }, p = 0, error = "EIO" }
    rule { op = "read", range = { "5M", "4K" }, p = 1, error = "EIO" }
LUA
  add_device count
  local i got=()
  for i in 1 2 3 4 5; do
    got[i]=
    for _ in 1 2 3 4; do got[i]+="$(read_errno "$dev" $((i * 1048576)) 4096) "; done
  done
  expect_equal "nth = 2" "${got[1]}" "ok EIO ok ok "
  expect_equal "every = 3" "${got[2]}" "ok ok ENODATA ok "
  expect_equal "times = 2" "${got[3]}" "EBADE EBADE ok ok "
  expect_equal "p = 0" "${got[4]}" "ok ok ok ok "
  expect_equal "p = 1" "${got[5]}" "EIO EIO EIO EIO "
}

run_cases "$@"
