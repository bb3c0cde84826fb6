/* expose_test.c -- the texts for Prometheus, the page, and the metrics of HTTP requests. */

#include <bulkhead/observe/metrics.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include <bulkhead/go/tag.h>

#include "http_fixture.h"
#include "series.h"

static char text[1 << 20];

/* All metrics; static, good until the next call. */
static const char *
expose(bool openmetrics)
{
    char  *t = NULL;
    size_t size = 0;

    EXPECT_EQ(bh_metric_text(openmetrics, &t, &size), 0);
    EXPECT(size < sizeof text && strlen(t) == size);
    memcpy(text, t, size + 1);
    free(t);
    return text;
}

static struct bh_metric *
labelled(const char *name, const char *help, const char *label)
{
    const char *const labels[] = { label, NULL };
    struct bh_metric *m = NULL;

    EXPECT_EQ(bh_metric_new(
                  &(struct bh_metric_options){
                      .name = name, .help = help, .kind = BH_COUNTER, .labels = labels },
                  &m),
              0);
    return m;
}

/* ---- texts ----------------------------------------------------------------------- */

TEST(expose, each_format_has_its_own_names_and_end)
{
    struct bh_series *c = NULL, *u = NULL, *g = NULL;

    EXPECT_EQ(bh_metric_counter("shop.orders", "Orders placed.", &c), 0);
    EXPECT_EQ(bh_metric_updown("shop.carts", "Carts now.", &u), 0);
    EXPECT_EQ(bh_metric_gauge("room.temperature", "How \"warm\"\\\nit is.", &g), 0);
    bh_metric_add(c, 7);
    bh_metric_add(u, -2);
    bh_metric_set(g, 21.5);
    EXPECT_STR(expose(false), "# HELP shop_orders_total Orders placed.\n"
                              "# TYPE shop_orders_total counter\n"
                              "shop_orders_total 7\n"
                              "# HELP shop_carts Carts now.\n"
                              "# TYPE shop_carts gauge\n"
                              "shop_carts -2\n"
                              "# HELP room_temperature How \"warm\"\\\\\\nit is.\n"
                              "# TYPE room_temperature gauge\n"
                              "room_temperature 21.5\n");
    EXPECT_STR(expose(true), "# HELP shop_orders Orders placed.\n"
                             "# TYPE shop_orders counter\n"
                             "shop_orders_total 7\n"
                             "# HELP shop_carts Carts now.\n"
                             "# TYPE shop_carts gauge\n"
                             "shop_carts -2\n"
                             "# HELP room_temperature How \\\"warm\\\"\\\\\\nit is.\n"
                             "# TYPE room_temperature gauge\n"
                             "room_temperature 21.5\n"
                             "# EOF\n");
}

TEST(expose, without_metrics_it_is_a_valid_text_too)
{
    EXPECT_STR(expose(false), "");
    EXPECT_STR(expose(true), "# EOF\n");
}

TEST(expose, a_histogram_is_cumulative)
{
    static const double bounds[] = { 0.5, 1, 10 };
    struct bh_metric   *m = NULL;
    struct bh_series   *h;

    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = "t",
                                                         .help = "Times.",
                                                         .unit = "s",
                                                         .kind = BH_HISTOGRAM,
                                                         .bounds = bounds,
                                                         .bound_count = 3 },
                            &m),
              0);
    h = bh_metric_series(m, NULL, 0);
    bh_metric_record(h, 0.5);
    bh_metric_record(h, 0.75);
    bh_metric_record(h, 5);
    bh_metric_record(h, 11);
    EXPECT_STR(expose(false), "# HELP t_seconds Times.\n"
                              "# TYPE t_seconds histogram\n"
                              "t_seconds_bucket{le=\"0.5\"} 1\n"
                              "t_seconds_bucket{le=\"1\"} 2\n"
                              "t_seconds_bucket{le=\"10\"} 3\n"
                              "t_seconds_bucket{le=\"+Inf\"} 4\n"
                              "t_seconds_sum 17.25\n"
                              "t_seconds_count 4\n");
    EXPECT_HAS(expose(true), "# UNIT t_seconds seconds\n");
    EXPECT_HAS(expose(true), "t_seconds_bucket{le=\"1.0\"} 2\n");
    EXPECT_HAS(expose(true), "t_seconds_bucket{le=\"10.0\"} 3\n");
}

