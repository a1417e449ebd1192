-- Proves the lines of docs/coming-from.md for scsi_debug. What a section is: ComingFromTests.swift.

-- One IO after the other, of all kinds in turn; gives the numbers of those that failed, and the last of them.
local function failures(disk, count)
  local numbers, last = {}, nil
  for number = 1, count do
    local io = number % 2 == 0 and disk:write(0, "4K") or disk:read(0, "4K")
    if io.errno then
      numbers[#numbers + 1] = number
      last = io
    end
  end
  return table.concat(numbers, " "), last
end

--- opts=2, medium_error_start
test("ten sectors are unreadable, the next to them are not", function(disk)
  local first = 0x1234 * 512
  expect(disk:read(first - 4096, "4K").errno, nil)
  expect(disk:read(first - 512, 1024).errno, "ENODATA")
  for sector = 0, 9 do expect(disk:read(first + sector * 512, 512).errno, "ENODATA", sector) end
  expect(disk:read(first + 9 * 512, "4K").errno, "ENODATA")
  expect(disk:read(first + 10 * 512, "4K").errno, nil)
end)

test("rewriting does not help, but the data is there", function(disk)
  local write = disk:write(0x1234 * 512, 512)
  expect(write.errno, nil)
  expect(disk:read(0x1234 * 512, 512).errno, "ENODATA")
  disk:ctl("rule", "off", "all")
  expect(disk:read(0x1234 * 512, 512).data, write.data)
end)

--- opts=4: timeout
test("every hundredth command times out", function(disk)
  local numbers, io = failures(disk, 250)
  expect(numbers, "100 200")
  expect(io.errno, "ETIMEDOUT")
  expect(io.time, 30 * sec)
end)

test("nothing answers until the timeout", function(disk)
  failures(disk, 99)
  local io = disk:send("read", 0, "4K")
  disk:wait(30 * sec - 1)
  expect(io.done, false)
  disk:wait(1)
  expect(io.done, true)
end)

--- opts=8: recovered
test("every hundredth command takes longer, and succeeds", function(disk)
  for number = 1, 300 do
    local io = disk:read(0, "4K")
    expect(io.errno, nil)
    expect(io.time, number % 100 == 0 and 5 * ms or 0, number)
  end
end)

--- opts=16: transport
test("every hundredth command loses its transport", function(disk)
  local numbers, io = failures(disk, 250)
  expect(numbers, "100 200")
  expect(io.errno, "ENOLINK")
  expect(io.time, 0)
end)

--- opts=32, 64: DIF, DIX
test("every hundredth command has a protection error", function(disk)
  local numbers, io = failures(disk, 250)
  expect(numbers, "100 200")
  expect(io.errno, "EILSEQ")
end)

--- a write that was cut off
test("every hundredth write fails and leaves its beginning behind", function(disk)
  local old = disk:write("1M", "4K")
  for _ = 2, 99 do disk:write(0, "4K") end
  expect(disk:read("1M", "4K").errno, nil)
  local write = disk:write("1M", "4K")
  expect(write.errno, "EIO")
  local data, stored = disk:read("1M", "4K").data, 0
  while data:sub(stored + 1, stored + 512) == write.data:sub(stored + 1, stored + 512) do stored = stored + 512 end
  assert(stored >= 512 and stored <= 3584, stored)
  expect(data, write.data:sub(1, stored) .. old.data:sub(stored + 1))
  expect(disk:write("1M", "4K").errno, nil)
end)

--- opts=0x8000: host busy
test("every hundredth command finds the host busy", function(disk)
  local numbers, io = failures(disk, 250)
  expect(numbers, "100 200")
  expect(io.errno, "EBUSY")
end)

--- opts=0x10000: aborted command
test("every hundredth command is aborted", function(disk)
  local numbers, io = failures(disk, 250)
  expect(numbers, "100 200")
  expect(io.errno, "EREMOTEIO")
end)

--- delay=, ndelay=
test("every command takes 10 ms, and they overlap", { cache = "volatile" }, function(disk)
  expect(disk:read(0, "4K").time, 10 * ms)
  expect(disk:write(0, "4K").time, 10 * ms)
  expect(disk:flush().time, 10 * ms)
  local first, second = disk:send("read", 0, "4K"), disk:send("read", "1M", "4K")
  disk:wait("10ms")
  expect(first.done and second.done, true)
end)

--- ... random=1
test("every command takes up to 10 ms", function(disk)
  local least, most, sum = 10 * ms, 0, 0
  for _ = 1, 2000 do
    local time = disk:read(0, "4K").time
    least, most, sum = math.min(least, time), math.max(most, time), sum + time
  end
  assert(least < 100 * us, least)
  assert(most > 9900 * us and most <= 10 * ms, most)
  assert(math.abs(sum / 2000 - 5 * ms) < 300 * us, sum)
end)

--- 0 -10 0x28
test("ten reads get no answer, the eleventh does", function(disk)
  expect(disk:write(0, "4K").errno, nil)
  local held = {}
  for number = 1, 10 do held[number] = disk:send("read", 0, "4K") end
  disk:wait("1h")
  for number = 1, 10 do expect(held[number].done, false, number) end
  expect(disk:read(0, "4K").errno, nil)
  expect(disk:ctl("release", "ETIMEDOUT"), "released 10")
  for number = 1, 10 do expect(held[number].errno, "ETIMEDOUT", number) end
end)

test("a rule is taken back by its name", function(disk)
  disk:ctl("rule", "off", "timeout")
  expect(disk:read(0, "4K").errno, nil)
end)

--- 2 -10 0x28 0 0 0x2
test("ten reads have a medium error, the eleventh has not", function(disk)
  for number = 1, 10 do
    expect(disk:write(0, "4K").errno, nil)
    expect(disk:read(0, "4K").errno, "ENODATA", number)
  end
  expect(disk:read(0, "4K").errno, nil)
end)

test("a rule with a count is taken back by its name", function(disk)
  disk:read(0, "4K")
  disk:ctl("rule", "off", "medium")
  expect(disk:read(0, "4K").errno, nil)
end)
