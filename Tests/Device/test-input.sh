#!/bin/bash
# time limit: 180
# any kernel: what is refused is refused before the driver is asked
# Values outside their range are refused: the message has the value, the range, and the option or the line.
. "$(dirname "$0")/lib.sh"

plain_script() {
  script plain <<'LUA'
    device { size = "16M" }
LUA
}

# Each line: the arguments of add (up to the |) and the words the message must have, separated by commas.
expect_all_refused() { # STATUS
  local arguments words word
  while IFS='|' read -r arguments words; do
    # shellcheck disable=SC2086
    expect_status "$1" ublk-script add plain.lua $arguments
    IFS=, read -ra words <<<"$words"
    for word in "${words[@]}"; do expect_output "$word"; done
  done
  no_leftovers
}

t_options_outside_their_range_are_refused_by_value_and_range_and_option() {
  plain_script
  expect_all_refused 1 <<'TABLE'
-q 0|"0",1 to 4096,-q/--queues
-q 4097|"4097",1 to 4096,-q/--queues
-q two|"two",1 to 4096,-q/--queues
--queues=-1|"-1",1 to 4096,-q/--queues
-d 0|"0",1 to 4096,-d/--depth
-d 4097|"4097",1 to 4096,-d/--depth
--depth 1e3|"1e3",1 to 4096,-d/--depth
--depth=99999999999999999999|"99999999999999999999",1 to 4096,-d/--depth
TABLE
}

t_numbers_of_devices_outside_their_range_are_a_usage_error() {
  plain_script
  expect_all_refused 2 <<'TABLE'
-n 1048576|1048576,0 to 1048575
-n=-2|-2,0 to 1048575
-n x|x,0 to 1048575
-n 4294967296|4294967296,0 to 1048575
-n /dev/sda|/dev/sda,0 to 1048575
TABLE
  local verb
  for verb in del stop list "ctl"; do
    expect_status 2 ublk-script $verb 1048576 stats
    expect_status 2 ublk-script $verb nonsense stats
  done
}

t_settings_outside_their_range_are_refused_by_value_and_range_and_argument() {
  plain_script
  expect_all_refused 1 <<'TABLE'
size=0|size,"0",512 to 1048576T,argument size=0
size=100|"100",512 to 1048576T
size=16M5|"16M5",512 to 1048576T
size=-1M|"-1M",512 to 1048576T
size=9999999T|"9999999T",512 to 1048576T
size=16777217|"16777217",multiple of the logical block,512 bytes
size=|size,512 to
max_io=1K|max_io,"1K",4K to 32M,argument max_io=1K
max_io=64M|"64M",4K to 32M
max_io=5000|"5000",page size,4096
logical_block_size=1000|logical_block_size,"1000",power of two from 512 to 4K
logical_block_size=256|"256",power of two from 512 to 4K
logical_block_size=8K|"8K",power of two from 512 to 4K
logical-block-size=3K|"3K",power of two from 512 to 4K
physical_block_size=256|physical_block_size,"256",power of two from 512
io_min=3K|io_min,"3K",power of two
io_opt=1000|io_opt,"1000",power of two
chunk_size=96K|chunk_size,"96K",power of two from 4K to 256M
queues=0|queues,"0",1 to 4096,argument queues=0
depth=5000|depth,"5000",1 to 4096,argument depth=5000
seed=-1|seed,"-1",0 to 9223372036854775807
seed=abc|seed,"abc",0 to 9223372036854775807
budget=1us|budget,"1us",1ms to 5s
budget=10s|budget,"10s",1ms to 5s
budget=50|budget,"50",1ms to 5s
memory=1K|memory,"1K",256K to 64G
on_error=ignore|on_error,"ignore",fail,pass,stop
cache=maybe|cache,"maybe",volatile,none
backing=disk|backing,"disk",memory,file,null
backing=file|backing,file
read_only=perhaps|read_only,"perhaps",true or false
discard=2|discard,"2",true or false
fua=true|fua,"true",volatile
colour=red|colour,argument colour=red,size,logical_block_size
TABLE
  expect_status 2 ublk-script add plain.lua nonsense
  expect_output nonsense key=value
  expect_status 2 ublk-script add plain.lua =1
  expect_status 2 ublk-script add plain.lua --nonsense
  expect_output --nonsense
  expect_status 2 ublk-script nonsense
  no_leftovers
}