TEST(expose, exponential_histograms_show_powers_of_two)
{
    struct bh_series *h = NULL;
    const char       *t;

    EXPECT_EQ(bh_metric_histogram("h", "Help.", NULL, &h), 0);
    bh_metric_record(h, 3);
    t = expose(false);
    EXPECT_EQ(count_of(t, "h_bucket{"), 28); /* 2^-20 to 2^6, and above */
    EXPECT_HAS(t, "h_bucket{le=\"9.5367431640625e-07\"} 0\n");
    EXPECT_HAS(t, "h_bucket{le=\"2\"} 0\n");
    EXPECT_HAS(t, "h_bucket{le=\"4\"} 1\n");
    EXPECT_HAS(t, "h_bucket{le=\"64\"} 1\n");
}

TEST(expose, examples_are_in_openmetrics_only_and_in_their_bucket)
{
    struct bh_metric *m = NULL;
    struct bh_series *h = NULL;

    EXPECT_EQ(bh_metric_histogram("h", "Help.", NULL, &h), 0);
    EXPECT_EQ(bh_metric_new(
                  &(struct bh_metric_options){
                      .name = "c", .help = "Help.", .kind = BH_COUNTER, .exemplars = true },
                  &m),
              0);
    bh_tag_set(&(struct bh_tag){ .trace_id = { 0x4b }, .span_id = { 0xf0 }, .sampled = 1 });
    bh_metric_record(h, 3);
    bh_metric_record(h, 1000);
    bh_metric_add(bh_metric_series(m, NULL, 0), 2);
    EXPECT_EQ(count_of(expose(false), "trace_id"), 0);
    EXPECT_EQ(count_of(expose(true), "trace_id"), 3);
    EXPECT_HAS(text, "h_bucket{le=\"4.0\"} 1 # {trace_id=\"4b000000000000000000000000000000\","
                     "span_id=\"f000000000000000\"} 3 ");
    EXPECT_HAS(text, "h_bucket{le=\"+Inf\"} 2 # {trace_id=\"4b000000000000000000000000000000\","
                     "span_id=\"f000000000000000\"} 1000 ");
    EXPECT_HAS(text, "c_total 2 # {trace_id=");
}

TEST(expose, the_overflow_series_says_so)
{
    static const char *const labels[] = { "which", NULL };
    struct bh_metric        *m = NULL;

    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = "c",
                                                         .help = "Help.",
                                                         .kind = BH_COUNTER,
                                                         .labels = labels,
                                                         .max_series = 1 },
                            &m),
              0);
    bh_metric_add(bh_metric_with(m, "a"), 1);
    bh_metric_add(bh_metric_with(m, "b"), 2);
    EXPECT_HAS(expose(true),
               "c_total{which=\"a\"} 1\nc_total{otel_metric_overflow=\"true\"} 2\n");
}

TEST(expose, numbers_read_back_the_same)
{
    struct bh_series *g = NULL;
    uint64_t          seed = 11;

    EXPECT_EQ(bh_metric_gauge("g", "Help.", &g), 0);
    for (int i = 0; i < 3000; i++) {
        double d;

        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
        memcpy(&d, &seed, sizeof d);
        if (i < 5)
            d = (const double[]){ INFINITY, -INFINITY, NAN, 0, 0.1 }[i];
        bh_metric_set(g, d);
        d -= strtod(strstr(expose(false), "\ng ") + 3, NULL);
        EXPECT(i < 3 ? isnan(d) : d == 0 || isnan(d));
    }
    bh_metric_set(g, INFINITY);
    EXPECT_HAS(expose(false), "\ng +Inf\n");
    bh_metric_set(g, -INFINITY);
    EXPECT_HAS(expose(false), "\ng -Inf\n");
    bh_metric_set(g, NAN);
    EXPECT_HAS(expose(false), "\ng NaN\n");
}

/* ---- any value of a label comes back ---------------------------------------------- */

/* A reader of one label's value, by the format's description.  Returns: behind the closing quote. */
static const char *
read_value(const char *at, char *to)
{
    for (; *at != '"'; at++) {
        EXPECT(*at != '\0' && *at != '\n');
        if (*at != '\\') {
            *to++ = *at;
            continue;
        }
        at++;
        EXPECT(*at == '\\' || *at == '"' || *at == 'n');
        *to++ = *at == 'n' ? '\n' : *at;
    }
    *to = '\0';
    return at + 1;
}

