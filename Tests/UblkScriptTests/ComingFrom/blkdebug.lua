-- Proves the lines of docs/coming-from.md for blkdebug. What a section is: ComingFromTests.swift.

--- inject-error, sector, once
test("the first read of sector 2048 fails, and no other IO", function(disk)
  expect(disk:write("2048s", "4K").errno, nil)
  expect(disk:read("2040s", "4K").errno, nil)
  expect(disk:read("2049s", "4K").errno, nil)
  expect(disk:read("2041s", "4K").errno, "EIO")
  expect(disk:read("2048s", "4K").errno, nil)
end)

--- inject-error, state, errno
test("writes fail in a state, with the errno that is asked for", function(disk)
  expect(disk:write(0, "4K").errno, nil)
  disk:ctl("state", "other")
  expect(disk:write(0, "4K").errno, nil)
  disk:ctl("state", "full")
  expect(disk:write(0, "4K").errno, "ENOSPC")
  expect(disk:read(0, "4K").errno, nil)
  expect(disk:ctl("state"), "full")
end)

--- inject-error, state, errno | -- set-state
test("an event sets the state, and the next write meets it", function(disk)
  for number = 1, 200 do expect(disk:write("8M", "512K").errno, nil, number) end
  disk:read(0, "4K")
  expect(disk:write(0, "4K").errno, nil, "the write that sets the state")
  expect(disk:write(0, "4K").errno, "ENOSPC")
end)

test("the state is set once", function(disk)
  for _ = 1, 201 do disk:write("8M", "512K") end
  disk:ctl("state", "empty")
  expect(disk:write(0, "4K").errno, nil)
  expect(disk:write(0, "4K").errno, nil)
end)

--- suspend; ctl 0 release: resume
test("the first FUA write is suspended until it is resumed", { cache = "volatile", fua = true }, function(disk)
  expect(disk:write(0, "4K").errno, nil)
  local suspended = disk:send("write", "1M", "4K", "fua")
  disk:wait("1h")
  expect(suspended.done, false)
  expect(disk:write("2M", "4K", "fua").errno, nil, "the second")
  expect(disk:ctl("release"), "released 1")
  expect(suspended.done, true)
  expect(suspended.errno, nil)
  expect(disk:read("1M", "4K").data, suspended.data)
end)

--- text: resumes one of it by its place
rule { op = "write", hang = true }

test("the last that was suspended is the first to be resumed", function(disk)
  local writes = {}
  for number = 1, 3 do
    writes[number] = disk:send("write", number .. "M", "4K")
    disk:wait("1s")
  end
  disk:ctl("release", "lifo", "1")
  expect(writes[3].done, true)
  expect(writes[1].done or writes[2].done, false)
  disk:ctl("release", "1")
  expect(writes[1].done, true)
  expect(writes[2].done, false)
end)

test("one that is held is resumed by its place", function(disk)
  local writes = {}
  for number = 1, 3 do
    writes[number] = disk:send("write", number .. "M", "4K")
    disk:wait("1s")
  end
  local place = disk:ctl("held"):match("(%d+:%d+) io %d+ write 2097152")
  expect(disk:ctl("release", place, "EIO"), "released 1")
  expect(writes[2].errno, "EIO")
  expect(writes[1].done or writes[3].done, false)
end)
