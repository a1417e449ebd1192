-- Proves the lines of docs/coming-from.md for the storage faults of simulators: TigerBeetle, moonpool, reddb. What a
-- section is: ComingFromTests.swift.

local zeroes = ("\0"):rep(4096)

-- Writes 4 KiB so often at 8 MiB; f(write, data read behind it, what was there before) is true for those that went
-- wrong. Gives how many did.
local function wrong_writes(disk, count, f)
  local wrong, old = 0, zeroes
  for _ = 1, count do
    local write = disk:write("8M", "4K")
    local data = disk:read("8M", "4K").data
    if write.errno or data ~= write.data then
      wrong = wrong + 1
      assert(f(write, data, old), "this is another fault")
    end
    old = data
  end
  return wrong
end

-- 100 ppm of 50,000 is 5.
local function about_five(count) assert(count > 0 and count < 14, count) end

-- How much of a write is there, in bytes, if the rest is as before.
local function stored(write, data, old)
  local length = 0
  while length < 4096 and data:sub(length + 1, length + 512) == write.data:sub(length + 1, length + 512) do
    length = length + 512
  end
  return data == write.data:sub(1, length) .. old:sub(length + 1) and length or nil
end

--- -- latency
test("every IO takes at least 1 ms, 5 ms on average", function(disk)
  local least, sum = 1 * sec, 0
  for _ = 1, 10000 do
    local time = disk:read(0, "4K").time
    least, sum = math.min(least, time), sum + time
  end
  assert(least >= 1 * ms and least < 1100 * us, least)
  assert(math.abs(sum / 10000 - 5 * ms) < 200 * us, sum)
end)

--- faults that retries do not mend
test("a retry reads the same wrong data", function(disk)
  local write = disk:write("64M", "4K")
  local first = disk:read("64M", "4K").data
  local wrong = 0
  for at = 1, 4096 do
    if first:byte(at) ~= write.data:byte(at) then wrong = wrong + 1 end
  end
  expect(wrong, 8, "a bit of each sector")
  for _ = 1, 10 do expect(disk:read("64M", "4K").data, first) end
  local before, behind = disk:write(64 * MiB - 4096, "4K"), disk:write("65M", "4K")
  expect(disk:read(64 * MiB - 4096, "4K").data, before.data)
  expect(disk:read("65M", "4K").data, behind.data)
end)

--- misdirected_write = 100 ppm
test("100 ppm of writes hit another place", function(disk)
  about_five(wrong_writes(disk, 50000, function(write, data, old)
    return not write.errno and data == old and disk:read("9M", "4K").data == write.data
  end))
end)

--- lost, phantom write
test("100 ppm of writes are lost", function(disk)
  about_five(wrong_writes(disk, 50000, function(write, data, old)
    return not write.errno and data == old and disk:read("9M", "4K").data == zeroes
  end))
end)

--- torn, shorn write
test("100 ppm of writes are torn, and succeed", function(disk)
  about_five(wrong_writes(disk, 50000, function(write, data, old)
    local length = stored(write, data, old)
    return not write.errno and length and length > 0 and length < 4096
  end))
end)

--- misdirected read
test("100 ppm of reads answer another place's data", function(disk)
  local right, other = disk:write("8M", "4K"), disk:write("9M", "4K")
  local wrong = 0
  for _ = 1, 50000 do
    local read = disk:read("8M", "4K")
    expect(read.errno, nil)
    if read.data ~= right.data then
      expect(read.data, other.data)
      wrong = wrong + 1
    end
  end
  about_five(wrong)
end)

--- barrier violation
test("one flush of a thousand is only acknowledged", { cache = "volatile" }, function(disk)
  for _ = 1, 20000 do expect(disk:flush().errno, nil) end
  local acted = tonumber(disk:ctl("rule"):match("acted (%d+) times"))
  assert(acted > 5 and acted < 40, acted)
end)

--- -- short transfer
test("100 ppm of writes fail and leave a part behind", function(disk)
  about_five(wrong_writes(disk, 50000, function(write, data, old)
    local length = stored(write, data, old)
    return write.errno == "EIO" and length and length > 0 and length < 4096
  end))
end)

--- stall = "2s" with 10e-6 to 0.01
test("when it stalls everything waits until the end of it, then all is answered", function(disk)
  local stalled
  for _ = 1, 10000 do
    local io = disk:send("read", 0, "4K")
    disk:wait("1us")
    if not io.done then
      stalled = io
      break
    end
    expect(io.time, 0)
  end
  local write = disk:send("write", "1M", "4K")
  disk:wait(1999999 * us - 1)
  expect(stalled.done or write.done, false)
  disk:wait(1)
  expect(stalled.done and write.done, true)
  expect(stalled.time, 2 * sec)
  expect(stalled.errno or write.errno, nil)
end)

--- stall = "2s"
test("it stalls for some of 200,000 IOs", function(disk)
  local stalls = 0
  for _ = 1, 199990 do
    local time = disk:read(0, "512").time
    if time > 0 then
      expect(time, 2 * sec)
      stalls = stalls + 1
    end
  end
  assert(stalls > 0 and stalls < 10, stalls)
end)

--- the disk never completes with 1e-6 to 0.01
test("an IO that is never completed holds up no other", function(disk)
  local held = 0
  for _ = 1, 3000 do
    local io = disk:send("read", 0, "4K")
    disk:wait("1ms")
    if not io.done then held = held + 1 end
  end
  assert(held > 10 and held < 60, held)
  disk:wait("24h")
  expect(disk:ctl("release"), "released " .. held)
end)

--- the disk never completes
test("of 100,000 IOs it hits a few at most", function(disk)
  local held = 0
  for _ = 1, 99990 do
    local io = disk:send("read", 0, "512")
    disk:wait(1)
    if not io.done then held = held + 1 end
  end
  assert(held <= 3, held)
end)
