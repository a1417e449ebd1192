-- hang-timeout.lua: a disk that stops answering, so that commands time out
--
-- What:       after some IOs the disk does not answer the next ones; each gets its errno after the hang, or never.
-- Imitates:   firmware that is stuck until the host's timeout.
-- Parameters: after=1000        so many IOs are answered first
--             times=32          so many are not; 0: none ever again
--             hang=30s          how long each is held; 0s: until released
--             errno=ETIMEDOUT   what it gets then; none: it is done after all
-- Example:    ublk-script add hang-timeout after=100 hang=30s size=1G
-- Simulate:   --rate 100 --time 1min
-- Live:       ublk-script ctl 0 release        let go of everything that is held, now
-- You see:    processes in state D that cannot be killed, "blocked for more than 120 seconds" in the kernel's log
--             if it takes so long, then Connection timed out (O_DIRECT) or EIO.
-- Numbers:    30 s is the time limit of the kernel's SCSI and NVMe commands.

local p = params { after = 1000, times = 32, hang = "30s", errno = "ETIMEDOUT" }
device { size = "1G" }

rule {
  skip = p.after > 0 and p.after or nil,
  times = p.times > 0 and p.times or nil,
  hang = time(p.hang) == 0 or p.hang,
  error = p.errno ~= "none" and p.errno or nil,
}

test("so many IOs hang, and fail in the end", { after = 1, times = 1, hang = "30s" }, function(disk)
  expect(disk:read(0, "4K").time, 0)
  local hung = disk:send("read", 0, "4K")
  disk:wait("29s")
  expect(hung.done, false)
  disk:wait(hung)
  expect(hung.time, 30 * sec)
  expect(hung.errno, "ETIMEDOUT")
  expect(disk:read(0, "4K").time, 0)
end)
