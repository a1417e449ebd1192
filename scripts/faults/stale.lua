-- stale.lua: reads that give back what was there before the last write
--
-- What:       now and then a read returns a version of its block that later writes have replaced.
-- Imitates:   a lost write that is noticed late, a mirror leg or a cache that is behind.
-- Parameters: p=0.001     of the reads
--             versions=1  how many back: 1 is what the last write replaced, 15 at most; of a block with fewer the
--                         oldest
--             block=4K    a version is kept of each; the device's block size, 512 to 4K
-- Example:    ublk-script add stale p=0.01 versions=3 size=256M
-- Simulate:   --ops 5000 --allow data size=4M p=0.01
-- Live:       ublk-script ctl 0 stale 0.5      another p; without it: how many blocks were read stale
-- You see:    no error, and data that fits its own checksum, but is old: only what checks versions or parents notices.
--             Versions are kept in memory: versions + 1 times what was written.
-- Numbers:    0.02 to 0.6 % of disks in 17 months lost a write or more (Bairavasundaram et al., FAST 2008); p is ours.

local p = params { p = 0.001, versions = 1, block = "4K" }
local block, longest = bytes(p.block), 8 * bytes(p.block)   -- a verdict has 8 places
if p.versions < 1 or p.versions > 15 or p.versions % 1 > 0 then
  error("versions=" .. p.versions .. ": 1 to 15 is expected", 0)
end
local d = device { size = "256M", queues = 1, logical_block_size = block, max_io = longest,
  discard = { granularity = block, max = longest }, write_zeroes = { max = longest } }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": a Lua table is one queue's", 0) end

-- The versions of a block go around over the stores.
local stores = { [0] = backing() }
for i = 1, p.versions do stores[i] = backing { size = d.size } end
local writes, stale, chance = {}, 0, p.p   -- of each block

-- To one of the stores for each block: that of its version of so many writes.
local function each(offset, length, version)
  local parts
  for at = 0, length - 1, block do
    local store = stores[(version((offset + at) // block) - 1) % (p.versions + 1)]
    local part = to(offset + at, store, at, block)
    parts = parts and parts + part or part
  end
  return parts
end

function write(io, offset, length)
  return each(offset, length, function(b)
    writes[b] = (writes[b] or 0) + 1
    return writes[b]
  end)
end
discard, write_zeroes = write, write   -- these zeroes are a version, too

function read(io, offset, length)
  local is_stale = random() < chance
  return each(offset, length, function(b)
    local newest = writes[b] or 1
    if not is_stale or newest == 1 then return newest end
    stale = stale + 1
    return math.max(1, newest - p.versions)
  end)
end

function ctl(word, share)
  if word ~= "stale" then error("ctl knows: stale [P]", 0) end
  if share then chance = tonumber(share) or error("stale " .. share .. ": a number is expected", 0) end
  return stale
end

test("the version before the last, of what was rewritten", { p = 1, versions = 1 }, function(disk)
  local first = disk:write(0, block)
  expect(disk:read(0, block).data, first.data)
  local second = disk:write(0, block)
  expect(disk:read(0, block).data, first.data)
  disk:ctl("stale", 0)
  expect(disk:read(0, block).data, second.data)
  expect(disk:ctl("stale"), "1")
end)

for back in pairs { [2] = true, [15] = true } do
  test(back .. " versions back, or the oldest there is", { p = 1, versions = back }, function(disk)
    local versions = {}
    for i = 1, 2 * back + 3 do
      versions[i] = disk:write(block, block).data
      expect(disk:read(block, block).data, versions[math.max(1, i - back)])
      expect(disk:read(0, block).data, ("\0"):rep(block))
    end
    disk:ctl("stale", 0)
    expect(disk:read(block, block).data, versions[#versions])
  end)
end

test("zeroes are a version", { p = 1, versions = 1 }, function(disk)
  local first = disk:write(0, 2 * block)
  disk:write_zeroes(0, block)
  disk:discard(block, block)
  expect(disk:read(0, 2 * block).data, first.data)
  disk:ctl("stale", 0)
  expect(disk:read(0, 2 * block).data, ("\0"):rep(2 * block))
end)
