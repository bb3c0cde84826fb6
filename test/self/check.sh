#!/bin/bash
#
# check.sh PROGRAM -- the runner calls each way a test can end by its name, and a
# failing seed replays.

here=$(dirname "$0")
passed=0
failed=0

check() { # NAME STATUS: of the comparison just made
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
    else
        echo "FAIL runner: $1"
        failed=$((failed + 1))
    fi
}

output=$(env -u BH_SIM_SEED BH_TEST_SEEDS=20 TEST_TIMEOUT=0.1 "$1" -v 2>&1)
check "its exit status says that something failed" $(($? != 1))
diff -u "$here/expected.txt" <(grep -v '^    ' <<<"$output" | sed 's/seed [0-9]*/seed N/')
check "every verdict is the expected one" $?
grep -q '    | .*self.c:[0-9]*: 2 + 2 is 4 (0x4), 5 is 5 (0x5)' <<<"$output"
check "a failed expectation shows place and values" $?
grep -q '    | leaked descriptor [0-9]*: /dev/null' <<<"$output"
check "a leaked descriptor is named" $?
grep -q '    | .*waits(' <<<"$output"
check "a leaked goroutine is shown with its stack" $?

replay=$(sed -n 's/^    replay: //p' <<<"$output")
text=$(bash -c "$replay")
check "a failing seed fails again: $replay" $(($? != 1))
grep -q '^self: 0 passed, 1 failed$' <<<"$text"
check "a replay runs that test only" $?

echo "runner: $passed passed, $failed failed"
[ $failed = 0 ]
