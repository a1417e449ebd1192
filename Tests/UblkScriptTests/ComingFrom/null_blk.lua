-- Proves the lines of docs/coming-from.md for null_blk. What a section is: ComingFromTests.swift.

local zeroes = ("\0"):rep(4096)

--- logical_block_size = 4096, discard = true
test("the device takes whole blocks of 4 KiB, 64 at a time", function(disk)
  expect(disk.block, 4096)
  expect(disk.size, 1 * GiB)
  expect(pcall(disk.read, disk, 0, "512"), false)
  expect(pcall(disk.read, disk, "512", "4K"), false)
  for _ = 1, 64 do disk:send("write", 0, "4K") end
  local fits, message = pcall(disk.send, disk, "write", 0, "4K")
  expect(fits, false)
  assert(message:find("64 requests are in flight", 1, true), message)
end)

test("it has discards, flushes and FUA", function(disk)
  disk:write(0, "4K", "fua")
  expect(disk:discard(0, "4K").errno, nil)
  expect(disk:read(0, "4K").data, zeroes)
  expect(disk:flush().errno, nil)
end)

--- block: badblocks +2048-2147
test("all of the lines are one script, on two queues", function(disk)
  expect(disk:read("4088s", "8s").errno, nil)
  expect(disk:read("4096s", "8s").errno, "EIO")
  expect(disk:read("2048s", "8s").errno, "EIO")
end)

