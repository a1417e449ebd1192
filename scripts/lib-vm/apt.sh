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

# Makes an apt state folder of its own at $1, for the mirror $2 and the suite $3, and sets
# apt_options, so that the machine's own sources and lists stay as they are.
apt_private_state() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed=
  [ ! -e "$keyring" ] || signed=" signed-by=$keyring"
  mkdir -p "$1"/{lists/partial,cache/archives/partial}
  echo "deb [arch=$arch$signed] $2 $3 main" >"$1/sources.list"
  apt_options=(
    -o Dir::Etc::sourcelist="$1/sources.list" -o Dir::Etc::sourceparts=-
    -o Dir::State::lists="$1/lists" -o Dir::Cache="$1/cache"
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 -o Acquire::Languages=none
  )
}