TEST(expose, any_value_of_a_label_comes_back)
{
    enum { VALUES = 300 };
    static char       value[VALUES][256];
    struct bh_metric *m = labelled("c", "Help.", "v");
    uint64_t          seed = 2;

    for (int i = 0; i < VALUES; i++) {
        char raw[40];

        for (size_t k = 0; k < sizeof raw; k++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
            raw[k] = (char)(seed >> 63 ? "\\\"\n{},= \xc3\xa4\xff"[(seed >> 56) % 11]
                                       : (int)(seed >> 48 & 0xff));
        }
        raw[(seed >> 40) % sizeof raw] = '\0';
        (void)ob_utf8_copy(value[i], sizeof value[i], raw);
        bh_metric_add(bh_metric_with(m, raw), i + 1);
    }
    for (int format = 0; format < 2; format++) {
        const char *line = strstr(expose(format == 1), "\nc_total{v=\"");
        int         seen = 0;

        for (; line != NULL; line = strstr(line, "\nc_total{v=\""), seen++) {
            char        got[256];
            const char *end = read_value(line + strlen("\nc_total{v=\""), got);
            long        number;

            EXPECT_STARTS(end, "} ");
            number = strtol(end + 2, NULL, 10);
            line = end;
            /* Equal values share a series, whose number is then a sum. */
            EXPECT(number > VALUES || (number >= 1 && strcmp(value[number - 1], got) == 0) ||
                   seen < VALUES);
            if (number <= VALUES && strcmp(value[number - 1], got) != 0) {
                long sum = 0;

                for (int i = 0; i < VALUES; i++)
                    sum += strcmp(value[i], got) == 0 ? i + 1 : 0;
                EXPECT_EQ(sum, number);
            }
        }
        EXPECT(seen > VALUES / 2);
    }
}

/* ---- the page -------------------------------------------------------------------- */

static int
panic_now(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_panic("as %s does", c->path);
}

static int
answer(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_tag_set(&(struct bh_tag){ .trace_id = { 0xab }, .sampled = 1 });
    return bh_http_reply(c, 201, "%s", "0123456789");
}

static int
give_up(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_abort(c);
}

