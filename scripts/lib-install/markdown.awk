# A document of docs/ to a manual page. Variables: name, of the page, and what, its line for apropos; or section: the
# document is a section of another page; and those of roff.awk.
#
# Of Markdown it knows what the documents have: headings, paragraphs, lists, blocks of code, tables, and in a line
# `code`, **bold**, *italic* and [links](to). A row of a table becomes an item: the first cell is its word, the last one
# is what it means, and a cell between them has its heading before it.

BEGIN {
  if (section != "") heading("SH", section)
  else {
    title(name, 7)
    heading("SH", "NAME")
    put(literal(name) " \\- " literal(what))
  }
}

/^```/ {
  flush()
  isCode = !isCode
  if (isCode) begin_paragraph()
  print isCode ? ".RS 4\n.nf" : ".fi\n.RE"
  next
}
isCode {
  put(literal($0))
  next
}
/^<\/?details/ {
  gsub(/<[^>]*>/, "")
  flush()
  if ($0 == "") next
  begin_paragraph()
  put("\\fB" inline($0, "B") "\\fR")
  next
}
/^# / {
  heading("SH", "DESCRIPTION")
  next
}
/^##+ / {
  flush()
  level = index($0, " ") - 1
  sub(/^#+ /, "")
  # a page has two levels; the first is in capitals, as in other pages
  if (level == 2) heading("SH", toupper($0))
  else heading("SS", $0)
  next
}
/^\|/ {
  row($0)
  next
}
{ columns = 0 }
/^$/ {
  flush()
  next
}
/^(\*|[0-9]+\.) / {
  flush()
  mark = substr($0, 1, index($0, " ") - 1)
  $0 = substr($0, index($0, " ") + 1)
  opening = ".IP " (mark == "*" ? "\\(bu 2" : mark " 4")
}
{
  sub(/^ +/, "")
  paragraph = paragraph (paragraph == "" ? "" : "\n") $0
}

END { flush() }

function heading(macro, text) {
  print "." macro " " quoted(inline(text))
  isBelowHeading = 1
}

# No paragraph begins below a heading: the heading has done that.
function begin_paragraph() {
  if (!isBelowHeading) print ".PP"
  isBelowHeading = 0
}

function flush() {
  if (paragraph == "") return
  if (opening == "") begin_paragraph()
  else print opening
  opening = ""
  isBelowHeading = 0
  # a code or a link may go over the end of a line
  gsub(/\n/, " ", paragraph)
  put(inline(paragraph))
  paragraph = ""
}

function row(line,    cells, count, i, out) {
  flush()
  gsub(/\\\|/, "\001", line)
  count = split(line, cells, "|")
  for (i = 2; i < count; i++) {
    gsub(/\001/, "|", cells[i])
    gsub(/^ +| +$/, "", cells[i])
  }
  if (line ~ /^\|[-|: ]*-[-|: ]*$/) return
  if (columns == 0) {
    columns = count
    for (i = 2; i < count; i++) headings[i] = cells[i]
    return
  }
  print ".TP"
  isBelowHeading = 0
  put(cells[2] == "" ? "\\ " : "\\fB" inline(cells[2], "B") "\\fR")
  out = 0
  for (i = 3; i < count; i++) {
    if (cells[i] == "") continue
    if (out) print ".br"
    put((i < count - 1 && headings[i] != "" ? "\\fI" inline(headings[i]) ":\\fR " : "") inline(cells[i]))
    out = 1
  }
}

# The markup of a line. outer: the font around it, R if none.
function inline(text, outer,    i, c, end, out) {
  if (outer == "") outer = "R"
  for (i = 1; i <= length(text); i++) {
    c = substr(text, i, 1)
    if (c == "\\" && substr(text, i + 1, 1) ~ /[*_`|<>\\]/) {
      out = out literal(substr(text, ++i, 1))
    } else if (c == "`" && (end = index(substr(text, i + 1), "`"))) {
      out = out "\\fB" literal(substr(text, i + 1, end - 1)) "\\f" outer
      i += end
    } else if (substr(text, i, 2) == "**" && (end = index(substr(text, i + 2), "**"))) {
      out = out "\\fB" inline(substr(text, i + 2, end - 1), "B") "\\f" outer
      i += end + 2
    } else if (c == "*" && substr(text, i + 1, 1) ~ /[^ *]/ && (end = index(substr(text, i + 1), "*"))) {
      out = out "\\fI" inline(substr(text, i + 1, end - 1), "I") "\\f" outer
      i += end
    } else if (c == "[" && match(substr(text, i), /^\[[^]]*\]\([^)]*\)/)) {
      out = out link(substr(text, i, RLENGTH), outer)
      i += RLENGTH - 1
    } else {
      out = out literal(c)
    }
  }
  return out
}

function link(text, outer,    middle, words, to, page) {
  middle = index(text, "](")
  words = substr(text, 2, middle - 2)
  to = substr(text, middle + 2, length(text) - middle - 2)
  if (to ~ /^https?:/) return inline(words, outer) " <" literal(to) ">"
  sub(/#.*/, "", to)
  if (to ~ /^ublk-script[a-z-]*\.1$/) return "\\fB" literal(substr(to, 1, length(to) - 2)) "\\f" outer "(1)"
  if (to !~ /^[a-z-]+\.md$/) return inline(words, outer)
  page = reference(substr(to, 1, length(to) - 3))
  if (page == "") return inline(words, outer)
  page = "\\fB" literal(page) "\\f" outer "(7)"
  # a link whose text is the file's name is the page itself
  return words == "" || words == to ? page : inline(words, outer) " (" page ")"
}
