#!/usr/bin/env bash
# Gets what the integration tests and the example need besides Python packages: Redis, Java and Maven from Debian, and Kafka's
# jars through Maven. With `producers` also what the producer programs of the tests are built of (tests/producers): Java's compiler and Go.
# Usage: scripts/install-servers.sh [PYTHON [producers]]
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || missing+=(maven)
if [[ ${2:-} == producers ]]; then
  command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
  command -v go >/dev/null || missing+=(golang-go)
fi

if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "error: ${missing[*]} missing: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  apt-get update -qq
  # RUNLEVEL=1 keeps Debian's post-install scripts from starting a server on the default port.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

"${1:-python3}" -m tests.servers install
if [[ ${2:-} == producers ]]; then
  "${1:-python3}" -m tests.producers
fi
