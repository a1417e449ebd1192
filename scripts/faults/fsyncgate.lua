-- fsyncgate.lua: one write fails, and the next fsync says that all is well
--
-- What:       exactly one IO fails: the nth write, or the nth flush. Everything after it succeeds.
-- Imitates:   a transient error of writeback: the kernel reports it once and marks the pages clean.
-- Parameters: op=write    write or flush
--             nth=100     which one, counted from the start
--             errno=EIO   what it gets
-- Example:    ublk-script add fsyncgate nth=1000 size=1G
-- Simulate:   --ops 1000
-- Live:       ublk-script ctl 0 stats          whether it has happened
-- You see:    fsync fails once with EIO. Called again it succeeds, though the data is not on the disk: a program
--             that retries has lost it.
-- Numbers:    none: one is enough. Rebello et al., USENIX ATC 2020, show what ext4, XFS and Btrfs make of it; the
--             name is PostgreSQL's of 2018.

local p = params { op = "write", nth = 100, errno = "EIO" }
device { size = "1G", cache = "volatile" }

rule { name = "once", op = p.op, nth = p.nth, error = p.errno }

test("one flush fails, and the next one says that all is well", { op = "flush", nth = 2 }, function(disk)
  expect(disk:flush().errno, nil)
  expect(disk:flush().errno, p.errno)
  expect(disk:flush().errno, nil)
end)
