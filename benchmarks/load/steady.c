/* A client that sends plain requests at a fixed rate, whatever the answers do (open loop).
 *
 *   steady PORT REQUEST_FILE CONNECTIONS RATE SECONDS
 *
 * Request k is due at k/RATE seconds and goes out on the connection that has been idle longest, or on the next one that
 * gets free. Its latency counts from the moment it was due, so a stall is charged to every request it delays.
 * Failed: any answer but a complete 200. Prints one line of JSON; ends with 1 if any request failed. */
#define _GNU_SOURCE
#include "response.h"

#define TOO_MANY_FAILED 1000
#define GRACE_NS (5 * NS_PER_SECOND)

typedef struct {
    int fd;
    Response response;
    bool active;
    int64_t due;
} Client;

static int port, epoll;
static Histogram latency;
static int64_t total, sent, answered, failed, started_at;

/* Idle connections, the longest idle first. */
static Client **idle;
static int idle_first, idle_count, idle_room;

static void put_idle(Client *c) {
    c->active = false;
    idle[(idle_first + idle_count++) % idle_room] = c;
}

static Client *take_idle(void) {
    Client *c = idle[idle_first];
    idle_first = (idle_first + 1) % idle_room;
    idle_count--;
    return c;
}

static void register_client(Client *c) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    c->fd = connect_loopback(port);
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
}

static void print_result(void) {
    double seconds = (now_ns() - started_at) / (double)NS_PER_SECOND;
    printf("{\"seconds\":%.3f,\"requests\":%ld,\"failed\":%ld,\"unsent\":%ld,\"p50\":%ld,\"p99\":%ld}\n", seconds, answered,
           failed, total - sent, percentile_us(&latency, .5), percentile_us(&latency, .99));
}

static void count_failed(Client *c, const char *why) {
    if (!failed++) fprintf(stderr, "first failed request: %s\n%.300s\n", why, c->response.head);
    if (failed > TOO_MANY_FAILED) {
        print_result();
        exit(1);
    }
    close(c->fd);
    register_client(c);
}

static void ignore_body(void *owner, const char *data, size_t n) {
    (void)owner;
    (void)data;
    (void)n;
}

static void read_answer(Client *c) {
    static char buffer[65536];
    ssize_t n = read(c->fd, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 && !c->active) { /* an idle connection was closed: allowed, open it anew */
        close(c->fd);
        register_client(c);
        return;
    }
    if (n <= 0) {
        count_failed(c, "closed early");
        put_idle(c);
        return;
    }
    response_feed(&c->response, buffer, n, ignore_body, c);
    if (c->response.state == BROKEN) {
        count_failed(c, "framing");
    } else if (c->response.state != COMPLETE) {
        return;
    } else if (c->response.status != 200) {
        count_failed(c, "status");
    } else {
        answered++;
        record_ns(&latency, now_ns() - c->due);
    }
    put_idle(c);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: steady PORT REQUEST_FILE CONNECTIONS RATE SECONDS\n");
        return 2;
    }
    prepare_process();
    port = atoi(argv[1]);
    size_t request_len;
    char *request = read_whole(argv[2], &request_len);
    int count = idle_room = atoi(argv[3]);
    double gap_ns = NS_PER_SECOND / atof(argv[4]);
    total = (int64_t)(atof(argv[4]) * atof(argv[5]));
    latency = new_histogram();
    epoll = epoll_create1(0);
    idle = calloc(count, sizeof *idle);
    Client *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) {
        register_client(&all[i]);
        put_idle(&all[i]);
    }

    started_at = now_ns();
    int64_t give_up = started_at + (int64_t)(gap_ns * total) + GRACE_NS;
    static struct epoll_event events[512];
    while (answered + failed < total && now_ns() < give_up) {
        int64_t due = started_at + (int64_t)(gap_ns * sent);
        while (sent < total && idle_count && due <= now_ns()) {
            Client *c = take_idle();
            c->due = due;
            c->active = true;
            response_reset(&c->response);
            if (write(c->fd, request, request_len) != (ssize_t)request_len) die("write");
            due = started_at + (int64_t)(gap_ns * ++sent);
        }
        int n = wait_events(epoll, events, 512, sent < total && idle_count ? due : now_ns() + NS_PER_SECOND / 10);
        for (int i = 0; i < n; i++) read_answer(events[i].data.ptr);
    }
    failed = sent - answered; /* those never answered too */
    print_result();
    return failed != 0;
}
