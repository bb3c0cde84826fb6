#!/bin/bash
#
# deps.sh -- install what Bulkhead needs from Debian 12, and nothing else.
#
#     tools/deps.sh [-n] [group ...]     groups: build test wire lint aarch64 peers all
#                                        default: build test
#
# Says what it installs and why; skips what is there; asks nothing.  Needs root,
# or sudo that works without a password.  -n only says what is missing (status 1 if
# anything is).  Works on a bare Debian: this file needs bash, dpkg and apt only.

set -u

# group  package  why
packages='
build    make                   the build
build    gcc                    the compiler
build    libc6-dev              headers of the C library
build    g++                    compiles the few lines around simdjson
build    libssl-dev             TLS, signatures
build    libsimdjson-dev        reads JSON
build    zlib1g-dev             gzip
build    libbrotli-dev          brotli
build    libzstd-dev            zstd
build    libnghttp2-dev         HTTP/2 frames and header compression
build    systemtap-sdt-dev      static probes for tracers (one header)
build    pkg-config             finds the installed library (bulkhead.pc)
test     clang                  second compiler: every header and fault test must pass with both
test     node-llhttp            an HTTP/1.1 parser that the fuzzer holds ours against
test     libhttp-parser-dev     its predecessor, likewise
test     libclang-rt-14-dev     its sanitizer and fuzzer runtimes
test     gdb                    tests of the debugger script; backtraces across the switch
test     python3                gdb script; drives the browser test
test     openssl                certificates for tests; a TLS client we did not write
test     curl                   a client we did not write, against the server
test     nghttp2-client         HTTP/2 clients: nghttp, and h2load for load
test     python3-h2             makes HTTP/2 frames, wrong ones too, for tests of the server
test     python3-hpack          their header compression
test     nginx-light            a server we did not write, for the client
test     chromium               clicks the buttons of the crash lab
test     procps                 finds leftover processes of a test
test     binutils               addr2line names the addresses of raw reports (bh_report)
test     python3-jsonschema     holds reports of panics against their schema
test     netbase                /etc/services: names of ports
test     nodejs                 runs the next
test     npm                    fetches decoders of OTLP that Debian has not
test     protobuf-compiler      decodes OTLP, too
test     node-ws                a WebSocket client and server we did not write
test     python3-websockets     and another
test     haproxy                sends the PROXY protocol
test     libwslay-dev           WebSocket frames that the fuzzer holds ours against
test     golang-go              its pprof reads our profiles
test     prometheus             scrapes our metrics; promtool judges their text
test     bpftrace               listens to the static probes
test     spin                   checks the model of panic transfer
test     binutils               readelf lists the probes
lint     pmccabe                length of functions
lint     codespell              spelling of comments and documents
lint     clang-format           layout of the sources
aarch64  gcc-aarch64-linux-gnu  cross compiler
aarch64  libc6-dev-arm64-cross  its C library
aarch64  qemu-user              runs what it builds
valgrind valgrind               uninitialised reads; counts instructions
wire     nginx-light            proxies, to be put in front of the server
wire     haproxy                another
wire     varnish                another
wire     apache2-bin            another
wire     caddy                  another
wire     python3-h11            a client we did not write, and a judge of replies
wire     golang-1.19-src        the tables of requests of net/http
wire     wrk                    load from clients we did not write
wire     apache2-utils          ab, another
wire     siege                  another
wire     slowhttptest           slow attacks
peers    golang-go              Go, the peer of every benchmark
peers    libboost-fiber-dev     Boost.Fiber
peers    wrk                    HTTP load
peers    nginx-light            nginx, a peer of the HTTP benchmark
peers    libh2o-evloop-dev      h2o, a peer of the HTTP benchmark
'

only_say=no
if [ "${1-}" = -n ]; then
    only_say=yes
    shift
fi
groups=" ${*:-build test} "

# By its own name, or by another that provides it.
installed() {
    dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -q '^installed$' ||
        dpkg-query -W -f '${db:Status-Status} ${Provides},\n' | grep -Eq "^installed (.*, )?$1( \(.*\))?,"
}

missing=()
while read -r group package why; do
    [ -n "$group" ] || continue
    case "$groups" in *" $group "* | *" all "*) ;; *) continue ;; esac
    installed "$package" && continue
    printf 'deps: %-22s %s\n' "$package" "$why"
    missing+=("$package")
done <<<"$packages"

[ ${#missing[@]} -gt 0 ] || exit 0
[ $only_say = no ] || exit 1

if [ "$(id -u)" = 0 ]; then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "deps: the packages above are missing; run as root: apt-get install ${missing[*]}" >&2
    exit 1
fi

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@" </dev/null
}

# The index may be absent on a fresh image, or stale: refresh it only if needed.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! apt install --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    { apt update && apt install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
        cat "$log" >&2
        echo "deps: apt-get could not install ${missing[*]}" >&2
        exit 1
    }
fi
echo "deps: installed ${#missing[@]} package(s)"
