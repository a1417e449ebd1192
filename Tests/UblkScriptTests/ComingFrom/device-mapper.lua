-- Proves the lines of docs/coming-from.md for device mapper's targets: dm-flakey, dm-dust, dm-delay, dm-error, dm-zero
-- and dm-log-writes. What a section is: ComingFromTests.swift.

-- "ok" or the errno of an IO.
local function outcome(r) return r.errno or "ok" end

-- What the device says to one IO of each kind, at 8 MiB.
local function outcomes(disk)
  local read, write = disk:read("8M", "4K"), disk:write("8M", "4K")
  local flush, discard, zeroes = disk:flush(), disk:discard("8M", "4K"), disk:write_zeroes("8M", "4K")
  return table.concat({ outcome(read), outcome(write), outcome(flush), outcome(discard), outcome(zeroes) }, " ")
end

local fine = "ok ok ok ok ok"

-- How many bytes differ.
local function differing(a, b)
  local bytes = 0
  for at = 1, #a do bytes = bytes + (a:byte(at) ~= b:byte(at) and 1 or 0) end
  return bytes
end

-- The device is up at first; f is called at the first and the last nanosecond that it is down.
local function while_down(disk, f)
  disk:wait(60 * sec - 1)
  expect(outcomes(disk), fine, "the last moment that it is up")
  disk:wait(1)
  f()
  disk:wait(5 * sec - 1)
  f()
  disk:wait(1)
  expect(outcomes(disk), fine, "up again")
end

--- local down | error_reads
test("error_reads fails reads for 5 s of 65, again and again, and nothing else", { cache = "volatile" }, function(disk)
  for _ = 1, 2 do
    while_down(disk, function() expect(outcomes(disk), "EIO ok ok ok ok") end)
  end
end)

--- local down | local changes | error_writes
test("error_writes fails everything but reads, and stores nothing", { cache = "volatile" }, function(disk)
  local old
  while_down(disk, function()
    old = disk:read("8M", "4K")
    expect(outcomes(disk), "ok EIO EIO EIO EIO")
    expect(disk:read("8M", "4K").data, old.data)
  end)
end)

--- local down | local changes | drop_writes
test("drop_writes says yes to everything but reads, and stores nothing", { cache = "volatile" }, function(disk)
  local old = disk:write("16M", "4K")
  local function drops()
    expect(outcomes(disk), fine)
    disk:write("16M", "4K")
    disk:discard("16M", "4K")
    disk:write_zeroes("16M", "4K")
    expect(disk:read("16M", "4K").data, old.data)
  end
  while_down(disk, drops)
  local new = disk:write("16M", "4K")
  expect(disk:read("16M", "4K").data, new.data)
end)

--- local down | none of these
test("without features everything fails", { cache = "volatile" }, function(disk)
  while_down(disk, function() expect(outcomes(disk), "EIO EIO EIO EIO EIO") end)
end)

--- local down | flags = "meta", window = down
test("corrupt_bio_byte sets the 32nd byte of each read that has the flag", { cache = "volatile" }, function(disk)
  local function wrong(data) return data:sub(1, 31) .. "\1" .. data:sub(33) end
  local small, large = disk:write("1M", "4K"), disk:write("2M", "64K")
  expect(disk:read("1M", "4K", "meta").data, small.data)
  while_down(disk, function()
    expect(disk:read("1M", "4K", "meta").data, wrong(small.data))
    expect(disk:read("2M", "64K", "meta").data, wrong(large.data), "one byte, however long it is")
    expect(disk:read("1M", "4K").data, small.data, "without the flag")
    local new = disk:write("3M", "4K", "meta")
    expect(disk:read("3M", "4K").data, new.data, "a write")
    expect(outcomes(disk), fine)
  end)
  expect(disk:read("1M", "4K", "meta").data, small.data, "the medium is as it was")
end)

--- local down | random_read_corrupt
test("random_read_corrupt changes a byte of one read of a thousand", { cache = "volatile" }, function(disk)
  local write = disk:write("1M", "4K")
  local function corrupted()
    local count = 0
    for _ = 1, 20000 do
      local data = disk:read("1M", "4K").data
      if data ~= write.data then
        count = count + 1
        expect(differing(data, write.data), 1)
      end
    end
    return count
  end
  expect(corrupted(), 0, "while it is up")
  disk:wait("60s")
  local count = corrupted()
  assert(count > 5 and count < 40, count)
  disk:write("2M", "4K")
  disk:wait("5s")
  expect(disk:read("1M", "4K").data, write.data, "the medium is as it was")
  expect(outcomes(disk), fine)
end)

