-- dust.lua: a disk with a bad place that rewriting heals
--
-- What:       reads of the bad place fail; a write, discard or write_zeroes over it heals what it covers.
-- Imitates:   an unreadable sector that the disk remaps when it is written; dm-dust.
-- Parameters: start=8M        where the bad place begins, bytes
--             len=4K          how long it is, bytes
--             errno=ENODATA   of the reads: a medium error (dm-dust has EIO)
--             write_fails=0   so many writes to bad places fail with EIO before one heals (dm-dust's count is
--                             per block, this one is for all)
-- Example:    ublk-script add dust start=8M len=4K write_fails=1 size=1G
-- Live:       ublk-script ctl 0 ranges bad add 16M 4K     (remove, list, count, clear)
--             ublk-script ctl 0 rule off bad              (on): dm-dust's disable and enable
-- You see:    No data available with O_DIRECT, EIO through the page cache; the kernel's log says critical medium
--             error. After a rewrite the place is good.
-- Numbers:    4K is the sector that a disk of today remaps at a time.

local p = params { start = "8M", len = "4K", errno = "ENODATA", write_fails = 0 }
device { size = "1G" }

local bad = ranges("bad"):add(p.start, p.len)
rule { name = "bad", op = "read", range = bad, error = p.errno }
if p.write_fails > 0 then
  rule { name = "badwrite", op = "write", range = bad, times = p.write_fails, error = "EIO" }
end
rule { name = "heal", op = { "write", "discard", "write_zeroes" }, range = bad, heal = true }

test("the bad place fails to read until it is rewritten", { write_fails = 1 }, function(disk)
  expect(disk:read(p.start, p.len).errno, p.errno)
  expect(disk:write(p.start, p.len).errno, "EIO")
  local write = disk:write(p.start, p.len)
  expect(write.errno, nil)
  expect(disk:read(p.start, p.len).data, write.data)
end)
