# awk -v document=docs/json.md -v section=list -f json-fits.awk    JSON on standard input
#
# Says what the JSON has that the section's table has not, what it lacks, and where a type differs: a line each, and status 1.

function bad(why) {
  print section ": " why
  wrong = 1
}

function word() { # takes a string off the text
  if (!match(text, /^"([^"\\]|\\.)*"/)) {
    bad("no string: " substr(text, 1, 40))
    exit 1
  }
  return take(RLENGTH)
}

function take(length_, taken) {
  taken = substr(text, 1, length_)
  text = substr(text, length_ + 1)
  return taken
}

function is_end(mark) { # after an element: takes the comma, or the end
  if (substr(text, 1, 1) == ",") {
    take(1)
    return 0
  }
  if (take(1) != mark) {
    bad("no " mark " before: " substr(text, 1, 40))
    exit 1
  }
  return 1
}

function value(path, key, field) { # takes a value off the text; its type
  if (substr(text, 1, 1) == "{") {
    take(1)
    if (substr(text, 1, 1) == "}") take(1)
    else do {
      key = word()
      gsub(/"/, "", key)
      if (take(1) != ":") bad("no colon after " key)
      field = (path == "" ? "" : path ".") (path == "counters" ? "*" : key)
      note(path, field, value(field))
    } while (!is_end("}"))
    return "object"
  }
  if (substr(text, 1, 1) == "[") {
    take(1)
    if (substr(text, 1, 1) == "]") take(1)
    else do value(path == "" ? "" : path "[]"); while (!is_end("]"))
    return "array"
  }
  if (substr(text, 1, 1) == "\"") {
    word()
    return "string"
  }
  if (match(text, /^(true|false)/)) {
    take(RLENGTH)
    return "boolean"
  }
  if (match(text, /^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?/)) {
    take(RLENGTH)
    return "number"
  }
  bad("no value: " substr(text, 1, 40))
  exit 1
}

function note(path, field, type) {
  is_printed[field] = 1
  has_fields[path] = 1
  if (!(field in documented)) bad(field " is not documented")
  else if (documented[field] != type) bad(field " is a " type ", not a " documented[field])
}

function parent(field) {
  return match(field, /\.[^.]*$/) ? substr(field, 1, RSTART - 1) : ""
}

BEGIN {
  while ((getline line <document) > 0) {
    if (line ~ /^## /) is_inside = line == "## " section
    if (!is_inside || line !~ /^\| `/) continue
    split(line, cells, "|")
    type = cells[3]
    sub(/,.*/, "", type)
    gsub(/ /, "", type)
    count = split(cells[2], names, ",")
    for (i = 1; i <= count; i++) {
      gsub(/[` ]/, "", names[i])
      documented[names[i]] = type
      if (cells[3] !~ /maybe/) is_always[names[i]] = 1
    }
  }
  if (count == 0) bad("no such section in " document)
}

{ text = text $0 }

END {
  if (wrong) exit 1
  value("")
  if (text != "") bad("more: " substr(text, 1, 40))
  for (field in is_always)
    if (!(field in is_printed) && parent(field) in has_fields) bad(field " is missing")
  exit wrong
}