static void
serve(struct fixture *f)
{
    *f = (struct fixture){ .s = bh_http_server_new(NULL) };
    bh_http_observe(f->s, bh_http_metrics, NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /metrics", bh_http_metrics_page, NULL);
    bh_http_handle(f->s, "GET /panic", panic_now, NULL);
    bh_http_handle(f->s, "/items/{id}", answer, NULL);
    bh_http_handle(f->s, "GET /abort", give_up, NULL);
    fixture_start(f);
}

static const char *
get(struct fixture *f, const char *path, const char *fields)
{
    static char request[1024], reply[256 << 10];

    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", path, fields);
    (void)talk(f, request, reply, sizeof reply);
    return reply;
}

TEST_REAL(expose, the_page_is_in_the_format_that_is_wanted_most)
{
    static const struct {
        const char *accept;
        bool        openmetrics;
    } table[] = {
        { "", false },
        { "Accept: */*\r\n", false },
        { "Accept: text/plain\r\n", false },
        { "Accept: application/openmetrics-text\r\n", true },
        { "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
          "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n",
          true },
        { "Accept: text/plain;q=0.9, application/openmetrics-text;q=0.8\r\n", false },
        { "Accept: text/plain;q=0.7, application/openmetrics-text ; version=1.0.0; q=0.75\r\n",
          true },
        { "Accept: application/openmetrics-text;q=0\r\n", false },
        { "Accept: application/openmetrics-text;q=0.000, */*\r\n", false },
        { "Accept: application/openmetrics-textual\r\n", false },
        { "Accept: ,,;q=1,\r\n", false },
    };
    struct fixture f;

    serve(&f);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *reply = get(&f, "/metrics", table[i].accept);

        EXPECT_STARTS(reply, "HTTP/1.1 200 ");
        EXPECT_HAS(
            reply,
            table[i].openmetrics
                ? "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
                : "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
        EXPECT_HAS(reply, "Vary: Accept, Accept-Encoding\r\n");
        EXPECT_EQ(count_of(reply, "# EOF\n"), table[i].openmetrics);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(expose, the_page_is_gzipped_for_who_accepts_it)
{
    struct fixture       f;
    struct bh_conn      *c;
    static unsigned char packed[256 << 10];
    static char          plain[1 << 20], head[4096];
    z_stream             z = { .next_in = packed };
    size_t               used = 0, length;

    serve(&f);
    EXPECT(strstr(get(&f, "/metrics", "Accept-Encoding: br\r\n"), "Content-Encoding") == NULL);
    EXPECT(strstr(get(&f, "/metrics", "Accept-Encoding: gzip;q=0\r\n"), "Content-Encoding") ==
           NULL);
    c = fixture_dial(&f);
    send_text(c, "GET /metrics HTTP/1.1\r\nHost: h\r\nAccept-Encoding: deflate, gzip\r\n\r\n");
    while (used < 4 || memcmp(head + used - 4, "\r\n\r\n", 4) != 0)
        EXPECT_EQ(bh_read(c, head + used++, 1), 1);
    EXPECT_HAS(head, "Content-Encoding: gzip\r\n");
    length = strtoul(strstr(head, "Content-Length: ") + 16, NULL, 10);
    EXPECT(length < sizeof packed);
    EXPECT_EQ(bh_read_full(c, packed, length), length);
    bh_conn_free(c);
    z.avail_in = (unsigned)length;
    z.next_out = (unsigned char *)plain;
    z.avail_out = sizeof plain - 1;
    EXPECT_EQ(inflateInit2(&z, 15 + 16), Z_OK);
    EXPECT_EQ(inflate(&z, Z_FINISH), Z_STREAM_END);
    EXPECT_EQ(inflateEnd(&z), Z_OK);
    EXPECT_HAS(plain, "http_server_request_duration_seconds_count{");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- requests -------------------------------------------------------------------- */

TEST_REAL(http_metrics, requests_are_counted_by_route_status_and_error)
{
    struct fixture f;

    serve(&f);
    for (int i = 0; i < 3; i++)
        EXPECT_STARTS(get(&f, "/items/17", ""), "HTTP/1.1 201 ");
    EXPECT_STARTS(get(&f, "/panic", ""), "HTTP/1.1 500 ");
    EXPECT_STARTS(get(&f, "/nowhere/at/all", ""), "HTTP/1.1 404 ");
    (void)get(&f, "/abort", "");
    EXPECT_EQ(fixture_stop(&f), 0);
    expose(true);
#define COUNT                                                                                  \
    "http_server_request_duration_seconds_count{http_request_method=\"GET\",url_scheme="       \
    "\"http\","
    EXPECT_HAS(text, COUNT "http_route=\"/items/{id}\",http_response_status_code=\"201\","
                           "network_protocol_version=\"1.1\",error_type=\"\"} 3\n");
    EXPECT_HAS(text, COUNT "http_route=\"/panic\",http_response_status_code=\"500\","
                           "network_protocol_version=\"1.1\",error_type=\"panic\"} 1\n");
    EXPECT_HAS(text, COUNT "http_route=\"\",http_response_status_code=\"404\","
                           "network_protocol_version=\"1.1\",error_type=\"\"} 1\n");
    EXPECT_HAS(text, "http_route=\"/abort\"");
    EXPECT_HAS(
        text,
        "http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} 0\n");
    EXPECT_HAS(
        text,
        "http_server_response_body_size_bytes_sum{http_request_method=\"GET\","
        "url_scheme=\"http\",http_route=\"/items/{id}\",http_response_status_code=\"201\","
        "network_protocol_version=\"1.1\",error_type=\"\"} 30\n");
    EXPECT_HAS(text, "trace_id=\"ab00"); /* the handler's */
}

TEST_REAL(http_metrics, methods_of_the_clients_invention_are_one)
{
    struct fixture f;
    char           reply[4096];

    serve(&f);
    for (int i = 0; i < 5; i++) {
        char request[128];

        snprintf(request, sizeof request, "ODD%d /items/1 HTTP/1.1\r\nHost: h\r\n\r\n", i);
        (void)talk(&f, request, reply, sizeof reply);
        EXPECT_STARTS(reply, "HTTP/1.1 501 ");
    }
    (void)talk(&f, "POST /items/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345", reply,
               sizeof reply);
    EXPECT_EQ(fixture_stop(&f), 0);
    expose(false);
    EXPECT_HAS(text, "_seconds_count{http_request_method=\"_OTHER\",url_scheme=\"http\","
                     "http_route=\"\",http_response_status_code=\"501\","
                     "network_protocol_version=\"1.1\",error_type=\"501\"} 5\n");
    EXPECT_EQ(count_of(text, "ODD"), 0);
    EXPECT_HAS(text, "http_server_request_body_size_bytes_sum{http_request_method=\"POST\",");
    EXPECT_HAS(text, "error_type=\"\"} 5\n");
}

TEST_REAL(http_metrics, what_makes_no_sense_as_a_request_is_counted_too)
{
    struct fixture f;
    char           reply[4096];

    serve(&f);
    (void)talk(&f, "GET  HTTP/1.1\r\n\r\n", reply, sizeof reply);
    EXPECT_STARTS(reply, "HTTP/1.1 400 ");
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_HAS(expose(false), "http_response_status_code=\"400\"");
}