# Each line: a script and the words the message must have; all scripts have the bad value on line 2.
expect_scripts_refused() {
  local text words word
  while IFS='|' read -r text words; do
    printf -- '-- line 1\n%s\n' "$text" >bad.lua
    expect_status 1 ublk-script add bad.lua
    expect_output bad.lua:2:
    IFS=, read -ra words <<<"$words"
    for word in "${words[@]}"; do expect_output "$word"; done
  done
  no_leftovers
}

t_values_of_device_outside_their_range_are_refused_by_file_and_line() {
  expect_scripts_refused <<'TABLE'
device { size = "16M", depth = 5000 }|depth = 5000,1 to 4096
device { size = "16M", queues = 1.5 }|queues = 1.5,1 to 4096
device { size = "16M", queues = true }|queues = true,1 to 4096
device { size = "16Q" }|size = "16Q",512 to
device { size = 16777216.5 }|size = 16777216.5,512 to
device { size = -1 }|size = -1,512 to
device { size = "16M", max_io = 1 }|max_io = 1,4K to 32M
device { size = "16M", logical_block_size = 777 }|logical_block_size = 777,512 to 4K
device { size = "16M", budget = "1h" }|budget = "1h",1ms to 5s
device { size = "16M", discard = { granularity = 3 } }|discard: granularity = 3,power of two
device { size = "16M", discard = { most = 3 } }|discard,granularity,max
device { size = "16M", colour = "red" }|colour,logical_block_size
device { size = "16M", file = "" }|file,not empty
device { size = "16M", file = "x", backing = "memory" }|file,backing
device {}; device {}|device: it is declared already,line 2
device("16M")|device,table
TABLE
}

t_values_of_rule_outside_their_range_are_refused_by_file_and_line() {
  expect_scripts_refused <<'TABLE'
rule { op = "read", error = "EBOGUS" }|error = "EBOGUS",EIO,ENODATA
rule { op = "read", error = 5 }|error = 5,EIO
rule { op = "reed", error = "EIO" }|op = "reed",write_zeroes
rule { op = {}, error = "EIO" }|op
rule { op = "read", colour = "red" }|colour,delay
rule { op = "read", delay = "fast" }|delay = "fast",a time from
rule { op = "read", delay = "50" }|delay = "50",a time from
rule { op = "read", delay = -1 }|delay = -1,a time from
rule { op = "read", delay = "400000h" }|delay = "400000h",a time from
rule { op = "read", hang = "0s" }|hang = "0s",a time from
rule { op = "read", p = 2, error = "EIO" }|p = 2,0.0 to 1.0
rule { op = "read", p = "often", error = "EIO" }|p = "often",0.0 to 1.0
rule { op = "read", nth = 0, error = "EIO" }|nth = 0,from 1 to
rule { op = "read", every = -1, error = "EIO" }|every = -1,from 1 to
rule { op = "read", times = 0.5, error = "EIO" }|times = 0.5,from 1 to
rule { op = "read", range = { "1M" }, error = "EIO" }|range,{ offset
rule { op = "read", range = { "1M", 0 }, error = "EIO" }|range = 0,1 to
rule { op = "read", range = "1M", error = "EIO" }|range = "1M",ranges object
rule { op = "read" }|does nothing
rule { op = "read", drop = true }|drop
rule { op = "flush", range = { 0, "1M" }, error = "EIO" }|flush
rule { op = "read", range = ranges("a"), heal = true }|heal,write
rule { op = "write", heal = true }|heal,range
rule { op = "write", error = "EIO", drop = true }|exclude
fail("EBOGUS")|EBOGUS,EIO
delay("soon")|soon
delay(-1)|-1
hang("never")|never
to(-5)|-5
ranges("a"):add("1M", 0)|length
ranges("a"):add(-1, 1)|-1
TABLE
}

run_cases "$@"
