#!/bin/bash
# docs/protocol.md: its commands print what it says, and its table is that of this kernel.
. "$(dirname "$0")/lib.sh"

document=$tests/../../docs/protocol.md

# Types the commands of all ```console blocks into one shell, in their order, and holds what each prints against the
# lines after it: "..." stands for any characters, a line of its own for any lines.
t_the_course_prints_what_it_says() {
  kernel_is_at_least 7.3 || skip "it is written for 7.3"
  local line command='' wanted='' inside='' commands=0
  while IFS= read -r line <&8; do
    case $inside$line in
      '```console') inside=: ;;
      ':```') type_command && inside= command= ;;
      ':$ '*)
        type_command
        command=${line#\$ } wanted=
        commands=$((commands + 1))
        ;;
      :*) wanted+=$line$'\n' ;;
    esac
  done 8<"$document"
  [ $commands -gt 20 ] || fail "only $commands commands were found"
  no_leftovers
}

type_command() {
  [ -n "$command" ] || return 0
  local got
  eval "$command" >typed 2>&1 || true # what fails says so
  got=$(<typed)
  # shellcheck disable=SC2053
  [[ $got == $(pattern_of "$wanted") ]] || fail "\$ $command
it prints: $got
not: $wanted"
}

# A shell pattern of expected lines.
pattern_of() { # LINES
  local text=${1%$'\n'}
  text=$(sed -e 's/[][*?\\]/\\&/g' -e 's/\.\.\./*/g' <<<"$text")
  # any lines, none among them
  text=${text//$'\n'\*$'\n'/$'\n'*}
  printf '%s' "$text"
}

t_the_table_of_flags_is_that_of_the_driver() {
  local series column
  series=$(uname -r | cut -d. -f1,2)
  column=$(awk -F ' *[|] *' -v series="$series" \
    '$2 == "flag" { for (n = 3; n < NF; n++) if ($n == series) print n; exit }' "$document")
  [ -n "$column" ] || skip "there is no column for $series"
  awk -F ' *[|] *' -v column="$column" '$column == "yes" || $column == "no" { print $2, $column }' \
    "$document" | sort >documented
  ublk-script features | awk '$3 == "yes" || $3 == "no" { print $1, $3 }' | sort >offered
  diff documented offered || fail "docs/protocol.md and this kernel differ"
  [ "$(wc -l <offered)" -gt 20 ] || fail "only these were found: $(<offered)"
}

run_cases "$@"
