-- failslow-tail.lua: a disk that is several times slower than its peers for a small share of the time
--
-- What:       every IO takes a lognormal time; in the last part of each period that much longer.
-- Imitates:   the tail at scale: one slow disk makes a whole stripe slow.
-- Parameters: median=100us   half of the IOs are faster, when it is well
--             p99=2ms        99 of 100 are
--             factor=4       so many times longer when it is not
--             share=0.004    of the time
--             period=10min   how often that comes
-- Example:    ublk-script add failslow-tail factor=10 share=0.05 period=60s size=1G
-- Simulate:   --rate 100 --time 2min period=60s share=0.1
-- You see:    no error and hardly a change of the mean; p99.9 several times as high.
-- Numbers:    disks are more than 2 times slower than their peers in 0.2 % of their hours, SSDs in 0.6 % (Hao et al.,
--             FAST 2016); median, p99 and factor are our choice.

local p = params { median = "100us", p99 = "2ms", factor = 4, share = 0.004, period = "10min" }
device { size = "1G" }

local median, p99, period = time(p.median), time(p.p99), time(p.period)
local more = p.factor - 1
rule { delay = dist.lognormal { median = median, p99 = p99 } }
rule {
  window = { from = math.floor(period * (1 - p.share)), period = period },
  delay = dist.lognormal { median = median * more, p99 = p99 * more },
}

test("it is slower towards the end of the period", { factor = 1000, share = 0.5, period = "2h" }, function(disk)
  local function total()
    local sum = 0
    for _ = 1, 30 do sum = sum + disk:read(0, "4K").time end
    return sum
  end
  local usual = total()
  disk:wait("1h")
  assert(total() > 10 * usual)
end)
