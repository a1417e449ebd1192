# Sourced by scripts/vm: packages of suites that this machine's own apt sources do not name.
# shellcheck shell=bash

# The name of the Debian release that this machine runs; nothing on another system.
apt_codename() {
  # shellcheck source=/dev/null
  (. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") || true
}

# The Debian mirror this machine uses. Its suites are apt's business; other suites are there too.
apt_mirror() {
  local mirror
  # ORIGIN is known only after an apt-get update; before one, the release's own name has to do
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v codename="$(apt_codename)" '
      $(NF-1) == "main" && $(NF-2) !~ /-/ && ($1 == "Debian" || $(NF-2) == codename) { print $NF; exit }')
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
  security=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 ~ /-security$/ && $2 == "main" { print $3; exit }')
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
