-- flakey.lua: a disk that fails for some seconds, again and again
--
-- What:       works for the time up, then every IO fails for the time down, and so on.
-- Imitates:   a loose cable, a path that flaps, a controller that resets; dm-flakey.
-- Parameters: up=10s        how long it works
--             down=2s       how long it does not
--             fault=error   what happens then: error, drop (writes are acknowledged and lost, as
--                           dm-flakey's drop_writes) or corrupt (one bit of each read and write)
--             op=any        of error: read, write, flush, discard, write_zeroes, or any
--             errno=EIO     of error
-- Example:    ublk-script add flakey up=10s down=2s size=1G
-- Simulate:   --rate 100 --time 30s
-- You see:    error: EIO for two seconds of every twelve; ext4 remounts read-only at the first failed
--             write of its journal. drop: no error at all, and data that is gone later.
-- Numbers:    up and down are those of the example in the kernel's dm-flakey.rst, rounded.

local p = params { up = "10s", down = "2s", fault = "error", op = "any", errno = "EIO" }
device { size = "1G" }

local down = { from = p.up, period = time(p.up) + time(p.down) }
if p.fault == "error" then
  rule { op = p.op ~= "any" and p.op or nil, window = down, error = p.errno }
elseif p.fault == "drop" then
  rule { op = { "write", "flush", "discard", "write_zeroes" }, window = down, drop = true }
elseif p.fault == "corrupt" then
  rule { op = { "read", "write" }, window = down, verdict = corrupt("flip") }
else
  error("fault=" .. p.fault .. ": error, drop or corrupt is expected", 0)
end

test("it works, then fails, and so on", { up = "10s", down = "2s", fault = "error", op = "any" }, function(disk)
  expect(disk:read(0, "4K").errno, nil)
  disk:wait("10s")
  expect(disk:read(0, "4K").errno, p.errno)
  disk:wait("2s")
  expect(disk:read(0, "4K").errno, nil)
end)

test("what is written while it drops is lost", { up = "10s", down = "2s", fault = "drop" }, function(disk)
  local old = disk:write(0, "4K")
  disk:wait("11s")
  expect(disk:write(0, "4K").errno, nil)
  expect(disk:read(0, "4K").data, old.data)
end)
