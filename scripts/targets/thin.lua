-- thin.lua: a thin volume, larger than the pool that its chunks come from
--
-- What:       a chunk gets its slot in the pool at the first write to it. Discards of whole chunks give slots back;
--             what has no slot reads zero. When the pool is full, writes to new chunks fail
--             (in thin-queue they wait).
-- Imitates:   dm-thin, a thinly provisioned LUN.
-- Parameters: pool=256M   bytes there really are
--             chunk=64K   bytes that are allocated at a time, a power of two, 4K to 4M
-- Example:    ublk-script add thin pool=64M size=1G
-- Live:       ublk-script ctl 0 status    how much of the pool is in use
-- You see:    No space left on device with df far from full. fstrim gives slots back. IOs longer than 7 chunks come
--             in several, because a verdict has 8 segments. The map is lost with the device. One queue.
-- Numbers:    64K is dm-thin's smallest chunk.

local p = params { pool = "256M", chunk = "64K" }
local chunk, longest = bytes(p.chunk), 7 * bytes(p.chunk)   -- touches 8 chunks at most, wherever it begins
local d = device { size = "1G", queues = 1, max_io = longest,
  discard = { granularity = chunk, max = longest }, write_zeroes = { max = longest } }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": a map in a Lua table is one queue's", 0) end

-- In memory an IO is done before the next one is looked at, and what was discarded is zero.
local pool, chunks = backing { size = bytes(p.pool) }, bytes(p.pool) // chunk
local map, free, used, fresh = {}, {}, 0, 0   -- chunk to slot; slots given back; how many; never used from here on

local function allocate(first, last)   -- slots for a whole write, or none
  local new = 0
  for number = first, last do new = new + (map[number] and 0 or 1) end
  if used + new > chunks then return false end
  for number = first, last do
    if not map[number] then
      map[number], used = table.remove(free) or fresh, used + 1
      if map[number] == fresh then fresh = fresh + 1 end
    end
  end
  return true
end

local function split(io, offset, length)
  local last = (offset + length - 1) // chunk
  if io.op == "write" and not allocate(offset // chunk, last) then return fail("ENOSPC") end
  local verdict, at = nil, 0
  while at < length do
    local number, inside = (offset + at) // chunk, (offset + at) % chunk
    local count = math.min(chunk - inside, length - at)
    local slot = map[number]
    if slot and (io.op ~= "discard" or count == chunk) then
      local segment = to(slot * chunk + inside, pool, at, count)
      verdict = verdict and verdict + segment or segment
      if io.op == "discard" then map[number], used, free[#free + 1] = nil, used - 1, slot end
    end
    at = at + count
  end
  -- None of its chunks is allocated: zero to read, nothing to clear.
  return verdict or io.op == "read" and zero() or done()
end

read, write, discard, write_zeroes = split, split, split, split

function ctl(word)
  if word == "status" then return used .. " of " .. chunks .. " chunks of " .. chunk .. " bytes are in use" end
end

test("a full pool fails new chunks, a discard makes room", { pool = "128K", chunk = "64K", size = "1M" }, function(disk)
  disk:write(0, "4K")
  local write = disk:write("256K", "4K")
  expect(disk:write("512K", "4K").errno, "ENOSPC")
  expect(disk:write("4K", "4K").errno, nil)
  disk:discard(0, "64K")
  expect(disk:write("512K", "4K").errno, nil)
  expect(disk:read(0, "4K").data, ("\0"):rep(4096))
  expect(disk:read("256K", "4K").data, write.data)
  expect(disk:ctl("status"), "2 of 2 chunks of 65536 bytes are in use")
end)

test("a write for which there is no room takes none", { pool = "128K", chunk = "64K", size = "1M" }, function(disk)
  disk:write(0, "4K")
  expect(disk:write("64K", "128K").errno, "ENOSPC")
  expect(disk:ctl("status"), "1 of 2 chunks of 65536 bytes are in use")
  expect(disk:write("64K", "64K").errno, nil)
end)
