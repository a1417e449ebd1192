# Sourced by tests whose writes may fail: what was acknowledged is there, whatever became of the rest.
#
# 32 blocks, each written by one of 4 writers only. A block is its number of the write, over and over, and each writer
# notes what it begins and what was acknowledged. (fio's own list counts a write in flight that failed as written.)
# shellcheck shell=bash disable=SC2154

# Start with start_writers, end with end_writers, compare with expect_blocks.
write_blocks() { # WRITER
  local block number=0 text
  while [ ! -e stop ]; do
    number=$((number + 1))
    block=$(($1 + 4 * (number % 8)))
    printf -v text '%08d' "$number"
    echo "$block $number begun" >>"writes.$1"
    # dd's reader is a builtin: nothing but dd is started; a disk that is gone is not made anew as a file
    if printf "$text%.0s" {1..512} | dd of="$dev" bs=4096 count=1 seek="$block" oflag=direct conv=notrunc,nocreat \
      iflag=fullblock status=none 2>/dev/null; then
      echo "$block $number done" >>"writes.$1"
    fi
  done
}

start_writers() {
  local writer
  writers=()
  rm -f stop
  for writer in 0 1 2 3; do
    : >"writes.$writer"
    write_blocks $writer &
    writers+=($!)
  done
}

end_writers() {
  touch stop
  wait "${writers[@]}"
  grep -q done writes.0 || fail "nothing was written"
}

# Each block has the number of its last write that was acknowledged, or of a later one that was not.
expect_blocks() { # DEVICE-OR-FILE
  local flags=fullblock
  [ ! -b "$1" ] || flags=direct
  dd if="$1" bs=128k count=1 iflag=$flags status=none | tr '\0' 0 | fold -w 4096 >blocks
  cat writes.? | awk '
    { block = $1; number = $2 + 0 }
    $3 == "done" && number > acked[block] { acked[block] = number }
    $3 == "begun" { begun[block, number] = 1 }
    END {
      for (block = 0; block < 32; block++) {
        if ((getline text <"blocks") <= 0) { print "block " block " is missing"; exit 1 }
        first = substr(text, 1, 8)
        whole = ""
        for (i = 0; i < 9; i++) whole = i ? whole whole : first
        if (whole != substr(text, 1, length(whole)) || substr(text, 2049) != substr(text, 1, 2048)) {
          print "block " block " is torn"
          bad = 1
        }
        if (first + 0 < acked[block] || (first + 0 > acked[block] && !((block, first + 0) in begun))) {
          print "block " block " has " first ", " acked[block] " was acknowledged"
          bad = 1
        }
      }
      exit bad
    }' || fail "the data is not what was acknowledged"
}
