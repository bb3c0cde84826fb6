# The crash lab: make run serves it on 127.0.0.1:$(PORT).

crashlab := $O/examples/server/crashlab

$(crashlab): $(patsubst %,$O/examples/server/%.c.o,main lab) \
             $(layers)
	$(link)
$O/examples/server/lab.c.o: examples/server/page.html

all: $(crashlab)

run: deps
	@$(MAKE) --no-print-directory $(crashlab)
	@exec $(crashlab) -p $(PORT)
.PHONY: run
