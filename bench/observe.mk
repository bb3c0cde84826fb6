# Encoding alone, the queue alone, and static probes are not public.
$O/bench/observe_export.c.o $O/bench/observe_memory.c.o: own = -iquote observe
$O/bench/observe_tracers.c.o: own = -iquote runtime
$O/bench/observe_export: | $O/bench/http/rate
