# Sourced by scripts/vm: packages of suites that this machine's own apt sources do not name.
# shellcheck shell=bash

# The name of the Debian release that this machine runs; nothing on another system.
apt_codename() {
  # shellcheck source=/dev/null
  (. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") || true
}

# Prints the suites of this machine's own apt sources, a line each: RELEASE COMPONENT URI ORIGIN. apt knows them after
# an update only; where there was none (the lists are often deleted in containers) they are read into a place of ours.
apt_own_suites() {
  local format='$(RELEASE) $(COMPONENT) $(REPO_URI) $(ORIGIN)' state=$cache/apt-own targets own=()
  targets=$(apt-get indextargets --format "$format" 'Created-By: Packages')
  if [ -z "$targets" ]; then
    mkdir -p "$state"/{lists/partial,cache/archives/partial}
    own=(-o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache" -o APT::Sandbox::User="$(id -un)")
    apt-get -qq "${own[@]}" update >&2 || true # of several sources one may fail
    targets=$(apt-get "${own[@]}" indextargets --format "$format" 'Created-By: Packages')
  fi
  printf '%s\n' "$targets"
}

# The Debian mirror this machine uses. Its suites are apt's business; other suites are there too.
apt_mirror() {
  local mirror
  mirror=$(apt_own_suites |
    awk -v codename="$(apt_codename)" '$2 == "main" && $1 !~ /-/ && ($4 == "Debian" || $1 == codename) { print $3; exit }')
  [ -n "$mirror" ] || {
    echo "vm: this machine's apt sources name no Debian mirror to take packages from" >&2
    return 1
  }
  echo "$mirror"
}

# Prints, as words for apt_private_state, every suite of this machine's release and of those after it that may be
# there: MIRROR SUITE. A suite of security fixes has a mirror of its own, which is known when the machine uses it.
apt_all_suites() {
  local mirror security codename
  mirror=$(apt_mirror) || return 1
  security=$(apt_own_suites | awk '$1 ~ /-security$/ && $2 == "main" && !found++ { print $3 }')
  for codename in $(apt_releases); do
    printf '%s\n' "$mirror $codename" "$mirror $codename-updates" "$mirror $codename-backports"
    [ -z "$security" ] || echo "$security $codename-security"
  done
  echo "$mirror sid"
}

# Prints the names of this machine's release and of those after it.
apt_releases() {
  local codename known=' bullseye bookworm trixie forky '
  codename=$(apt_codename)
  case $known in
    *" $codename "*) echo "$codename${known#*" $codename"}" ;;
    *) echo "$codename" ;; # a newer one, or testing
  esac
}

# Makes an apt state folder of its own at $1, for the suites named by the pairs of words after it (MIRROR SUITE), and
# sets apt_options, so that the machine's own sources and lists stay as they are. What is in it already is kept.
apt_private_state() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed= state=$1
  [ ! -e "$keyring" ] || signed=" signed-by=$keyring"
  mkdir -p "$state"/{lists/partial,cache/archives/partial}
  shift
  printf "deb [arch=$arch$signed] %s %s main\n" "$@" >"$state/sources.list"
  apt_options=(
    -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=-
    -o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache"
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 -o Acquire::Languages=none -o Acquire::GzipIndexes=true
  )
}

# Reads the lists of the suites anew. Not each that may be there is; that, and nothing else, goes without a word.
apt_update() {
  { LC_ALL=C apt-get -qq "${apt_options[@]}" update 2>&1 || true; } | grep -v 'does not have a Release file' >&2 || true
}
