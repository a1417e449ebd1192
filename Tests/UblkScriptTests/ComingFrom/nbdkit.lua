-- Proves the lines of docs/coming-from.md for nbdkit's filters and plugins. What a section is: ComingFromTests.swift.

local zeroes = ("\0"):rep(4096)
local changes = { "write", "discard", "write_zeroes" }

-- How many bits differ.
local function flipped(a, b)
  local bits = 0
  for at = 1, #a do
    local x = a:byte(at) ~ b:byte(at)
    while x ~= 0 do
      bits = bits + (x & 1)
      x = x >> 1
    end
  end
  return bits
end

-- Data without the bit that the stuck wire sets, in each sector.
local low = (("\0"):rep(100) .. "\xf7" .. ("\0"):rep(411)):rep(8)
local high = (("\0"):rep(100) .. "\xff" .. ("\0"):rep(411)):rep(8)

--- noparallel, fua, nozero, readonly
test("the device takes one IO at a time, and no changes", function(disk)
  expect(disk.size, 512 * MiB)
  for _, op in ipairs(changes) do
    local taken, message = pcall(disk[op], disk, 0, "4K")
    expect(taken, false, op)
    assert(message:find("read-only", 1, true), message)
  end
  disk:send("read", 0, "4K")
  expect(pcall(disk.send, disk, "read", 0, "4K"), false)
end)

test("without readonly it has no write_zeroes and no FUA", { read_only = false, cache = "volatile" }, function(disk)
  expect(disk:write(0, "4K").errno, nil)
  expect(disk:discard(0, "4K").errno, nil)
  expect(pcall(disk.write_zeroes, disk, 0, "4K"), false)
end)

--- error-pread-rate=10%
test("a read of ten fails, nothing else does", function(disk)
  local failed = 0
  for _ = 1, 5000 do
    expect(disk:write(0, "4K").errno, nil)
    local read = disk:read(0, "4K")
    if read.errno then
      expect(read.errno, "EIO")
      failed = failed + 1
    end
  end
  assert(failed > 400 and failed < 600, failed)
end)

--- error-pread-rate=10% with p = 0.1 to p = 1 | text: `ublk-script ctl 0 rule on errors`
test("errors are switched off and on by their name", function(disk)
  expect(disk:read(0, "4K").errno, "EIO")
  disk:ctl("rule", "off", "errors")
  expect(disk:read(0, "4K").errno, nil)
  disk:ctl("rule", "on", "errors")
  expect(disk:read(0, "4K").errno, "EIO")
end)

--- error-file=/tmp/inject with "/tmp/inject" to "/no/such/folder/inject"
test("nothing fails while the file is not there", function(disk)
  expect(disk:read(0, "4K").errno, nil)
  for _, op in ipairs(changes) do expect(disk[op](disk, 0, "4K").errno, nil, op) end
end)

--- error-file=/tmp/inject with "/tmp/inject" to "/dev/null"
test("everything fails while the file is there", function(disk)
  expect(disk:read(0, "4K").errno, "EIO")
  for _, op in ipairs(changes) do expect(disk[op](disk, 0, "4K").errno, "EIO", op) end
end)

--- delay, wdelay=50ms
test("writes, trims and zeroes wait for 50 ms, and reads do not", function(disk)
  for _, op in ipairs(changes) do expect(disk[op](disk, 0, "4K").time, 50 * ms, op) end
  expect(disk:read(0, "4K").time, 0)
end)

--- rate=80M, of reads
test("80 Mbit of reads pass in a second, after two seconds' worth", function(disk)
  for number = 1, 40 do expect(disk:read(0, "512K").time, 0, number) end
  for number = 1, 20 do expect(disk:read(0, "512K").time, 50 * ms, number) end
  expect(disk:write(0, "512K").time, 0)
end)

--- rate=80M, of writes
test("80 Mbit of writes pass in a second, after two seconds' worth", function(disk)
  for number = 1, 40 do expect(disk:write(0, "512K").time, 0, number) end
  for number = 1, 20 do expect(disk:write(0, "512K").time, 50 * ms, number) end
  expect(disk:read(0, "512K").time, 0)
end)

