/* A client that reads many SSE streams at once and measures how old each event is when it arrives.
 *
 *   streams PORT REQUEST_FILE CONNECTIONS SECONDS RAMP_MS
 *
 * Each connection sends the bytes of REQUEST_FILE (a whole HTTP request) again and again until SECONDS are over, then
 * finishes its last stream. The first requests are spread over RAMP_MS. A stream is broken unless it is a 200 with
 * exactly 100 stamped events and [DONE], completely framed; a broken connection is opened anew. Prints one line of JSON;
 * ends with 1 if any stream was broken. */
#define _GNU_SOURCE
#include "response.h"

#define TEXT_ROOM 65536
#define TOO_MANY_BROKEN 1000
#define GRACE_NS (15 * NS_PER_SECOND) /* for the last streams after the end */
#define STAMP_DIGITS 19

typedef struct {
    int fd;
    Response response;
    int events;
    bool done; /* [DONE] was seen */
    bool active;
    int64_t sent_at;
    char text[TEXT_ROOM + 1]; /* body bytes not yet seen as whole events */
    size_t text_len;
} Stream;

static int port, epoll;
static const char *request;
static size_t request_len;
static Histogram age, first_event;
static int64_t streams_done, events_seen, broken, reads, read_at, started_at;

static void register_stream(Stream *s) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    s->fd = connect_loopback(port);
    epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &e);
}

static void send_request(Stream *s) {
    response_reset(&s->response);
    s->events = 0;
    s->done = false;
    s->active = true;
    s->text_len = 0;
    s->sent_at = now_ns();
    if (write(s->fd, request, request_len) != (ssize_t)request_len) die("write");
}

static void take_event(Stream *s, const char *event, size_t n) {
    const char *stamp = memmem(event, n, "\"@", 2);
    if (stamp && event + n - stamp > 2 + STAMP_DIGITS) {
        if (!s->events++) record_ns(&first_event, read_at - s->sent_at);
        record_ns(&age, read_at - strtoll(stamp + 2, NULL, 10));
        events_seen++;
    } else if (memmem(event, n, "data: [DONE]", 12)) {
        s->done = true;
    }
}

static void take_text(void *owner, const char *data, size_t n) {
    Stream *s = owner;
    if (s->text_len + n > TEXT_ROOM) {
        s->response.state = BROKEN;
        return;
    }
    memcpy(s->text + s->text_len, data, n);
    s->text_len += n;
    s->text[s->text_len] = 0;
}

static void take_whole_events(Stream *s) {
    char *from = s->text, *end = s->text + s->text_len, *gap;
    while ((gap = memmem(from, end - from, "\n\n", 2))) {
        take_event(s, from, gap - from);
        from = gap + 2;
    }
    s->text_len = end - from;
    memmove(s->text, from, s->text_len);
}

static void print_result(void) {
    double seconds = (now_ns() - started_at) / (double)NS_PER_SECOND;
    printf("{\"seconds\":%.3f,\"streams\":%ld,\"events\":%ld,\"broken\":%ld,\"reads\":%ld,\"p50\":%ld,\"p99\":%ld,"
           "\"first_p50\":%ld,\"first_p99\":%ld}\n",
           seconds, streams_done, events_seen, broken, reads, percentile_us(&age, .5), percentile_us(&age, .99),
           percentile_us(&first_event, .5), percentile_us(&first_event, .99));
}

static void count_broken(Stream *s, const char *why) {
    if (!broken++) fprintf(stderr, "first broken stream: %s after %d events\n%.300s\n", why, s->events, s->response.head);
    if (broken > TOO_MANY_BROKEN) {
        print_result();
        exit(1);
    }
    close(s->fd);
    register_stream(s);
}

/* Reads what has come; true if the stream is over, well or broken. */
static bool read_stream(Stream *s) {
    static char buffer[65536];
    ssize_t n = read(s->fd, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) {
        if (!s->active) { /* an idle keep-alive connection may be closed at any time */
            epoll_ctl(epoll, EPOLL_CTL_DEL, s->fd, NULL);
            return false;
        }
        count_broken(s, "closed early");
        return true;
    }
    reads++;
    read_at = now_ns();
    response_feed(&s->response, buffer, n, take_text, s);
    take_whole_events(s);
    if (s->response.state == BROKEN) {
        count_broken(s, "framing");
    } else if (s->response.state != COMPLETE) {
        return false;
    } else if (s->response.status != 200) {
        count_broken(s, "status");
    } else if (s->events != EVENTS_PER_STREAM || !s->done) {
        count_broken(s, "events missing or too many");
    } else {
        streams_done++;
    }
    return true;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: streams PORT REQUEST_FILE CONNECTIONS SECONDS RAMP_MS\n");
        return 2;
    }
    prepare_process();
    port = atoi(argv[1]);
    request = read_whole(argv[2], &request_len);
    int count = atoi(argv[3]), started = 0, active = 0;
    int64_t ramp_ns = atoi(argv[5]) * 1000000LL;
    age = new_histogram();
    first_event = new_histogram();
    epoll = epoll_create1(0);
    Stream *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) register_stream(&all[i]);

    started_at = now_ns();
    int64_t end = started_at + (int64_t)(atof(argv[4]) * NS_PER_SECOND);
    static struct epoll_event events[512];
    while (active || now_ns() < end || started < count) {
        int64_t now = now_ns();
        for (; started < count && now - started_at >= ramp_ns * started / count; started++, active++) {
            send_request(&all[started]);
        }
        if (now > end + GRACE_NS) {
            fprintf(stderr, "%d streams did not end\n", active);
            broken += active;
            break;
        }
        int64_t wake = started < count ? started_at + ramp_ns * started / count : now + NS_PER_SECOND / 10;
        int n = wait_events(epoll, events, 512, wake);
        for (int i = 0; i < n; i++) {
            Stream *s = events[i].data.ptr;
            if (!read_stream(s)) continue;
            s->active = false;
            if (now_ns() < end) send_request(s);
            else active--;
        }
    }
    print_result();
    return broken != 0;
}
