#!/bin/bash
#
# run.sh -- the server against input and clients that no one here wrote.
#
#     run.sh DIRECTORY-OF-PROGRAMS [part ...]
#
# Each part prints its counts and "wire-PART: N passed, N failed".  WIRE=full makes them
# thorough instead of quick.

here=$(dirname "$0")
programs=$1
shift
[ $# -gt 0 ] || set -- gotables reject closing smuggle mutate proxies faults resets crashes h11_client clients
status=0
for part in "$@"; do
    start=$SECONDS
    timeout -k 5 "$([ "${WIRE-}" = full ] && echo 3000 || echo 300)" \
        /usr/bin/python3 -B "$here/$part.py" "$programs" || status=1
    echo "     $part took $((SECONDS - start)) s"
done
exit $status
