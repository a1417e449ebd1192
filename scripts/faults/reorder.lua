-- reorder.lua: IOs that are done in another order than they came
--
-- What:       holds IOs until there are so many, or for so long, and then does them in another order.
-- Imitates:   a drive's queue and its cache: between two flushes the order of writes is nobody's promise.
-- Parameters: op=write       which IOs: read, write, flush or discard
--             batch=8        so many are let go together
--             order=random   fifo, lifo (the newest first) or random
--             wait=5ms       a batch that does not fill up goes after at most so long
-- Example:    ublk-script add reorder order=lifo batch=32 size=1G
-- Simulate:   --rate 1000 --time 5s
-- You see:    no error; an application that takes the order of its writes for granted, without a flush between, finds
--             the later one stored and the earlier one not.
-- Numbers:    ours; a SATA drive queues 32 commands (NCQ).

local p = params { op = "write", batch = 8, order = "random", wait = "5ms" }
device { size = "1G", cache = "volatile" }

local held, hold = 0, hang()
local function let_go()
  held = 0
  release(p.order)
end

_G[p.op] = function()
  held = held + 1
  if held >= p.batch then let_go() end
  return hold
end
every(p.wait, let_go)

test("the newest is done first", { order = "lifo", batch = 3, op = "write" }, function(disk)
  disk:send("write", 0, "4K")
  disk:send("write", 0, "4K")
  local last = disk:send("write", 0, "4K")
  disk:wait(last)
  assert(disk:read(0, "4K").data ~= last.data, "the newest write was done last")
end)

test("a batch that does not fill up goes in time", { wait = "3ms", op = "write" }, function(disk)
  expect(disk:write(0, "4K").time <= 3 * ms, true)
end)
