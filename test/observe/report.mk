# Reports of panics, of a program that ends in every way; a validator that is not ours, and bh_report.
$O/test/observe/report/lab: $O/test/observe/report/lab.c.o $(layers) ; $(link)
observe_needs += $O/test/observe/report/lab $O/tools/report/bh_report
observe_steps += test/observe/report/test.py
