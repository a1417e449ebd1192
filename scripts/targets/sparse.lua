-- sparse.lua: a huge disk that keeps only what is written, in a Lua table
--
-- What:       every block that was written and is not zero is a string in a table; all others read zero. There is no
--             backing at all.
-- Imitates:   a sparse file; a RAM disk that is larger than the machine.
-- Parameters: room=32M   bytes of blocks that it keeps; more is ENOSPC. Above 50M the script needs more memory
--                        than it has by itself: room=800M memory=1G
-- Example:    ublk-script add sparse room=16M size=1024T
-- Live:       ublk-script ctl 0 status    how many blocks it keeps
-- You see:    a device of 1 PiB. No space left on device when the table is full; zeroes written and discards make
--             room. Blocks are 4096 bytes, so no IO is shorter. The data is gone with the device. One queue.
-- Numbers:    none.

local p = params { room = "32M" }
local d = device { size = "1024T", backing = "null", queues = 1, logical_block_size = 4096 }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": a Lua table is one queue's", 0) end

local block = 4096
local zeroes = ("\0"):rep(block)
local blocks, kept, most = {}, 0, bytes(p.room) // block

local function put(number, data)   -- nil: zero
  if blocks[number] then kept = kept - 1 end
  if data then kept = kept + 1 end
  blocks[number] = data
end

function write(io, offset, length)
  for at = 0, length - block, block do
    local number, data = (offset + at) // block, io:data(at, block)
    if data == zeroes then data = nil end
    if data and not blocks[number] and kept == most then return fail("ENOSPC") end
    put(number, data)
  end
  return done()
end

function read(io, offset, length)
  local parts = {}
  for at = 0, length - block, block do parts[#parts + 1] = blocks[(offset + at) // block] or zeroes end
  return done(table.concat(parts))
end

local function clear(io, offset, length)
  local from, to_end = offset // block, (offset + length) // block
  if to_end - from <= kept then
    for number = from, to_end - 1 do put(number, nil) end
  else                             -- a large one: look at what there is instead
    for number in pairs(blocks) do
      if number >= from and number < to_end then put(number, nil) end
    end
  end
  return done()
end
discard, write_zeroes = clear, clear

function ctl(word)
  if word == "status" then return kept .. " of " .. most .. " blocks of " .. block .. " bytes are kept" end
end

test("blocks of zeroes take no room", { room = "8K" }, function(disk)
  local block = disk:write("512T", "4K")
  disk:write(0, "4K")
  expect(disk:write("4K", "4K").errno, "ENOSPC")
  expect(disk:write("4K", ("\0"):rep(4096)).errno, nil)
  disk:discard(0, "4K")
  expect(disk:write("4K", "4K").errno, nil)
  expect(disk:read("512T", "4K").data, block.data)
  expect(disk:ctl("status"), "2 of 2 blocks of 4096 bytes are kept")
end)