--- badblocks +2048-2147 | rule { range = bad, error
test("sectors 2048 to 2147 fail whatever it is", function(disk)
  for _, op in ipairs { "read", "write" } do
    expect(disk[op](disk, "2047s", 512).errno, nil, op .. " before")
    expect(disk[op](disk, "2047s", 1024).errno, "EIO", op .. " over the beginning")
    expect(disk[op](disk, "2048s", 512).errno, "EIO", op .. " of the first")
    expect(disk[op](disk, "2147s", 512).errno, "EIO", op .. " of the last")
    expect(disk[op](disk, "2148s", 512).errno, nil, op .. " behind")
  end
  expect(disk:discard("2048s", "8s").errno, "EIO")
  expect(disk:write_zeroes("2048s", "8s").errno, "EIO")
  expect(disk:discard("2040s", "8s").errno, nil)
end)

test("writing does not heal, and nothing was stored", function(disk)
  local write = disk:write("2048s", 512)
  expect(disk:read("2048s", 512).errno, "EIO")
  disk:ctl("rule", "off", "all")
  expect(disk:read("2048s", 512).data == write.data, false)
end)

test("badblocks is changed while it runs", function(disk)
  disk:ctl("ranges", "badblocks", "remove", "2048s", "1s")
  expect(disk:read("2048s", 512).errno, nil)
  expect(disk:read("2049s", 512).errno, "EIO")
  disk:ctl("ranges", "badblocks", "add", "9s", "1s")
  expect(disk:read("9s", 512).errno, "EIO")
  expect(disk:read("8s", 512).errno, nil)
end)

--- ranges("once") | badblocks_once
test("a bad block is bad once", function(disk)
  expect(disk:read("4088s", "8s").errno, nil)
  expect(disk:read("4104s", "8s").errno, nil)
  expect(disk:read("4096s", "8s").errno, "EIO")
  local write = disk:write("4096s", "8s")
  expect(write.errno, nil)
  expect(disk:read("4096s", "8s").data, write.data)
end)

test("a write uses it up, too, and is not stored", function(disk)
  local write = disk:write("4096s", "8s")
  expect(write.errno, "EIO")
  expect(disk:read("4096s", "8s").data, zeroes)
end)

test("only what the IO touched is forgotten", function(disk)
  expect(disk:read("4096s", "1s").errno, "EIO")
  expect(disk:read("4096s", "1s").errno, nil)
  expect(disk:read("4103s", "1s").errno, "EIO")
  expect(disk:read("4103s", "1s").errno, nil)
  expect(disk:read("4097s", "1s").errno, "EIO")
end)

--- mbps 100
test("100 MiB pass in a second, of reads and writes together", function(disk)
  local bytes, time = 0, 0
  -- The burst, a tenth of a second's worth, passes first.
  repeat
    time = disk:write(0, "512K").time
    bytes = bytes + 512 * KiB
  until time > 0
  expect(bytes, 10 * MiB + 512 * KiB)
  time = 0
  for turn = 1, 200 do
    local io = turn % 2 == 0 and disk:read(0, "512K") or disk:write(0, "512K")
    time = time + io.time
  end
  assert(time > 999 * ms and time < 1001 * ms, time)
end)

--- completion_nsec
test("an IO is complete after 10 us, and they overlap", function(disk)
  expect(disk:read(0, "4K").time, 10 * us)
  local first, second = disk:send("write", 0, "4K"), disk:send("read", "1M", "4K")
  disk:wait(10 * us - 1)
  expect(first.done or second.done, false)
  disk:wait(1)
  expect(first.done and second.done, true)
end)

--- after = { ops = 1000 }, every = 100, p = 0.5
test("after 1000 requests every hundredth times out by chance, three times", function(disk)
  local hit = {}
  for request = 1, 3000 do
    local io = disk:read(0, "4K")
    if io.errno then
      expect(io.errno, "ETIMEDOUT")
      expect(io.time, 30 * sec)
      hit[#hit + 1] = request
    end
  end
  expect(#hit, 3)
  for _, request in ipairs(hit) do
    assert(request > 1000 and request % 100 == 0, request)
  end
  -- By chance: these are not the first three that could have been hit.
  assert(hit[3] > 1300, hit[3])
end)

--- after = { ops = 1000 }, every = 100, p = 0.5 with p = 0.5 to p = 1
test("the first that could time out is the hundredth behind the thousand", function(disk)
  for request = 1, 1099 do expect(disk:read(0, "4K").errno, nil, request) end
  expect(disk:read(0, "4K").errno, "ETIMEDOUT")
  for request = 1101, 1199 do expect(disk:read(0, "4K").errno, nil, request) end
  expect(disk:read(0, "4K").errno, "ETIMEDOUT")
  for _ = 1201, 1299 do disk:read(0, "4K") end
  expect(disk:read(0, "4K").errno, "ETIMEDOUT")
  for request = 1301, 1500 do expect(disk:read(0, "4K").errno, nil, request) end
end)

--- block: badblocks_partial_io
test("a write that fails is stored up to the bad block", function(disk)
  local write = disk:write("2044s", "8s")
  expect(write.errno, "EIO")
  expect(disk:read("2044s", "8s").errno, "EIO")
  expect(disk:read("2044s", "4s").data, write.data:sub(1, 2048))
  disk:ctl("ranges", "badblocks", "clear")
  expect(disk:read("2048s", "4s").data, zeroes:sub(1, 2048))
end)

test("it ends in front of the first bad sector, wherever that is", function(disk)
  local write = disk:write("2045s", "8s")
  disk:ctl("ranges", "badblocks", "clear")
  expect(disk:read("2045s", "8s").data, write.data:sub(1, 3 * 512) .. zeroes:sub(3 * 512 + 1))
end)

test("of a write that begins at a bad block nothing is stored", function(disk)
  expect(disk:write("2048s", "8s").errno, "EIO")
  expect(disk:write("2147s", "8s").errno, "EIO")
  disk:ctl("ranges", "badblocks", "clear")
  expect(disk:read("2048s", "8s").data, zeroes)
  expect(disk:read("2147s", "8s").data, zeroes)
end)

test("writes next to bad blocks are whole", function(disk)
  local before, behind = disk:write("2040s", "8s"), disk:write("2148s", "8s")
  expect(before.errno or behind.errno, nil)
  expect(disk:read("2040s", "8s").data, before.data)
  expect(disk:read("2148s", "8s").data, behind.data)
  expect(disk:discard("2048s", "8s").errno, "EIO")
  expect(disk:write_zeroes("2048s", "8s").errno, "EIO")
end)

--- text: `memory_backed` is `backing = "memory"`
device { size = "1G" }

test("memory keeps the data", { backing = "memory" }, function(disk)
  local write = disk:write(0, "4K")
  expect(disk:read(0, "4K").data, write.data)
end)

test("null keeps nothing", { backing = "null" }, function(disk)
  local write = disk:write(0, "4K")
  expect(write.errno, nil)
  expect(disk:read(0, "4K").data == write.data, false)
end)
