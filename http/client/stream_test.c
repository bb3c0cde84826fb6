/* stream_test.c -- what client_test.c and redirect_test.c prove, over HTTP/2. */

#define HTTP2 true
#include "client_test.c"
#include "redirect_test.c"
