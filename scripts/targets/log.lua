-- log.lua: a log-structured map, every write goes to the end
--
-- What:       a write is stored at the head of a log, wherever it belongs, and a table maps its blocks there. What is
--             overwritten or discarded stays behind as garbage; there is no cleaner, so the log is full one day.
-- Imitates:   the flash translation layer of an SSD, a shingled disk, a log-structured filesystem.
-- Parameters: log=2G   how much can be written before it is full, bytes
-- Example:    ublk-script add log log=256M size=128M
-- Live:       ublk-script ctl 0 status    the head of the log, and how much before it is garbage
-- You see:    random writes that become sequential ones. No space left on device when the log is full, for all
--             writes. Blocks are 4096 bytes, so no IO is shorter, and none is longer than 32 KiB: a read may find each
--             of its blocks elsewhere, and a verdict has 8 segments. The map is lost with the device. One queue.
-- Numbers:    none.

local p = params { log = "2G" }
local block = 4096
local d = device { size = "1G", queues = 1, logical_block_size = block, max_io = 8 * block,
  discard = { max = "64M" }, write_zeroes = { max = "64M" } }   -- a loop over 16384 blocks is soon over
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": a map in a Lua table is one queue's", 0) end

-- In memory a write is done before the next IO is looked at, so that the table never points at what is still to come.
local medium = backing { size = bytes(p.log) }
local map, head, live, most = {}, 0, 0, bytes(p.log) // block   -- block to slot; all in blocks

local function put(number, slot)   -- nil: the block is zero
  if map[number] then live = live - 1 end   -- what it was is garbage
  if slot then live = live + 1 end
  map[number] = slot
end

function write(io, offset, length)
  local first, count = head, length // block
  if head + count > most then return fail("ENOSPC") end
  for i = 0, count - 1 do put(offset // block + i, first + i) end
  head = head + count
  return to(first * block, medium)
end

function read(io, offset, length)
  local verdict
  for at = 0, length - block, block do
    local slot = map[(offset + at) // block]
    if slot then
      local segment = to(slot * block, medium, at, block)
      verdict = verdict and verdict + segment or segment
    end
  end
  return verdict or zero()   -- blocks without a slot are zero
end

local function clear(io, offset, length)
  for number = offset // block, (offset + length) // block - 1 do put(number, nil) end
  return done()
end
discard, write_zeroes = clear, clear

function ctl(word)
  if word == "status" then
    return ("log: %d of %d blocks written, %d live, %d garbage"):format(head, most, live, head - live)
  end
end

test("a log is full one day, and what was written last is read", { log = "64K", size = "64K" }, function(disk)
  disk:write(0, "4K")
  local last = disk:write(0, "4K")
  expect(disk:ctl("status"), "log: 2 of 16 blocks written, 1 live, 1 garbage")
  expect(disk:write("8K", "32K").errno, nil)
  expect(disk:write("8K", "32K").errno, "ENOSPC")
  expect(disk:read(0, "4K").data, last.data)
  expect(disk:read("60K", "4K").data, ("\0"):rep(4096))
end)
