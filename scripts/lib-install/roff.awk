# What both kinds of manual page need: text to roff, as of man(7).
#
# Variables: date, version; documents: the names of the documents that are pages, between blanks.

# Text in which nothing is markup.
function literal(text,    i, c, out) {
  for (i = 1; i <= length(text); i++) {
    c = substr(text, i, 1)
    if (c == "\\") c = "\\e"
    else if (c == "-") c = "\\-"
    else if (c == "'") c = "\\(aq"
    else if (c == "`") c = "\\(ga"
    else if (c == "^") c = "\\(ha"
    else if (c == "~") c = "\\(ti"
    out = out c
  }
  return out
}

# A line of text: one that begins with a dot would be a request.
function line_of(text) {
  return (text ~ /^\./ ? "\\&" : "") text
}

function put(text) {
  print line_of(text)
}

# An argument of a macro.
function quoted(text) {
  gsub(/"/, "\\(dq", text)
  return "\"" text "\""
}

function title(name, section) {
  print ".TH " quoted(literal(toupper(name))) " " section " " quoted(date) " " quoted("ublk-script " version) " " quoted("ublk-script")
  # left-aligned, no hyphenation: names and options stay whole
  print ".nh"
  print ".ad l"
}

# The page of a document, "" when it has none.
function reference(document) {
  return index(documents, " " document " ") ? "ublk-script-" document : ""
}
