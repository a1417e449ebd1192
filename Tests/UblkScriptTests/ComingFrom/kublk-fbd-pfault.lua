-- Proves the lines of docs/coming-from.md for kublk, Minix's faulty block driver and PFault. What a section is:
-- ComingFromTests.swift.

local zeroes = ("\0"):rep(4096)

-- Writes 4 KiB 20,000 times at 1 MiB; f(write, data read behind it, what was there before) is true for those that went
-- wrong. Gives how many did.
local function wrong_writes(disk, f)
  local count, old = 0, zeroes
  for _ = 1, 20000 do
    local write = disk:write("1M", "4K")
    expect(write.errno, nil)
    local data = disk:read("1M", "4K").data
    if data ~= write.data then
      count = count + 1
      assert(f(write, data, old), "this is another fault")
    end
    old = data
  end
  return count
end

local function about_twenty(count) assert(count > 5 and count < 40, count) end

--- kublk add -t fault_inject
test("every IO takes 500 us, and they overlap", { cache = "volatile" }, function(disk)
  expect(disk:read(0, "4K").time, 500 * us)
  expect(disk:write(0, "4K").time, 500 * us)
  expect(disk:flush().time, 500 * us)
  local first, second = disk:send("read", 0, "4K"), disk:send("read", "1M", "4K")
  disk:wait("500us")
  expect(first.done and second.done, true)
end)

--- range = { "8M", "64K" }, skip = 10
test("ten reads of the range are let through, five fail, then it is over", function(disk)
  disk:write("8M", "4K")
  disk:read("8188K", "4K")
  disk:read("8256K", "4K")
  for number = 1, 20 do
    local hit = number > 10 and number <= 15
    expect(disk:read("8M", "4K").errno, hit and "EIO" or nil, number)
  end
end)

--- -- lost write
test("five writes of the range are lost", function(disk)
  disk:ctl("rule", "off", "all")
  local old = disk:write("9M", "4K")
  disk:ctl("rule", "on", "all")
  for number = 1, 5 do
    expect(disk:write("9M", "4K").errno, nil, number)
    expect(disk:read("9M", "4K").data, old.data, number)
    local behind = disk:write("9280K", "4K")
    expect(disk:read("9280K", "4K").data, behind.data)
  end
  local write = disk:write("9M", "4K")
  expect(disk:read("9M", "4K").data, write.data)
end)

--- range = { "10M", "64K" }
test("five writes of the range hit a place 1 MiB on", function(disk)
  for number = 1, 5 do
    local behind = disk:write("10304K", "4K")
    expect(disk:read("10304K", "4K").data, behind.data, "behind the range")
    local write = disk:write("10M", "4K")
    expect(write.errno, nil)
    expect(disk:read("10M", "4K").data, zeroes, number)
    expect(disk:read("11M", "4K").data, write.data, number)
  end
  local write = disk:write("10M", "4K")
  expect(disk:read("10M", "4K").data, write.data)
end)

--- -- corrupted
test("reads of the range are garbage, and the disk is as it was", function(disk)
  local write = disk:write("11M", "4K")
  local first, second = disk:read("11M", "4K"), disk:read("11M", "4K")
  expect(first.errno or second.errno, nil)
  local right = 0
  for at = 1, 4096 do
    if first.data:byte(at) == write.data:byte(at) then right = right + 1 end
  end
  assert(right < 50, right)
  expect(first.data == second.data, false)
  disk:ctl("rule", "off", "all")
  expect(disk:read("11M", "4K").data, write.data)
end)

test("reads next to the range are right", function(disk)
  local before, behind = disk:write("11260K", "4K"), disk:write("11328K", "4K")
  expect(disk:read("11260K", "4K").data, before.data)
  expect(disk:read("11328K", "4K").data, behind.data)
end)

--- range = { "12M", "64K" }
test("of each write of the range a beginning is stored", function(disk)
  local old = zeroes
  for _ = 1, 50 do
    local write = disk:write("12M", "4K")
    expect(write.errno, nil)
    local data, stored = disk:read("12M", "4K").data, 0
    while data:sub(stored + 1, stored + 512) == write.data:sub(stored + 1, stored + 512) and stored < 4096 do
      stored = stored + 512
    end
    assert(stored >= 512 and stored <= 3584, stored)
    expect(data, write.data:sub(1, stored) .. old:sub(stored + 1))
    old = data
  end
  local behind = disk:write("12352K", "4K")
  expect(disk:read("12352K", "4K").data, behind.data)
end)

--- -- BIT_CORRUPTION
test("one write of a thousand stores random bytes", function(disk)
  about_twenty(wrong_writes(disk, function(write, data, old)
    local same = 0
    for at = 1, 4096, 8 do
      local word = data:sub(at, at + 7)
      if word == write.data:sub(at, at + 7) or word == old:sub(at, at + 7) then same = same + 1 end
    end
    return same == 0
  end))
end)

--- -- SHORN_WRITES
test("of one write of a thousand 7 sectors of 8 are stored", function(disk)
  about_twenty(wrong_writes(disk, function(write, data, old)
    return data == write.data:sub(1, 3584) .. old:sub(3585)
  end))
end)

--- -- FLYING_WRITES
test("one write of a thousand lands 8 KiB further on", function(disk)
  about_twenty(wrong_writes(disk, function(write, data, old)
    return data == old and disk:read(1 * MiB + 8192, "4K").data == write.data
  end))
end)

--- -- UNSERIALIZABLE_WRITES
test("one write of a thousand is lost, the others are not", function(disk)
  about_twenty(wrong_writes(disk, function(write, data, old)
    return data == old and disk:read(1 * MiB + 8192, "4K").data == zeroes
  end))
end)

--- -- DEAD_DEVICE
test("after 10 minutes there is no device", { cache = "volatile" }, function(disk)
  disk:wait(10 * 60 * sec - 1)
  local write = disk:write(0, "4K")
  expect(disk:read(0, "4K").data, write.data)
  disk:wait(1)
  for _ = 1, 2 do
    expect(disk:read(0, "4K").errno, "ENODEV")
    expect(disk:write(0, "4K").errno, "ENODEV")
    expect(disk:flush().errno, "ENODEV")
    expect(disk:discard(0, "4K").errno, "ENODEV")
    disk:wait("24h")
  end
end)

--- block: -- RET_ERRNO5
test("a write of a thousand is lost, and reads of it fail or hang for good", function(disk)
  local failed, hanging, lost = 0, 0, nil
  for number = 0, 19999 do
    local write = disk:write(number * 4096, "4K")
    expect(write.errno, nil)
    local read = disk:send("read", number * 4096, "4K")
    disk:wait("1ms")
    if not read.done then
      hanging = hanging + 1
    elseif read.errno then
      expect(read.errno, "EIO")
      expect(disk:read(number * 4096, "4K").errno, "EIO", "again")
      failed = failed + 1
      lost = number * 4096
    else
      expect(read.data, write.data)
    end
  end
  assert(failed > 2 and hanging > 2, failed .. " " .. hanging)
  about_twenty(failed + hanging)
  expect(disk:ctl("release"), "released " .. hanging)
  disk:ctl("rule", "off", "all")
  expect(disk:read(lost, "4K").data, zeroes)
end)
