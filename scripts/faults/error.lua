-- error.lua: a disk whose IOs fail
--
-- What:       IOs of one kind, or all, fail: everywhere or in one place, always or by chance.
-- Imitates:   a dead disk, a bad area, a device that refuses an operation; dm-error, fail_make_request.
-- Parameters: op=any      read, write, flush, discard, write_zeroes, or any
--             errno=EIO   one of the names in docs/scripting.md
--             p=1         the chance that an IO fails, 0 to 1
--             start=0     where, bytes
--             len=all     how much of the disk, bytes; all: everywhere, and flushes too
-- Example:    ublk-script add error op=write errno=ENOSPC p=0.1 size=1G
-- Simulate:   --ops 1000
-- You see:    that errno with O_DIRECT; through the page cache reads say EIO, and writes fail at fsync.
-- Numbers:    none: a fault by definition.

local p = params { op = "any", errno = "EIO", p = 1, start = "0", len = "all" }
device { size = "1G", cache = "volatile" }

rule {
  op = p.op ~= "any" and p.op or nil,
  range = p.len ~= "all" and { p.start, p.len } or nil,
  p = p.p,
  error = p.errno,
}

test("IOs of the kind fail, others do not", { op = "write", errno = "ENOSPC", p = 1, len = "all" }, function(disk)
  expect(disk:write(0, "4K").errno, "ENOSPC")
  expect(disk:read(0, "4K").errno, nil)
  expect(disk:flush().errno, nil)
end)

test("only the place fails", { op = "any", p = 1, start = "1M", len = "4K" }, function(disk)
  expect(disk:read("1M", "4K").errno, p.errno)
  expect(disk:read("2M", "4K").errno, nil)
end)
