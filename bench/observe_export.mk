# What exporting costs; encoding alone is not public.
$O/bench/observe_export.c.o: own = -iquote observe
$O/bench/observe_export: | $O/bench/http/rate
