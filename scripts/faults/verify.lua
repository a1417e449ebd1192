-- verify.lua: an alarm when a read does not give what was written
--
-- What:       keeps a checksum of every block that is written, and compares it with what the backing gives at each
--             read. A difference is a line in the device's log, and an error if wanted.
-- Imitates:   a disk with end-to-end protection (T10 DIF, dm-integrity), whose checksums are kept elsewhere. Finds what
--             goes wrong below the device: a file that somebody else writes, a lost write, bits that rot.
-- Parameters: errno=EILSEQ   of a read whose data is wrong; none: only the alarm, and the wrong data
--             spoil=never    a time from which on a bit of each write is stored wrong, to see the alarm work
-- Example:    ublk-script add verify file=disk.img size=1G
-- Simulate:   --rate 100 --time 20s size=4M spoil=10s
-- Live:       ublk-script ctl 0 alarms          how many blocks were wrong so far
--             ublk-script ctl 0 state corrupt   from now on a bit of each write is stored wrong, to see the alarm work
-- You see:    Invalid or incomplete multibyte or wide character (which is EILSEQ), EIO through the page cache; the
--             kernel's log says protection error. What was not written since the device is there is not compared.
--             Blocks are 4096 bytes, so no IO is shorter; the checksums of 1 GiB take some 10 MiB of memory=. One
--             queue. A read that overtakes a write of the same block on its way is an alarm, too.
-- Numbers:    none.

local p = params { errno = "EILSEQ", spoil = "never" }
local block = 4096
-- IOs are no longer than what a handler can read.
local d = device { size = "1G", queues = 1, logical_block_size = block, max_io = "64K",
  discard = { max = "64M" }, write_zeroes = { max = "64M" } }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": a Lua table is one queue's", 0) end

local medium, wrong, alarms = backing(), p.errno ~= "none" and fail(p.errno), 0
local sums, words = {}, "<" .. ("i8"):rep(block // 8)   -- of each block that was written

-- Two blocks that differ in a single word never have the same.
local function sum(data, at)
  local list, x = { words:unpack(data, at + 1) }, 0
  for i = 1, block // 8 do
    x = (x ~ list[i]) * 0x9E3779B97F4A7C15
    x = x ~ x >> 32
  end
  return x
end
local zero = sum(("\0"):rep(block), 0)

local function keep(offset, length, of)
  for at = 0, length - block, block do sums[(offset + at) // block] = of and of(at) end
end

function write(io, offset, length)
  local data = io:data()
  keep(offset, length, function(at) return sum(data, at) end)
end
function write_zeroes(io, offset, length) keep(offset, length, function() return zero end) end
function discard(io, offset, length) keep(offset, length) end   -- no promise what it reads

function read(io, offset, length)
  local data = medium:read(offset, length)
  if not data then return end   -- the read will say why
  local bad = 0
  for at = 0, length - block, block do
    local expected = sums[(offset + at) // block]
    if expected and expected ~= sum(data, at) then
      bad = bad + 1
      log("the block at " .. offset + at .. " is not what was written there")
    end
  end
  alarms = alarms + bad
  if bad > 0 then return wrong or done(data) end   -- done, so that the ledger has it, too
end

-- To see the alarm work.
rule { name = "corrupt", op = "write", state = "corrupt", verdict = corrupt("flip") }
if p.spoil ~= "never" then rule { name = "spoil", op = "write", after = p.spoil, verdict = corrupt("flip") } end

function ctl(word)
  if word ~= "alarms" then error("ctl knows: alarms", 0) end
  return alarms
end

local function corrupted(disk)   -- one of two blocks, below the device
  disk:write(0, "8K")
  disk:ctl("state", "corrupt")
  local write = disk:write("4K", "4K")
  disk:ctl("state", "good")
  return write
end

test("what is corrupted below is found", { errno = "EILSEQ" }, function(disk)
  corrupted(disk)
  expect(disk:read(0, "4K").errno, nil)
  expect(disk:read("4K", "4K").errno, "EILSEQ")
  expect(disk:read(0, "8K").errno, "EILSEQ")
  expect(disk:ctl("alarms"), "2")
  disk:write("4K", "4K")
  expect(disk:read(0, "8K").errno, nil)
  expect(disk:ctl("alarms"), "2")
end)

test("only the alarm, and the wrong data", { errno = "none" }, function(disk)
  local write = corrupted(disk)
  local read = disk:read("4K", "4K")
  assert(read.errno == nil and read.data ~= write.data)
  expect(disk:ctl("alarms"), "1")
end)

test("no false alarm", { errno = "EIO" }, function(disk)
  expect(disk:read(0, "64K").errno, nil)          -- nobody knows what is there
  local write = disk:write(0, "64K")
  expect(disk:read(0, "64K").data, write.data)
  disk:write_zeroes(0, "8K")
  disk:discard("8K", "8K")
  expect(disk:read(0, "64K").errno, nil)
  expect(disk:ctl("alarms"), "0")
end)
