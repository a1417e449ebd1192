-- stripe.lua: RAID 0, chunks that go around over several legs
--
-- What:       the device is cut into chunks; the first is on leg 1, the next on leg 2, and so on around. An IO over
--             several chunks is done in segments.
-- Imitates:   md's RAID 0, dm-stripe.
-- Parameters: legs=2      how many, 1 to 15
--             chunk=64K   bytes in a row on a leg, whole pages up to 4M
--             path=       legs are the files PATH1, PATH2 ... (made when missing); in memory without it
-- Example:    ublk-script add stripe legs=4 chunk=16K size=1G
-- You see:    a device of the size of all legs together. IOs longer than 7 chunks come in several, because a verdict
--             has 8 segments and an IO may begin inside of a chunk. The partition scan at the start sees no file yet.
-- Numbers:    64K is the default chunk of LVM's striped volumes.

local p = params { legs = 2, chunk = "64K", path = "" }
local chunk = bytes(p.chunk)
local longest = 7 * chunk   -- touches 8 chunks at most, wherever it begins
local d = device { size = "1G", max_io = longest, discard = { max = longest }, write_zeroes = { max = longest } }

local stripe = p.legs * chunk                                -- a row of chunks, one on each leg
local stripes = (bytes(d.size) + stripe - 1) // stripe       -- the last one may be in use partly
local legs = {}
for i = 1, p.legs do
  legs[i] = backing { size = stripes * chunk, file = p.path ~= "" and p.path .. i or nil }
end

local function split(io, offset, length)
  local verdict, at = nil, 0
  while at < length do
    local number, inside = (offset + at) // chunk, (offset + at) % chunk
    local count = math.min(chunk - inside, length - at)      -- to the end of the chunk, or of the IO
    local segment = to(number // p.legs * chunk + inside, legs[number % p.legs + 1], at, count)
    verdict = verdict and verdict + segment or segment
    at = at + count
  end
  return verdict
end

read, write, discard, write_zeroes = split, split, split, split

test("an IO over several chunks is whole", { legs = 3, chunk = "4K", size = "1M" }, function(disk)
  local write = disk:write("2K", "24K")
  expect(write.errno, nil)
  expect(disk:read("2K", "24K").data, write.data)
  expect(disk:read("8K", "4K").data, write.data:sub(6145, 10240))
end)