--- rate=80M, of reads | rate=80M, of writes
test("reads and writes have a rate each", function(disk)
  for number = 1, 40 do
    expect(disk:read(0, "512K").time, 0, number)
    expect(disk:write(0, "512K").time, 0, number)
  end
  expect(disk:read(0, "512K").time, 50 * ms)
end)

--- protect=0-0xfffff
test("the first MiB cannot be changed", function(disk)
  for _, op in ipairs(changes) do
    expect(disk[op](disk, 0, "4K").errno, "EREMOTEIO", op)
    expect(disk[op](disk, "1020K", "4K").errno, "EREMOTEIO", op)
    expect(disk[op](disk, "1020K", "8K").errno, "EREMOTEIO", op)
    expect(disk[op](disk, "1M", "4K").errno, nil, op)
  end
  expect(disk:read(0, "4K").data, zeroes)
end)

--- evil=cosmic-rays with 1e-5 to 1e-2
test("a bit of some reads is flipped, and the disk is as it was", function(disk)
  local write, wrong = disk:write(0, "4K"), 0
  for _ = 1, 10000 do
    local data = disk:read(0, "4K").data
    if data ~= write.data then
      expect(flipped(data, write.data), 1)
      wrong = wrong + 1
    end
  end
  assert(wrong > 60 and wrong < 140, wrong)
  disk:ctl("rule", "off", "all")
  expect(disk:read(0, "4K").data, write.data)
end)

--- evil=cosmic-rays
test("it happens to one read of a hundred thousand", function(disk)
  local write, wrong = disk:write(0, "512"), 0
  for _ = 1, 199900 do
    if disk:read(0, "512").data ~= write.data then wrong = wrong + 1 end
  end
  assert(wrong > 0 and wrong <= 8, wrong)
end)

--- evil=stuck-bits
test("one bit of one sector always reads as 1", function(disk)
  disk:write(2 * MiB - 512, low)
  local data = disk:read(2 * MiB - 512, "4K").data
  expect(data, low:sub(1, 512) .. high:sub(1, 512) .. low:sub(1025))
  expect(disk:read("2M", "512").data, high:sub(1, 512))
  disk:write("2M", high)
  expect(disk:read("2M", "4K").data, high, "it is right for half of the data")
end)

--- evil=stuck-wires
test("one bit of each sector always reads as 1, wherever it is read", function(disk)
  for _, place in ipairs { "0", "2M", "9M" } do
    disk:write(place, low)
    expect(disk:read(place, "4K").data, high)
    expect(disk:read(place, "512").data, high:sub(1, 512))
  end
  disk:ctl("rule", "off", "all")
  expect(disk:read("2M", "4K").data, low)
end)

--- -- spinning heads=4
test("an arm takes its time, and moves four heads", function(disk)
  local function seek(from, to)
    disk:read(from * MiB - 4096, "4K")
    return disk:read(to * MiB, "4K").time
  end
  expect(seek(1, 1), 0, "what follows")
  expect(seek(1, 1 + 256), 0, "a quarter on is the next head")
  expect(seek(1, 1 + 128), 10 * ms, "half of what a head has")
  expect(seek(1, 1 + 64), math.floor(1 * ms + 9 * ms * math.sqrt(0.5)), "a quarter of it")
  local first, second = disk:send("read", "384M", "4K"), disk:send("read", 0, "4K")
  disk:wait(first)
  disk:wait(second)
  assert(math.max(first.time, second.time) >= 17 * ms, "one after the other")
end)

--- -- log
test("each IO is written down, and nothing happens to it", function(disk)
  local write = disk:write("1M", "4K")
  expect(disk:read("1M", "4K").data, write.data)
  expect(disk:discard("1M", "4K").errno, nil)
  assert(disk:ctl("rule"):find("acted 3 times", 1, true), disk:ctl("rule"))
end)

--- block: -- offset=1M
local show_all = dict("show-all")
function read(io, offset) return to(show_all:get("now") and offset or offset + 1 * MiB, disk) end
function ctl() show_all:set("now", true) end

