#ifndef BULKHEAD_OBSERVE_ROUTE_H
#define BULKHEAD_OBSERVE_ROUTE_H

/*
 * route.h -- routes and methods as telemetry names them, in memory that stays.
 */

/* All live for ever. */
struct ob_route {
    const char *pattern; /* "GET example.com/users/{id}", as it was registered */
    const char *path;    /* "/users/{id}" */
    const char *name;    /* "GET /users/{id}", of a span; NULL: the pattern names no method */
    const char *method;  /* "GET"; NULL likewise */
};

/* ob_route -- of a pattern; NULL: "" or none, or no room for another. */
const struct ob_route *ob_route(const char *pattern);

/* ob_method -- one of the methods everybody knows, or "_OTHER". */
const char *ob_method(const char *method);

#endif
