-- faulty.lua: a disk with bad spots that you make and that rewriting heals
--
-- What:       reads that touch a bad range fail with a medium error; a write over the range succeeds and heals it,
--             as a real disk remaps a bad sector. The example of a handler, with a record of its own.
-- Imitates:   a latent sector error: found when it is read, gone once it is rewritten.
-- Parameters: start=8M   where a bad range is from the start, bytes
--             len=0      how long it is, bytes; 0: there is none
-- Example:    ublk-script add faulty size=1G
-- Simulate:   --ops 2000 size=16M len=1M
-- Live:       ublk-script ctl 0 addbad 8M 4K    a bad range at 8 MiB, 4 KiB long
--             ublk-script ctl 0 bad             the bad ranges that are left
--             ublk-script ctl 0 record          what this script has done so far
-- You see:    dd: error reading '/dev/ublkb0': No data available
--             kernel: critical medium error, dev ublkb0, sector ...
-- Numbers:    none: yours.

local p = params { start = "8M", len = "0" }
device { size = "1G" }

local bad = ranges("bad")
if bytes(p.len) > 0 then bad:add(p.start, p.len) end
local medium_error = fail("ENODATA")
local record = {}

function read(io, offset, length)
  if bad:has(offset, length) then
    record[#record + 1] = ("read of %d bytes at %d failed: ENODATA"):format(length, offset)
    return medium_error
  end
end

function write(io, offset, length)
  if bad:has(offset, length) then
    bad:remove(offset, length)
    record[#record + 1] = ("write of %d bytes at %d healed what it covered"):format(length, offset)
  end
end

function ctl(command, ...)
  if command == "addbad" then
    bad:add(...)
    return "bad ranges: " .. #bad
  elseif command == "bad" then
    local lines = {}
    for _, range in ipairs(bad:list()) do
      lines[#lines + 1] = ("%d bytes at %d"):format(range[2], range[1])
    end
    return #lines > 0 and table.concat(lines, "\n") or "none"
  elseif command == "record" then
    return #record > 0 and table.concat(record, "\n") or "nothing yet"
  end
  error("ctl knows: addbad OFFSET LENGTH, bad, record", 0)
end

test("a bad range is found, healed, and on record", function(disk)
  expect(disk:ctl("addbad", "8M", "4K"), "bad ranges: 1")
  expect(disk:read("8M", "4K").errno, "ENODATA")
  expect(disk:write("8M", "4K").errno, nil)
  expect(disk:read("8M", "4K").errno, nil)
  expect(disk:ctl("bad"), "none")
end)