test("the device begins 1 MiB into the other", function(disk)
  expect(disk.size, 512 * MiB)
  local first, last = disk:write(0, "4K"), disk:write(512 * MiB - 4096, "4K")
  disk:write("8M", "4K")
  disk:discard("8M", "4K")
  disk:write("9M", "4K")
  disk:write_zeroes("9M", "4K")
  expect(disk:read(0, "4K").data, first.data)
  expect(disk:read(512 * MiB - 4096, "4K").data, last.data)
  expect(disk:read("8M", "4K").data, zeroes)
  expect(disk:read("9M", "4K").data, zeroes)
  disk:ctl("show")
  expect(disk:read("1M", "4K").data, first.data)
  expect(disk:read(0, "4K").data, zeroes)
end)

--- ddrescue: | for _, line in ipairs | range = unreadable, error = "ENODATA"
test("what was not rescued cannot be read", function(disk)
  expect(disk:read(0x100000 - 512, 512).errno, nil)
  expect(disk:read(0x100000, 512).errno, "ENODATA")
  expect(disk:read(0x100000 + 0x1000 - 512, 1024).errno, "ENODATA")
  expect(disk:read(0x100000 + 0x1000, 512).errno, nil)
  expect(disk:read(0x300000, 512).errno, "ENODATA")
  expect(disk:read(0x300000 - 512, "4K").errno, "ENODATA")
  expect(disk:read(0x300000 + 0x200, "4K").errno, nil)
end)

--- -- full
test("nothing can be stored, and reads are zeroes", function(disk)
  for _, op in ipairs(changes) do expect(disk[op](disk, 0, "4K").errno, "ENOSPC", op) end
  expect(disk:read(0, "4K").data, zeroes)
end)

--- -- swab, 16 bits
test("pairs of bytes are stored the other way round, and read back the right way", function(disk)
  disk:write(0, ("ab\n\0"):rep(256))
  expect(disk:read(0, 1024).data, ("ab\n\0"):rep(256))
  disk:ctl("rule", "off", "all")
  expect(disk:read(0, 1024).data, ("ba\0\n"):rep(256))
end)

--- block: -- retry
test("a read gives what is stored", function(disk)
  local write = disk:write("1M", "64K")
  expect(disk:read("1M", "64K").data, write.data)
end)

--- block: checkwrite, of writes
test("a write has to bring what is there", function(disk)
  expect(disk:write(0, zeroes).errno, nil)
  expect(disk:write(0, zeroes:sub(2) .. "\1").errno, "EIO")
  expect(disk:write(0, "64K").errno, "EIO")
  expect(disk:read(0, "4K").data, zeroes)
end)

--- block: the pattern plugin
test("each word of eight bytes is its offset", function(disk)
  expect(disk:read(0, 512).data:sub(1, 16), ("\0"):rep(15) .. "\8")
  local data = disk:read(1 * MiB + 512, "4K").data
  for word = 0, 511 do expect(string.unpack(">I8", data, word * 8 + 1), 1 * MiB + 512 + word * 8) end
  expect(#disk:read("8M", "512K").data, 512 * KiB)
end)

--- text: `ublk-script ctl 0 pause`, `resume`
test("a paused device answers nothing until it is resumed", function(disk)
  disk:ctl("pause")
  local read = disk:send("read", 0, "4K")
  disk:wait("1h")
  expect(read.done, false)
  disk:ctl("resume")
  disk:wait(read)
  expect(read.errno, nil)
end)

--- text: `max_io`, `logical_block_size`, `io_min`
device { size = "1G", max_io = "64K", logical_block_size = 4096, io_min = "8K", io_opt = "64K", queues = 2 }

test("the limits are those of the device", function(disk)
  expect(disk.max_io, 64 * KiB)
  expect(disk.block, 4096)
  expect(disk:read(0, "64K").errno, nil)
  expect(pcall(disk.read, disk, 0, "68K"), false)
  expect(pcall(disk.read, disk, 0, "512"), false)
end)
