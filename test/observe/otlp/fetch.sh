#!/bin/bash
#
# fetch.sh DIR -- unpack the packages of decoders.txt into DIR/node_modules, nothing else: no
# dependencies, no scripts; each only if its checksum is right.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/node_modules"
cd "$1"

while read -r name version sum; do
    [ -n "$name" ] && [ "${name:0:1}" != '#' ] || continue
    to=node_modules/$name
    [ "$(cat "$to/.sum" 2>/dev/null)" != "$sum" ] || continue
    file=$(npm pack --silent "$name@$version")
    if [ "$(openssl dgst -sha512 -binary "$file" | base64 -w0)" != "$sum" ]; then
        echo "fetch.sh: $name $version has another checksum" >&2
        exit 1
    fi
    rm -rf "$to"
    mkdir -p "$to"
    tar xzf "$file" -C "$to" --strip-components=1
    rm "$file"
    echo "$sum" >"$to/.sum"
done <"$here/decoders.txt"
