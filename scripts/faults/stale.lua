-- stale.lua: reads that give back what was there before the last write
--
-- What:       now and then a read returns the version of its block that the last write replaced.
-- Imitates:   a lost write that is noticed late, a mirror leg or a cache that is behind.
-- Parameters: p=0.001     of the reads
--             block=4K    a version is kept of each; the device's block size, 512 to 64K
-- Example:    ublk-script add stale p=0.01 size=256M
-- Live:       ublk-script ctl 0 stale 0.5      another p; without it: how many reads were stale
-- You see:    no error, and data that fits its own checksum, but is old: only what checks versions or parents notices.
-- Numbers:    0.02 to 0.6 % of disks in 17 months lost a write or more (Bairavasundaram et al., FAST 2008); p is ours.

local p = params { p = 0.001, block = "4K" }
local block = bytes(p.block)
local d = device { size = "256M", queues = 1, logical_block_size = block, max_io = 8 * block }

-- Two stores; of each block the newest version is in one of them and the one before it in the other.
local stores = { [0] = backing(), backing { size = d.size } }
local newest, rewritten, stale, chance = {}, {}, 0, p.p

-- To one leg of stores for each block.
local function each(offset, length, choose)
  local parts
  for at = 0, length - 1, block do
    local part = to(offset + at, stores[choose((offset + at) // block)], at, block)
    parts = parts and parts + part or part
  end
  return parts
end

function write(io, offset, length)
  return each(offset, length, function(b)
    rewritten[b] = newest[b] ~= nil
    newest[b] = 1 - (newest[b] or 1)
    return newest[b]
  end)
end

function read(io, offset, length)
  local is_stale = random() < chance
  return each(offset, length, function(b)
    if is_stale and rewritten[b] then
      stale = stale + 1
      return 1 - newest[b]
    end
    return newest[b] or 0
  end)
end

function ctl(word, share)
  if share then chance = tonumber(share) end
  return stale
end

test("the version before the last, of what was rewritten", { p = 1 }, function(disk)
  local first = disk:write(0, block)
  expect(disk:read(0, block).data, first.data)
  local second = disk:write(0, block)
  expect(disk:read(0, block).data, first.data)
  disk:ctl("stale", 0)
  expect(disk:read(0, block).data, second.data)
  expect(disk:ctl(""), "1")
end)
