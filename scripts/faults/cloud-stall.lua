-- cloud-stall.lua: a cloud volume that stands still for seconds
--
-- What:       now and then nothing completes for a while: often short, seldom medium, hardly ever long.
-- Imitates:   stalls of network volumes, which databases must ride out, or fail over.
-- Parameters: p=0.0001     the chance that an IO begins a short stall; a medium one is 10 times as rare,
--                          a long one 100 times
--             short=2s     below what applications notice
--             medium=10s   a slow query
--             long=30s     what a health check takes for death
-- Example:    ublk-script add cloud-stall p=0.001 size=1G
-- Simulate:   --rate 100 --time 2min p=0.001
-- You see:    no error; everything at once after the pause.
-- Numbers:    the classes are those of CockroachDB's disk-stall tests (cockroach#121942: below 3 s, 4 to 20 s,
--             above 20 s); the chances are our choice.

local p = params { p = 0.0001, short = "2s", medium = "10s", long = "30s" }
device { size = "1G" }

rule { name = "short", p = p.p, stall = p.short }
rule { name = "medium", p = p.p / 10, stall = p.medium }
rule { name = "long", p = p.p / 100, stall = p.long }

test("everything waits until the stall is over", { p = 1, short = "2s", medium = "2s", long = "2s" }, function(disk)
  expect(disk:read(0, "4K").time, 2 * sec)
end)

test("without luck nothing happens", { p = 0 }, function(disk) expect(disk:read(0, "4K").time, 0) end)
