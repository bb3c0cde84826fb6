# bh_report, which reads reports of panics.
bh_report := $O/tools/report/bh_report
$(bh_report): $(patsubst %.c,$O/%.c.o,$(wildcard tools/report/*.c)) $O/libbulkhead.a
	$(link)
$O/tools/report/%.o: own = -iquote tools/report
all: $(bh_report)
