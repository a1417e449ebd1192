-- pattern.lua: an endless disk whose content is known from the offset
--
-- What:       reads give a pattern that nobody stored; writes must bring the same, or they fail. Nothing is kept.
-- Imitates:   nbdkit's pattern and random plugins.
-- Parameters: kind=offset   offset: each 8 bytes are their own offset, big-endian; random: as random as the seed says
--             errno=EIO     of writes of something else
-- Example:    ublk-script add pattern kind=random seed=7 size=1T
-- You see:    what moves data (a copy, RAID, a network) can be checked at any place, of a disk as large as you like,
--             without the memory for it. Blocks are 4096 bytes. One queue.
-- Numbers:    none.

local p = params { kind = "offset", errno = "EIO" }
local d = device { size = "1T", queues = 1, backing = "null", logical_block_size = 4096, max_io = "64K",
  discard = false, write_zeroes = false }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": each has random numbers of its own", 0) end
local block = 4096
local words, key, other = ">" .. ("I8"):rep(block // 8), random(math.mininteger, math.maxinteger), fail(p.errno)

local kinds = {}
function kinds.offset(at)
  local list = {}
  for i = 1, block // 8 do list[i] = at + 8 * (i - 1) end
  return words:pack(table.unpack(list))
end
function kinds.random(at)
  local list, x = {}, key ~ at * 0x9E3779B97F4A7C15
  for i = 1, block // 8 do
    x = x * 6364136223846793005 + 1442695040888963407
    list[i] = x ~ x >> 32
  end
  return words:pack(table.unpack(list))
end
local pattern = kinds[p.kind] or error("kind=" .. p.kind .. ": offset or random is expected", 0)

local function content(offset, length)
  local blocks = {}
  for at = 0, length - block, block do blocks[#blocks + 1] = pattern(offset + at) end
  return table.concat(blocks)
end

function read(io, offset, length) return done(content(offset, length)) end
function write(io, offset, length)
  return io:data() == content(offset, length) and done() or other
end

test("each word is its own offset", { kind = "offset", size = "1T" }, function(disk)
  local data = disk:read("512G", "64K").data
  for at = 0, #data - 8, 8 do expect((">I8"):unpack(data, at + 1), 512 * GiB + at) end
end)

test("random is the same at every read and nowhere else", { kind = "random", seed = 7 }, function(disk)
  local a, b = disk:read(0, "4K").data, disk:read("4K", "4K").data
  expect(disk:read(0, "8K").data, a .. b)
  assert(a ~= b)
  expect((">i8"):unpack(a), -811042292702288092, "what the seed says")
end)

test("a write of the same is allowed, of something else not", { kind = "offset", errno = "EIO" }, function(disk)
  local data = disk:read("1M", "8K").data
  expect(disk:write("1M", data).errno, nil)
  expect(disk:write("1M", data:sub(1, 8191) .. "x").errno, "EIO")
  expect(disk:write("2M", data).errno, "EIO")
end)
