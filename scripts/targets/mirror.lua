-- mirror.lua: RAID 1, two legs with the same data
--
-- What:       writes go to both legs, reads take turns. A leg that has been failed is left out; without any leg
--             every IO is an EIO.
-- Imitates:   md's RAID 1, dm-mirror.
-- Parameters: path=   legs are the files PATH1 and PATH2 (made when missing); in memory without it
-- Example:    ublk-script add mirror size=1G
-- Live:       ublk-script ctl 0 fail 1    leg 1 is gone, for good: it has missed writes from now on
--             ublk-script ctl 0 status
-- You see:    nothing at all when one leg is failed: that is what a mirror is for. An error that a leg's own file
--             gives is the IO's error; no leg is failed but by ctl.
-- Numbers:    none.

local p = params { path = "" }
local d = device { size = "1G" }

-- Counters, not variables: all queues must know.
local legs, failed = {}, { counter("leg1-failed"), counter("leg2-failed") }
for i = 1, 2 do legs[i] = backing { size = d.size, file = p.path ~= "" and p.path .. i or nil } end

local function to_both(io, offset)
  local first, second = failed[1]:get() == 0, failed[2]:get() == 0
  if first and second then return to(offset, legs[1]) + to(offset, legs[2]) end
  if not first and not second then return fail("EIO") end
  return to(offset, legs[first and 1 or 2])
end
write, discard, write_zeroes = to_both, to_both, to_both

local turn = 1
function read(io, offset)
  turn = 3 - turn                                      -- 1, 2, 1, 2 ...
  if failed[turn]:get() > 0 then turn = 3 - turn end   -- the other one
  if failed[turn]:get() > 0 then return fail("EIO") end
  return to(offset, legs[turn])
end

function ctl(word, leg)
  leg = tonumber(leg)
  if word == "fail" and failed[leg] then failed[leg]:set(1) end
  local function state(i) return failed[i]:get() > 0 and "failed" or "good" end
  return "leg 1 " .. state(1) .. ", leg 2 " .. state(2)
end

test("one leg is enough, none is not", function(disk)
  local write = disk:write(0, "4K")
  for _ = 1, 2 do expect(disk:read(0, "4K").data, write.data) end
  expect(disk:ctl("fail", 1), "leg 1 failed, leg 2 good")
  for _ = 1, 2 do expect(disk:read(0, "4K").data, write.data) end
  disk:ctl("fail", 2)
  expect(disk:read(0, "4K").errno, "EIO")
  expect(disk:write(0, "4K").errno, "EIO")
end)