--- local down | random_write_corrupt
test("random_write_corrupt stores one write of a thousand with another byte", { cache = "volatile" }, function(disk)
  local function corrupted()
    local count = 0
    for _ = 1, 20000 do
      local write = disk:write("1M", "512")
      local data = disk:read("1M", "512").data
      if data ~= write.data then
        count = count + 1
        expect(differing(data, write.data), 1)
        expect(disk:read("1M", "512").data, data, "the same at every read")
      end
    end
    return count
  end
  expect(corrupted(), 0, "while it is up")
  disk:wait("60s")
  local count = corrupted()
  assert(count > 5 and count < 40, count)
  disk:wait("5s")
  expect(corrupted(), 0, "up again")
end)

--- block: addbadblock 2048, blocks of 4 KiB
test("a bad block fails reads until it is written", function(disk)
  expect(disk:read("8188K", "4K").errno, nil, "the block before")
  expect(disk:read("8188K", "8K").errno, "EIO", "both")
  expect(disk:read("8M", "512").errno, "EIO", "its first sector")
  expect(disk:read(8 * MiB + 3584, "512").errno, "EIO", "its last sector")
  expect(disk:read("8196K", "4K").errno, nil, "the block behind")
  expect(disk:write("8188K", "4K").errno, nil)
  expect(disk:read("8M", "4K").errno, "EIO", "the block before was written")
  local write = disk:write("8M", "4K")
  expect(disk:read("8M", "4K").data, write.data)
end)

test("a discard and a write_zeroes heal it, too", function(disk)
  for _, op in ipairs { "discard", "write_zeroes" } do
    disk:ctl("ranges", "bad", "add", "16M", "4K")
    expect(disk:read("16M", "4K").errno, "EIO")
    expect(disk[op](disk, "16M", "4K").errno, nil)
    expect(disk:read("16M", "4K").errno, nil, op)
  end
end)

test("a write heals the bytes that it covers", function(disk)
  disk:write("8M", "512")
  expect(disk:read("8M", "512").errno, nil)
  expect(disk:read(8 * MiB + 512, "512").errno, "EIO")
end)

--- block: addbadblock 2048, blocks of 4 KiB | text: `ublk-script ctl 0 ranges bad add 16M 4K`
test("addbadblock and removebadblock are words of ctl", function(disk)
  expect(disk:read("16M", "4K").errno, nil)
  disk:ctl("ranges", "bad", "add", "16M", "4K")
  expect(disk:read("16M", "4K").errno, "EIO")
  disk:ctl("ranges", "bad", "remove", "16M", "4K")
  expect(disk:read("16M", "4K").errno, nil)
  expect(disk:read("8M", "4K").errno, "EIO", "the other one")
end)

--- block: addbadblock 2048, blocks of 4 KiB | text: `queryblock`, `listbadblocks`
test("listbadblocks, countbadblocks and clearbadblocks are words of ctl", function(disk)
  disk:ctl("ranges", "bad", "add", "16M", "4K")
  expect(disk:ctl("ranges", "bad", "list"), "8388608 4096\n16777216 4096")
  expect(disk:ctl("ranges", "bad", "count"), "bad: 2 ranges, 8192 bytes")
  disk:ctl("ranges", "bad", "clear")
  expect(disk:ctl("ranges", "bad", "count"), "bad: 0 ranges, 0 bytes")
  expect(disk:read("8M", "4K").errno, nil)
end)

--- block: addbadblock 2048, blocks of 4 KiB | text: `enable`, `disable`
test("a disabled dm-dust neither fails nor heals", function(disk)
  disk:ctl("rule", "off", "bad")
  expect(disk:read("8M", "4K").errno, nil)
  expect(disk:write("8M", "4K").errno, nil)
  disk:ctl("rule", "on", "bad")
  expect(disk:read("8M", "4K").errno, "EIO")
end)

--- block: local other = backing { size = "2G" }
-- The device's reads show the other place from 512 MiB on.
function read(io, offset) return offset >= 512 * MiB and to(offset - 512 * MiB, other) or nil end

test("each class has its delay, and they overlap", function(disk)
  expect(disk:read(0, "4K").time, 100 * ms)
  expect(disk:write(0, "4K").time, 200 * ms)
  expect(disk:flush().time, 300 * ms)
  expect(disk:discard(0, "4K").time, 200 * ms)
  expect(disk:write_zeroes(0, "4K").time, 200 * ms)
  local first, second = disk:send("read", 0, "4K"), disk:send("read", "1M", "4K")
  disk:wait(100 * ms - 1)
  expect(first.done or second.done, false)
  disk:wait(1)
  expect(first.done and second.done, true)
end)

