-- Proves the lines of docs/coming-from.md for tools that inject faults into files: CharybdeFS, unreliablefs, IOChaos,
-- libfiu, LazyFS, zinject. What a section is: ComingFromTests.swift.

local zeroes = ("\0"):rep(4096)

-- How many bits are 1.
local function ones(data)
  local count = 0
  for byte in data:gmatch("[^\0]") do
    local x = byte:byte()
    while x ~= 0 do
      count = count + (x & 1)
      x = x >> 1
    end
  end
  return count
end

--- op = "write", p = 0.01, error = "ENOSPC"
test("one write of a hundred finds no space, and nothing is stored", function(disk)
  local failed, old = 0, zeroes
  for _ = 1, 10000 do
    local write = disk:write(0, "4K")
    local data = disk:read(0, "4K").data
    if write.errno then
      expect(write.errno, "ENOSPC")
      expect(data, old)
      failed = failed + 1
    else
      expect(data, write.data)
    end
    old = data
  end
  assert(failed > 60 and failed < 140, failed)
end)

--- dist.lognormal { median = "5ms", p99 = "500ms" }
test("one read of a hundred is late, most by some milliseconds, some by far more", function(disk)
  local late = {}
  for _ = 1, 100000 do
    local read = disk:read(0, "4K")
    expect(read.errno, nil)
    if read.time > 0 then late[#late + 1] = read.time end
  end
  assert(#late > 850 and #late < 1150, #late)
  table.sort(late)
  local median, most = late[#late // 2], late[#late]
  assert(median > 3 * ms and median < 8 * ms, median)
  assert(most > 500 * ms, most)
  expect(disk:write(0, "4K").time, 0)
end)

--- -- fsync
test("one flush of a hundred fails", { cache = "volatile" }, function(disk)
  local failed = 0
  for _ = 1, 10000 do
    expect(disk:write(0, "4K").errno, nil)
    local flush = disk:flush()
    if flush.errno then
      expect(flush.errno, "EIO")
      failed = failed + 1
    end
  end
  assert(failed > 60 and failed < 140, failed)
end)

--- block: reads of /mnt/a.db | text: `ublk-script map 0 /mnt/a.db --ranges victim`
test("the file's extents fail once they are in the set, and no others", function(disk)
  expect(disk:read("32M", "4K").errno, nil)
  -- What map does with two extents.
  disk:ctl("ranges", "victim", "clear")
  disk:ctl("ranges", "victim", "add", "32M", "8K", "48M", "4K")
  for _, place in ipairs { "32M", "32772K", "48M" } do expect(disk:read(place, "4K").errno, "EIO", place) end
  for _, place in ipairs { "32764K", "32776K", "49148K", "49156K" } do
    expect(disk:read(place, "4K").errno, nil, place)
  end
  expect(disk:write("32M", "4K").errno, nil)
end)

--- torn-op, parts
test("of the fifth write the first sector is stored, the others are whole", function(disk)
  local old = zeroes
  for number = 1, 20 do
    local write = disk:write(0, "4K")
    expect(write.errno, nil)
    local wanted = number == 5 and write.data:sub(1, 512) .. old:sub(513) or write.data
    expect(disk:read(0, "4K").data, wanted, number)
    old = wanted
  end
end)

--- torn-seq: the 6th and 8th
test("of the 6th, 7th and 8th write the 7th is lost", function(disk)
  local last
  for number = 1, 20 do
    local write = disk:write(0, "4K")
    expect(write.errno, nil)
    if number == 7 then write = last end
    expect(disk:read(0, "4K").data, write.data, number)
    last = write
  end
end)

--- lies about fsync
test("no flush reaches the backing, and each succeeds", { cache = "volatile" }, function(disk)
  for _ = 1, 3 do
    disk:write(0, "4K")
    expect(disk:flush().errno, nil)
  end
  expect(disk:ctl("rule"):match("acted (%d+) times"), "3")
end)

--- block: local rotten
test("a rotten range reads wrong in the same way until it is rewritten", function(disk)
  local first = disk:read("8M", "128K").data
  expect(ones(first), 256, "a bit of each sector")
  expect(disk:read("8M", "128K").data, first)
  expect(disk:read("8M", "4K").data, first:sub(1, 4096))
  local write = disk:write("8M", "4K")
  expect(disk:read("8M", "4K").data, write.data)
  expect(disk:read("8M", "128K").data:sub(4097), first:sub(4097), "the rest of it")
end)

test("next to the rotten range the data is right", function(disk)
  expect(disk:read("8320K", "4K").data, zeroes)
  local before, behind = disk:write("8188K", "4K"), disk:write("8320K", "4K")
  expect(disk:read("8188K", "4K").data, before.data)
  expect(disk:read("8320K", "4K").data, behind.data)
end)
