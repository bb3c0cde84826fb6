/*
 * page_test.c -- event streams and WebSockets as a page in Chromium sees them: it runs a script
 * and tells its findings in a last request.
 */
#include "http_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/http/sse.h>
#include <bulkhead/http/ws.h>

/*
 * The stream ends after two events; the browser comes back with the id of the last, and gets
 * the third.  The socket echoes; a page of another origin could not open it.
 */
static const char page[] =
    "<script>\n"
    "const found = [];\n"
    "function tell() { fetch('/found', { method: 'POST', body: found.join('|') }); }\n"
    "function socket() {\n"
    "  const ws = new WebSocket(`ws://${location.host}/ws`, ['other', 'chat']);\n"
    "  const text = 'grüße '.repeat(2000);\n"
    "  ws.binaryType = 'arraybuffer';\n"
    "  ws.onopen = () => { found.push(ws.protocol, ws.extensions); ws.send(text); };\n"
    "  ws.onmessage = (e) => {\n"
    "    if (typeof e.data === 'string') {\n"
    "      found.push(e.data === text);\n"
    "      ws.send(new Uint8Array(70000));\n"
    "    } else {\n"
    "      found.push(e.data.byteLength);\n"
    "      ws.send('bye');\n"
    "    }\n"
    "  };\n"
    "  ws.onclose = (e) => { found.push(e.code, e.reason, e.wasClean); tell(); };\n"
    "}\n"
    "const es = new EventSource('/events');\n"
    "es.addEventListener('tick', (e) => {\n"
    "  found.push(`${e.lastEventId}:${e.data.replace('\\n', '/')}`);\n"
    "  if (e.lastEventId === '3') { es.close(); socket(); }\n"
    "});\n"
    "</script>\n";

static int
show(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply_bytes(c, 200, "text/html; charset=utf-8", page, sizeof page - 1);
}

static int
events(struct bh_http_call *c, void *arg)
{
    long last = strtol(bh_http_last_event_id(c), NULL, 10);
    int  rc = bh_http_sse(c);

    (void)arg;
    for (int i = 1; i <= 2 && rc == 0; i++) {
        char id[24];

        snprintf(id, sizeof id, "%ld", last + i);
        rc = bh_http_sse_send(c, &(struct bh_http_event){ .event = "tick",
                                                          .id = id,
                                                          .data = "one\ntwo",
                                                          .retry = 10 * BH_MILLISECOND });
    }
    return rc;
}

static int
talk_back(struct bh_http_call *c, void *arg)
{
    static const char *const protocols[] = { "chat", NULL };
    struct bh_ws_message     m;
    struct bh_ws            *ws;
    int rc = bh_ws_accept(c, &(struct bh_ws_options){ .deflate = true, .protocols = protocols },
                          &ws);

    (void)arg;
    if (rc < 0)
        return rc;
    while (bh_ws_read(ws, &m) == 0)
        if (m.kind == BH_WS_TEXT && strcmp(m.data, "bye") == 0)
            (void)bh_ws_close(ws, 4242, "bye");
        else
            (void)bh_ws_write(ws, m.kind, m.data, m.size);
    return 0;
}

static int
found(struct bh_http_call *c, void *arg)
{
    const char *body;
    ssize_t     size = bh_http_body(c, &body);
    char       *copy = size < 0 ? NULL : strdup(body);

    bh_send((struct bh_chan *)arg, &copy);
    return bh_http_reply(c, 200, "thanks\n");
}

/* A browser of our own, with nothing but this page. */
static pid_t
browse(const char *address, const char *profile)
{
    pid_t pid = fork();
    char  url[64], data[80];

    if (pid != 0)
        return pid;
    (void)setpgid(0, 0);
    snprintf(url, sizeof url, "http://%s/", address);
    snprintf(data, sizeof data, "--user-data-dir=%s", profile);
    (void)freopen("/dev/null", "w", stderr);
    execl("/usr/bin/chromium", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
          "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0", data, url,
          (char *)NULL);
    _exit(127);
}

static void
wait_for(void *arg)
{
    (void)waitpid(*(pid_t *)arg, NULL, 0);
}

TEST_REAL(page, a_browser_hears_events_comes_back_for_more_and_talks_by_websocket)
{
    struct bh_chan *chan = BH_CHAN(char *, 1);
    struct fixture  f = { .s = bh_http_server_new(
                              &(struct bh_http_options){ .drain_timeout = BH_SECOND }) };
    char            profile[] = "/tmp/bulkhead_page_XXXXXX", command[64], *text = NULL;
    pid_t           pid;

    EXPECT(mkdtemp(profile) != NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", show, NULL);
    bh_http_handle(f.s, "GET /events", events, NULL);
    bh_http_handle(f.s, "GET /ws", talk_back, NULL);
    bh_http_handle(f.s, "POST /found", found, chan);
    fixture_start(&f);
    pid = browse(bh_http_address(f.s), profile);
    EXPECT(bh_recv(chan, &text));
    kill(-pid, SIGKILL);
    bh_blocking(wait_for, &pid);
    EXPECT_STR(
        text, "1:one/two|2:one/two|3:one/two|chat|permessage-deflate|true|70000|4242|bye|true");
    free(text);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(chan);
    snprintf(command, sizeof command, "rm -rf %s", profile);
    EXPECT_EQ(system(command), 0);
}