test("writes go to another device, with an offset", function(disk)
  expect(disk.size, 1 * GiB)
  local write = disk:write("8M", "4K")
  for _, place in ipairs { "8M", "9M" } do
    expect(disk:read(place, "4K").data, ("\0"):rep(4096), "where reads come from")
  end
  expect(disk:read("521M", "4K").data, write.data)
  expect(disk:write_zeroes("8M", "4K").errno, nil)
  expect(disk:read("521M", "4K").data, ("\0"):rep(4096))
end)

--- text: `ublk-script add delay read=100ms write=200ms flush=300ms`
device { size = "1G", cache = "volatile" }
for op, time in pairs { read = "100ms", write = "200ms", flush = "300ms" } do rule { op = op, delay = time } end

test("this script's class of writes has no discards", function(disk)
  expect(disk:write(0, "4K").time, 200 * ms)
  expect(disk:discard(0, "4K").time, 0)
end)

--- range = { "100M", "1M" }
test("a segment of dm-error fails everything that touches it, a flush does not", { cache = "volatile" }, function(disk)
  for _, op in ipairs { "read", "write", "discard", "write_zeroes" } do
    local io = disk[op]
    expect(io(disk, 100 * MiB - 4096, "4K").errno, nil, op .. " before")
    expect(io(disk, 100 * MiB - 4096, "8K").errno, "EIO", op .. " over its beginning")
    expect(io(disk, "100M", "4K").errno, "EIO", op)
    expect(io(disk, 101 * MiB - 4096, "4K").errno, "EIO", op .. " of its end")
    expect(io(disk, "101M", "4K").errno, nil, op .. " behind")
  end
  expect(disk:flush().errno, nil)
end)

--- zero = true
test("a segment of dm-zero reads as zeroes", function(disk)
  local write = disk:write("200M", "4K")
  local before, behind = disk:write(200 * MiB - 4096, "4K"), disk:write("201M", "4K")
  expect(disk:read("200M", "4K").data, ("\0"):rep(4096))
  expect(disk:read(201 * MiB - 512, "512").data, ("\0"):rep(512))
  expect(disk:read(200 * MiB - 4096, "4K").data, before.data)
  expect(disk:read("201M", "4K").data, behind.data)
  disk:ctl("rule", "off", "all")
  expect(disk:read("200M", "4K").data, write.data)
end)

--- range = { "200M", "1M" }, drop
test("writes, discards and write_zeroes of a segment of dm-zero change nothing", function(disk)
  disk:ctl("rule", "off", "all")
  local old = { ["200M"] = disk:write("200M", "4K"), ["205820K"] = disk:write("205820K", "4K") }
  disk:ctl("rule", "on", "all")
  for place in pairs(old) do
    expect(disk:write(place, "4K").errno, nil)
    expect(disk:discard(place, "4K").errno, nil)
    expect(disk:write_zeroes(place, "4K").errno, nil)
  end
  for place, write in pairs(old) do expect(disk:read(place, "4K").data, write.data, place) end
  local behind = disk:write("201M", "4K")
  expect(disk:read("201M", "4K").data, behind.data)
end)

--- block: zero = true
test("the whole IO that touches a segment is what it is about", function(disk)
  local before = disk:write(200 * MiB - 4096, "4K")
  expect(disk:read(200 * MiB - 4096, "8K").data, ("\0"):rep(8192))
  disk:write(200 * MiB - 4096, "8K")
  expect(disk:read(200 * MiB - 4096, "4K").data, before.data)
end)

--- block: zero = true | text: `ublk-script ctl 0 rule off 1`
test("a line's number switches its rule off and on", function(disk)
  expect(disk:read("100M", "4K").errno, "EIO")
  disk:ctl("rule", "off", "1")
  expect(disk:read("100M", "4K").errno, nil)
  disk:ctl("rule", "on", "1")
  expect(disk:read("100M", "4K").errno, "EIO")
end)

--- size = "1T"
test("a huge disk keeps what is written, at both its ends", function(disk)
  expect(disk.size, 1 * TiB)
  local first, last = disk:write(0, "4K"), disk:write(1 * TiB - 4096, "4K")
  expect(disk:read(0, "4K").data, first.data)
  expect(disk:read(1 * TiB - 4096, "4K").data, last.data)
  expect(disk:read("512G", "4K").data, ("\0"):rep(4096))
  expect(pcall(disk.read, disk, "1T", "4K"), false, "past its end")
end)

--- text: `mark` is `ublk-script ctl 0 mark NAME`
rule { op = "write", after = { mark = "before-the-crash" }, error = "EIO" }

test("a mark is a moment that rules know", function(disk)
  expect(disk:write(0, "4K").errno, nil)
  disk:ctl("mark", "another")
  expect(disk:write(0, "4K").errno, nil)
  disk:ctl("mark", "before-the-crash")
  expect(disk:write(0, "4K").errno, "EIO")
end)
