/* stream_test.c -- what client_test.c proves, over HTTP/2. */

#define HTTP2 true
#include "client_test.c"
