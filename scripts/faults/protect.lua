-- protect.lua: a part of the disk that must not be written
--
-- What:       writes, discards and write_zeroes that touch a protected range are refused, or those of them that would
--             change its data. Each refusal is in the ledger and a line in the device's log.
-- Imitates:   a disk with write protection; nbdkit's protect and checkwrite filters. A trap for whoever writes where
--             nobody should.
-- Parameters: start=0           where the protected range begins, bytes
--             len=1M            how long it is, bytes, whole sectors; 0: to the end of the device
--             mode=check        check: what changes nothing is allowed, as nbdkit does; deny: nothing is
--             errno=EREMOTEIO   of what is refused
-- Example:    ublk-script add protect file=golden.img size=256M len=0
-- Simulate:   --ops 2000 size=16M
-- Live:       ublk-script ctl 0 ranges protected add 16M 4K   (remove, list, count, clear)
--             ublk-script ctl 0 refused                       how many IOs were refused
-- You see:    Remote I/O error (O_DIRECT) or an EIO of fsync; the kernel's log says critical target error. To repeat a
--             run against an image of its result finds the first write that differs.
-- Numbers:    EREMOTEIO is what Linux makes of a SCSI disk's DATA PROTECT.

local p = params { start = "0", len = "1M", mode = "check", errno = "EREMOTEIO" }
if p.mode ~= "check" and p.mode ~= "deny" then error("mode=" .. p.mode .. ": check or deny is expected", 0) end
-- No longer than what a handler can read.
device { size = "1G", max_io = "64K", discard = { max = "64K" }, write_zeroes = { max = "64K" } }

local protected = ranges("protected"):add(p.start, bytes(p.len) > 0 and p.len or "1024T")
local medium, zeroes, refused, refusals = backing(), ("\0"):rep(64 * KiB), fail(p.errno), counter("refused")

local function changes(offset, new, old)   -- something that is protected
  for at = 1, #old, 512 do
    if protected:has(offset + at - 1, 512) and new:sub(at, at + 511) ~= old:sub(at, at + 511) then return true end
  end
  return false
end

local function guard(io, offset, length)
  if not protected:has(offset, length) then return end
  if p.mode == "check" then
    local old = medium:read(offset, length)
    local new = io.op == "write" and io:data() or zeroes
    if old and not changes(offset, new, old) then return end
  end
  refusals:add()
  log(("%s of %d bytes at %d is refused: %s"):format(io.op, length, offset, p.errno))
  return refused
end

write, discard, write_zeroes = guard, guard, guard

function ctl(word)
  if word ~= "refused" then error("ctl knows: refused", 0) end
  return refusals:get()
end

test("what changes nothing is allowed", { start = "1M", len = "64K", mode = "check" }, function(disk)
  local data = ("protected"):rep(4096):sub(1, 4096)
  disk:ctl("ranges", "protected", "remove", "1M", "4K")
  disk:write("1M", data)
  disk:ctl("ranges", "protected", "add", "1M", "4K")
  expect(disk:write("1M", data).errno, nil)
  expect(disk:write("1M", data:upper()).errno, p.errno)
  expect(disk:write(1 * MiB + 2048, data:sub(2049, 4095) .. "?").errno, p.errno, "one byte is another")
  expect(disk:discard("1M", "4K").errno, p.errno)
  expect(disk:write_zeroes("1M", "64K").errno, p.errno)
  expect(disk:read("1M", "4K").data, data)
  expect(disk:write_zeroes(1 * MiB + 4096, "60K").errno, nil, "it is zero")
  expect(disk:discard(1 * MiB + 4096, "60K").errno, nil)
  expect(disk:ctl("refused"), "4")
end)

test("an IO across the border is refused for its protected part only", { start = "1M", len = "4K" }, function(disk)
  local zeroes = ("\0"):rep(4096)
  expect(disk:write(1 * MiB - 4096, ("x"):rep(4096) .. zeroes .. ("x"):rep(4096)).errno, nil)
  expect(disk:write(1 * MiB - 512, "1K").errno, p.errno)
  expect(disk:write(1 * MiB + 3584, "1K").errno, p.errno)
  expect(disk:write(1 * MiB - 512, "512").errno, nil)
  expect(disk:write(1 * MiB + 4096, "512").errno, nil)
  expect(disk:read("1M", "4K").data, zeroes)
end)

test("deny allows nothing at all", { start = "1M", len = 0, mode = "deny", errno = "EIO" }, function(disk)
  expect(disk:write("1M", ("\0"):rep(4096)).errno, "EIO")
  expect(disk:write(disk.size - 4096, "4K").errno, "EIO")
  expect(disk:discard("1M", "4K").errno, "EIO")
  expect(disk:write(0, "4K").errno, nil)
  expect(disk:read("1M", "4K").errno, nil)
  expect(disk:ctl("refused"), "3")
end)
