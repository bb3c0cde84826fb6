# The page of /debug/bulkhead is part of the library.
$O/observe/page.c.o $O/pic/observe/page.c.o: $(wildcard observe/page/*)
