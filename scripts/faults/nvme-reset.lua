-- nvme-reset.lua: an NVMe controller that stops, is reset, and comes back or not
--
-- What:       at some moment everything waits until the reset is over; then it goes on, fails, or the disk is gone.
-- Imitates:   a controller reset: abort after 31 s, reset after 62 s; or a path that reconnects.
-- Parameters: at=60s        when it stops
--             reset=62s     how long until the reset is over
--             errno=none    what the waiting IOs get then: none (they are done), ENOLINK, EIO ...
--             gone=false    true: from then on every IO gets ENODEV
-- Example:    ublk-script add nvme-reset at=30s reset=10s errno=ENOLINK size=1G
-- Simulate:   --rate 20 --time 3min
-- You see:    a minute of silence and nothing else; or errors, and a filesystem that shuts down.
-- Numbers:    31 s to the abort and 62 s to the reset are from a kernel's log with the default io_timeout of 30 s
--             (ahmedalsawi.github.io, 2025).

local p = params { at = "60s", reset = "62s", errno = "none", gone = false }
device { size = "1G" }

rule { after = p.at, times = 1, stall = p.reset, error = p.errno ~= "none" and p.errno or nil }
if p.gone then rule { after = time(p.at) + time(p.reset), error = "ENODEV" } end

test("IOs wait for the end of the reset", { at = "60s", reset = "62s", errno = "none", gone = false }, function(disk)
  disk:wait("60s")
  local first = disk:send("read", 0, "4K")
  disk:wait("60s")
  expect(disk:read(0, "4K").time, 2 * sec)
  expect(first.time, 62 * sec)
  expect(first.errno, nil)
end)

test("a disk that is gone stays away", { at = "60s", reset = "62s", gone = true }, function(disk)
  disk:wait("130s")
  disk:read(0, "4K")
  expect(disk:read(0, "4K").errno, "ENODEV")
end)
