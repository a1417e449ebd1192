# The help text of a command to a manual page. Variables: name, of the page; commands: those that have pages, between
# blanks; and those of roff.awk.
#
# The text has sections (OVERVIEW, USAGE, ARGUMENTS, OPTIONS, SUBCOMMANDS). In the first one blank lines are between
# paragraphs, and lines that begin with two blanks are a table, which stays as it is. In the lists the words are at
# column 3 and what they mean at column 27, beside them or below.

BEGIN { title(name, 1) }

/^OVERVIEW: / {
  what = substr($0, 11)
  part = "what"
  next
}
/^USAGE: / {
  end_what()
  end_table()
  part = "usage"
  usage = substr($0, 8)
  next
}
/^(ARGUMENTS|OPTIONS|SUBCOMMANDS):$/ {
  begin_list($0)
  next
}
part == "what" {
  if ($0 == "") end_what()
  else what = what " " $0
  next
}
part == "text" {
  text($0)
  next
}
part == "usage" {
  if ($0 != "") {
    sub(/^ */, "")
    usage = usage " " $0
  }
  next
}
part == "list" { item($0) }

END { end_item() }

# The first paragraph is the line that apropos finds.
function end_what() {
  if (part != "what") return
  sub(/\.$/, "", what)
  print ".SH NAME"
  put(literal(name) " \\- " literal(what))
  part = "text"
}

# The description is kept, as the usage comes before it.
function text(line) {
  if (line == "") line = isTable ? "" : ".PP"
  else if (line ~ /^  /) {
    if (!isTable) keep(".PP\n.nf")
    isTable = 1
    line = line_of(roff(line))
  } else {
    end_table()
    line = line_of(roff(line))
  }
  if (line != "" || isTable) keep(line)
}

function end_table() {
  if (isTable) keep(".fi\n.PP")
  isTable = 0
}

function keep(line) {
  # a paragraph that begins twice, or where a table has ended it
  if (line == ".PP" && (description == "" || description ~ /\.PP\n$/)) return
  if (line ~ /^\.PP\n/ && description ~ /\.PP\n$/) line = substr(line, 5)
  description = description line "\n"
}

# Text in which documents are named as their pages.
function roff(line,    out, page) {
  while (match(line, /docs\/[a-z-]+\.md/)) {
    page = reference(substr(line, RSTART + 5, RLENGTH - 8))
    out = out literal(substr(line, 1, RSTART - 1))
    out = out (page == "" ? literal(substr(line, RSTART, RLENGTH)) : "\\fB" literal(page) "\\fR(7)")
    line = substr(line, RSTART + RLENGTH)
  }
  return out literal(line)
}

function end_usage() {
  if (usage == "") return
  print ".SH SYNOPSIS"
  match(usage, /^ublk-script( [a-z-]+)?/)
  put("\\fB" literal(substr(usage, 1, RLENGTH)) "\\fR" literal(substr(usage, RLENGTH + 1)))
  usage = ""
  sub(/^\.PP\n/, "", description)
  sub(/(\.PP\n)+$/, "", description)
  if (description != "") printf ".SH DESCRIPTION\n%s", description
}

function begin_list(line) {
  end_usage()
  end_item()
  list = substr(line, 1, length(line) - 1)
  if (list == "SUBCOMMANDS") list = "COMMANDS"
  print ".SH " list
  part = "list"
}

function item(line,    gap) {
  if (line ~ /^                        /) {
    sub(/^ */, "", line)
    meaning = meaning (meaning == "" ? "" : " ") line
    return
  }
  end_item()
  if (line !~ /^  [^ ]/ || line ~ /^  See /) return
  line = substr(line, 3)
  gap = index(line, "  ")
  word = gap ? substr(line, 1, gap - 1) : line
  meaning = gap ? substr(line, gap) : ""
  sub(/^ */, "", meaning)
}

function end_item() {
  if (word == "") return
  print ".TP"
  if (list == "COMMANDS" && index(commands, " " word " ")) put("\\fBublk\\-script\\-" literal(word) "\\fR(1)")
  else put("\\fB" literal(word) "\\fR")
  put(roff(meaning))
  word = ""
}
