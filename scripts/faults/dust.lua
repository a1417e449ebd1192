-- dust.lua: a disk with a bad place that rewriting heals
--
-- What:       reads of the bad place fail; a write, discard or write_zeroes over it heals what it covers.
-- Imitates:   an unreadable sector that the disk remaps when it is written; dm-dust.
-- Parameters: start=8M        where the bad place begins, bytes
--             len=4K          how long it is, bytes
--             errno=ENODATA   of the reads: a medium error (dm-dust has EIO)
--             write_fails=0   the first so many writes to each bad block fail with EIO, the next one heals it
--             block=512       how long such a block is, bytes
-- Example:    ublk-script add dust start=8M len=4K write_fails=1 size=1G
-- Simulate:   --ops 2000 size=16M len=1M
-- Live:       ublk-script ctl 0 ranges bad add 16M 4K     (remove, list, count, clear)
--             ublk-script ctl 0 addbadblock 32768 2       block 32768 is bad, and 2 writes to it fail (0 without it)
--             ublk-script ctl 0 rule off bad              reads work meanwhile (on: no longer)
-- You see:    No data available with O_DIRECT, EIO through the page cache; the kernel's log says critical medium
--             error. After a rewrite the place is good.
-- Numbers:    4K is the sector that a disk of today remaps at a time.

local p = params { start = "8M", len = "4K", errno = "ENODATA", write_fails = 0, block = "512" }
device { size = "1G" }

local block, bad = bytes(p.block), ranges("bad"):add(p.start, p.len)
local left = dict("write-fails-left")   -- of a block: nil when it has not been written since it is bad
local refused = fail("EIO")
if block < 512 then error("block=" .. p.block .. ": 512 or more is expected", 0) end

rule { name = "bad", op = "read", range = bad, error = p.errno }
rule { name = "heal", op = { "write", "discard", "write_zeroes" }, range = bad, heal = true }

function write(io, offset, length)
  if not bad:has(offset, length) then return end
  local first, last, fails = offset // block, (offset + length - 1) // block, false
  for b = first, last do
    local still = bad:has(b * block, block) and (left:get(b) or p.write_fails) or 0
    if still > 0 then
      left:set(b, still - 1)
      fails = true
    end
  end
  if fails then return refused end
  for b = first, last do left:set(b, nil) end   -- healed by a write: if it goes bad again it counts anew
end

function ctl(word, number, fails)
  if word ~= "addbadblock" then error("ctl knows: addbadblock BLOCK [WRITE_FAILS]", 0) end
  local b = math.tointeger(tonumber(number)) or error("addbadblock: the number of a block is expected", 0)
  bad:add(b * block, block)
  left:set(b, math.tointeger(tonumber(fails or 0)))
  return "bad ranges: " .. #bad
end

test("the bad place fails to read until it is rewritten", { write_fails = 1 }, function(disk)
  expect(disk:read(p.start, p.len).errno, p.errno)
  expect(disk:write(p.start, p.len).errno, "EIO")
  local write = disk:write(p.start, p.len)
  expect(write.errno, nil)
  expect(disk:read(p.start, p.len).data, write.data)
end)

test("without write_fails the first write heals what it covers", { write_fails = 0, len = "4K" }, function(disk)
  expect(disk:write(p.start, 512).errno, nil)
  expect(disk:read(p.start, 512).errno, nil)
  expect(disk:read(p.start, p.len).errno, p.errno)
  disk:discard(p.start, p.len)
  expect(disk:read(p.start, p.len).errno, nil)
end)

test("each block counts for itself", { write_fails = 2, start = "8M", len = "8K", block = "4K" }, function(disk)
  local function write(offset, length) return disk:write(offset, length).errno end
  for _ = 1, 2 do expect(write("8M", "4K"), "EIO") end
  for _ = 1, 2 do expect(write("8M", "8K"), "EIO") end   -- for the second block
  expect(write("8M", "8K"), nil)
  expect(disk:read("8M", "8K").errno, nil)
end)

test("a block that is added has writes of its own that fail", { write_fails = 1, block = "512" }, function(disk)
  for _ = 1, 2 do                                        -- bad again: it counts anew
    expect(disk:ctl("addbadblock", 8, 3), "bad ranges: 2")
    expect(disk:read("4K", 512).errno, p.errno)
    for _ = 1, 3 do expect(disk:write("4K", "1K").errno, "EIO") end
    expect(disk:write("4K", "1K").errno, nil)
  end
  disk:ctl("addbadblock", 8)
  expect(disk:write("4K", 512).errno, nil)
  disk:ctl("ranges", "bad", "add", "4K", 512)
  expect(disk:write("4K", 512).errno, "EIO", "what the parameter says")
  expect(disk:write("4K", 512).errno, nil)
end)
