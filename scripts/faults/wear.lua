-- wear.lua: flash that wears out where it is written most
--
-- What:       counts the writes of each block; one that has had its share cannot be written any more, and one that
--             is read too often, or not rewritten for too long, loses its data.
-- Imitates:   the end of the life of flash without wear levelling (an SD card, an eMMC), read disturb, and retention.
-- Parameters: block=256K       an erase block
--             writes=1000      so many writes to it before it fails, give or take
--             spread=0.2       a share by which blocks differ
--             reads=0          so many reads of it before its data is unreadable; 0: any number
--             retention=off    a time without a write after which it is unreadable; off: it keeps for ever
-- Example:    ublk-script add wear writes=50 block=64K size=256M
-- Simulate:   --rw randwrite --ops 10000 size=4M block=64K writes=50
-- Live:       ublk-script ctl 0 ranges worn list           (and lost: what cannot be read)
-- You see:    EIO for writes to the places that are written most: a filesystem's journal and its superblock first.
--             ENODATA for reads of a block that has lost its data, until it is rewritten.
-- Numbers:    1000 to 3000 cycles is usual for TLC, 10^5 to 10^6 reads for read disturb (Cai et al., Proc. IEEE 2017);
--             JEDEC's JESD218 asks for a year of retention without power of a worn client SSD. Here far less.

local p = params { block = "256K", writes = 1000, spread = 0.2, reads = 0, retention = "off" }
local d = device { size = "1G", queues = 1, discard = { max = "64M" }, write_zeroes = { max = "64M" } }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": a Lua table is one queue's", 0) end

local block, worn, lost = bytes(p.block), ranges("worn"), ranges("lost")
local written, life, reads, written_at = {}, {}, {}, {}   -- of each block; reads since it was written
local retention, unreadable = p.retention ~= "off" and time(p.retention), fail("ENODATA")

rule { op = { "write", "write_zeroes" }, range = worn, error = "EIO" }
rule { op = { "write", "write_zeroes", "discard" }, range = lost, heal = true }
rule { op = "read", range = lost, error = "ENODATA" }

local function renew(io, offset, length)
  for b = offset // block, (offset + length - 1) // block do reads[b], written_at[b] = 0, now() end
end
discard, write_zeroes = renew, renew

function write(io, offset, length)
  renew(io, offset, length)
  for b = offset // block, (offset + length - 1) // block do
    life[b] = life[b] or math.floor(p.writes * (1 + p.spread * (2 * random() - 1)))
    written[b] = (written[b] or 0) + 1
    if written[b] >= life[b] then worn:add(b * block, block) end
  end
end

local function is_too_old(b)
  return retention and written_at[b] and now() - written_at[b] >= retention
end

if p.reads > 0 or retention then
  function read(io, offset, length)
    local verdict
    for b = offset // block, (offset + length - 1) // block do
      reads[b] = (reads[b] or 0) + 1
      if is_too_old(b) then verdict = unreadable end
      if is_too_old(b) or reads[b] == p.reads then lost:add(b * block, block) end
    end
    return verdict
  end
end

test("a block is worn out, its neighbour is not", { writes = 3, spread = 0 }, function(disk)
  for _ = 1, 3 do expect(disk:write(0, "4K").errno, nil) end
  expect(disk:write(0, "4K").errno, "EIO")
  expect(disk:write(block, "4K").errno, nil)
  expect(disk:read(0, "4K").errno, nil)
end)

test("reads disturb until it is rewritten", { reads = 2, writes = 1000 }, function(disk)
  for _ = 1, 2 do
    for _ = 1, 2 do expect(disk:read(0, "4K").errno, nil) end
    expect(disk:read(0, "4K").errno, "ENODATA")
    expect(disk:write(0, block).errno, nil)
  end
  expect(disk:read(0, "4K").errno, nil)
  expect(disk:read(block, "4K").errno, nil, "its neighbour")
end)

test("what is not rewritten in time is lost", { retention = "720h", block = "64K" }, function(disk)
  expect(disk:write(0, "192K").errno, nil)
  disk:wait("719h")
  expect(disk:write("64K", "4K").errno, nil)
  expect(disk:read(0, "192K").errno, nil)
  disk:wait("1h")
  expect(disk:read("64K", "64K").errno, nil)
  expect(disk:read("192K", "64K").errno, nil, "never written")
  for _ = 1, 2 do expect(disk:read("60K", "8K").errno, "ENODATA") end
  expect(disk:ctl("ranges", "lost", "list"):match("%d+"), "0")
  expect(disk:write(0, "4K").errno, nil)
  expect(disk:read(0, "4K").errno, nil)
  expect(disk:read("4K", "4K").errno, "ENODATA", "what was not rewritten")
  expect(disk:discard("128K", "64K").errno, nil)
  expect(disk:read("128K", "64K").errno, nil)
end)

test("without a limit nothing is lost", { retention = "off", reads = 0 }, function(disk)
  disk:write(0, "4K")
  disk:wait("87600h")
  for _ = 1, 100 do expect(disk:read(0, "4K").errno, nil) end
end)
