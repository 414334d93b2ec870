/* The upstream of the benchmark: an OpenAI-like server in one epoll thread, far faster than any gateway.
 *
 *   mock PORT[:GAP_US[:BYTES]] ...
 *
 * Any POST is answered, whatever its path. A body with "stream":true gets an SSE stream: 100 content events, each one
 * HTTP chunk and one write(2), then finish reason, usage and [DONE]. GAP_US is the pause before each event (0: none).
 * The text of each content event is "@" and the monotonic time of its sending in ns, 19 digits, so that the client can
 * tell how old an event is when it arrives. Any other body gets a JSON completion of 560 bytes, or of BYTES bytes.
 * Keep-alive and pipelining work; requests must carry Content-Length (chunked ones are answered 411). */
#define _GNU_SOURCE
#include "common.h"

#define MAX_LISTENERS 16
#define MAX_REQUEST (32 << 20)
#define FIRST_BUFFER 16384
#define EVENT_ROOM 1024
#define STAMP_DIGITS 19

typedef enum { LISTENER, CONNECTION } Kind;

typedef struct Connection Connection;

typedef struct {
    Kind kind; /* first, so that an epoll event can be told apart */
    int fd;
    int64_t gap_ns;
    char *answer; /* the whole JSON answer with its head */
    size_t answer_len;
    /* Streams waiting for their next event. All have the same gap, so a plain queue is in order of time. */
    Connection *first, *last;
} Listener;

struct Connection {
    Kind kind;
    int fd;
    Listener *listener;
    char *in; /* received and not yet answered; one spare byte for a NUL */
    size_t in_len, in_room;
    const char *out; /* being sent */
    size_t out_len, out_sent;
    char event[EVENT_ROOM];
    bool streaming;
    int next_event;
    int64_t due; /* when the next event goes out */
    Connection *next;
    bool queued, closed, waits_for_room;
};

static int epoll;
static Listener listeners[MAX_LISTENERS];
static int listener_count;

static const char SSE_HEAD[] =
    "HTTP/1.1 200 OK\r\nServer: mock\r\nDate: Sat, 21 Nov 2026 20:00:00 GMT\r\nContent-Type: text/event-stream\r\n"
    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
static const char LENGTH_REQUIRED[] = "HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
static const char EVENT_FORMAT[] =
    "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
    "\"model\":\"up-model\",\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]%s}\n\n";

static char content_event[EVENT_ROOM]; /* a ready HTTP chunk whose stamp is overwritten for each event */
static size_t content_event_len, stamp_at;
static char last_events[3 * EVENT_ROOM];
static size_t last_events_len;

/* --- what is sent -------------------------------------------------------------------------------------------- */

static size_t as_chunk(char *to, size_t room, const char *data) {
    return snprintf(to, room, "%zx\r\n%s\r\n", strlen(data), data);
}

static void prepare_events(void) {
    char text[EVENT_ROOM];
    snprintf(text, sizeof text, EVENT_FORMAT, "\"content\":\"@0000000000000000000\"", "null", "");
    content_event_len = as_chunk(content_event, sizeof content_event, text);
    stamp_at = strchr(content_event, '@') + 1 - content_event;
    snprintf(text, sizeof text, EVENT_FORMAT, "", "\"stop\"", "");
    last_events_len = as_chunk(last_events, EVENT_ROOM, text);
    last_events_len += as_chunk(
        last_events + last_events_len, EVENT_ROOM,
        "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
        "\"model\":\"up-model\",\"choices\":[],\"usage\":{\"prompt_tokens\":211,\"completion_tokens\":100,"
        "\"total_tokens\":311}}\n\n");
    last_events_len += as_chunk(last_events + last_events_len, EVENT_ROOM, "data: [DONE]\n\n");
    last_events_len += sprintf(last_events + last_events_len, "0\r\n\r\n");
}

/* The JSON answer of a listener, its text padded until the body has `bytes` bytes (never less than it needs). */
static void prepare_answer(Listener *l, size_t bytes) {
    static const char start[] =
        "{\"id\":\"chatcmpl-AbCdEf0123456789\",\"object\":\"chat.completion\",\"created\":1700000000,"
        "\"model\":\"up-model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The capital "
        "of France is Paris. It is the largest city of the country and has been its political and cultural centre for "
        "centuries; most visitors start with the Louvre, the Seine and the Eiffel Tower.";
    static const char end[] =
        "\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":211,"
        "\"completion_tokens\":42,\"total_tokens\":253,\"prompt_tokens_details\":{\"cached_tokens\":0}},"
        "\"system_fingerprint\":\"fp_44709d6fcb\"}";
    size_t needed = sizeof start - 1 + sizeof end - 1;
    size_t padding = bytes > needed ? bytes - needed : 0;
    l->answer = malloc(needed + padding + 1024);
    char *to = l->answer;
    to += sprintf(to,
                  "HTTP/1.1 200 OK\r\nServer: mock\r\nDate: Sat, 21 Nov 2026 20:00:00 GMT\r\n"
                  "Content-Type: application/json\r\nContent-Length: %zu\r\nConnection: keep-alive\r\n"
                  "X-Request-Id: req_0123456789abcdef\r\n\r\n%s",
                  needed + padding, start);
    for (size_t i = 0; i < padding; i++) *to++ = " lorem ipsum"[i % 12];
    to += sprintf(to, "%s", end);
    l->answer_len = to - l->answer;
}

static void send_next(Connection *c, const char *data, size_t n) {
    c->out = data;
    c->out_len = n;
    c->out_sent = 0;
}

/* Makes the next event of the stream the thing being sent, stamped with the time. */
static void send_next_event(Connection *c) {
    if (c->next_event++ >= EVENTS_PER_STREAM) {
        send_next(c, last_events, last_events_len);
        return;
    }
    memcpy(c->event, content_event, content_event_len);
    int64_t stamp = now_ns();
    for (int i = STAMP_DIGITS - 1; i >= 0; i--, stamp /= 10) c->event[stamp_at + i] = '0' + stamp % 10;
    send_next(c, c->event, content_event_len);
}

/* --- connections --------------------------------------------------------------------------------------------- */

static void release(Connection *c) {
    free(c->in);
    free(c);
}

static void close_connection(Connection *c) {
    close(c->fd);
    c->closed = true;
    if (!c->queued) release(c); /* otherwise the queue releases it */
}

static void wait_for_room(Connection *c, bool on) {
    if (c->waits_for_room == on) return;
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
    c->waits_for_room = on;
}

typedef enum { ALL_SENT, BLOCKED, FAILED } Sending;

static Sending flush(Connection *c) {
    while (c->out_sent < c->out_len) {
        ssize_t n = write(c->fd, c->out + c->out_sent, c->out_len - c->out_sent);
        if (n < 0 && errno != EAGAIN) return FAILED;
        if (n < 0) {
            wait_for_room(c, true);
            return BLOCKED;
        }
        c->out_sent += n;
    }
    wait_for_room(c, false);
    return ALL_SENT;
}

static void queue_next_event(Connection *c) {
    Listener *l = c->listener;
    c->due += l->gap_ns;
    /* A stream that was blocked by its reader is behind; it joins at the end so that the queue stays in order. */
    if (l->first && c->due < l->last->due) c->due = l->last->due;
    c->next = NULL;
    if (l->first) l->last->next = c;
    else l->first = c;
    l->last = c;
    c->queued = true;
}

/* Takes one whole request out of what was received and starts its answer; false if there is none yet. */
static bool take_request(Connection *c) {
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end) return false;
    size_t head = end + 4 - c->in, body = 0;
    char kept = c->in[head];
    c->in[head] = 0;
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    bool chunked = strcasestr(c->in, "\r\ntransfer-encoding:") != NULL;
    c->in[head] = kept;
    if (chunked) {
        send_next(c, LENGTH_REQUIRED, sizeof LENGTH_REQUIRED - 1);
        c->in_len = 0;
        return true;
    }
    if (length) body = strtoul(length + 17, NULL, 10);
    if (c->in_len < head + body) return false;
    c->streaming = memmem(c->in + head, body, "\"stream\":true", 13) || memmem(c->in + head, body, "\"stream\": true", 14);
    c->in_len -= head + body;
    memmove(c->in, c->in + head + body, c->in_len);
    if (c->streaming) {
        c->next_event = 0;
        c->due = now_ns();
        send_next(c, SSE_HEAD, sizeof SSE_HEAD - 1);
    } else {
        send_next(c, c->listener->answer, c->listener->answer_len);
    }
    return true;
}

/* Goes on with a connection as far as it can without waiting. May release it. */
static void advance(Connection *c) {
    for (;;) {
        Sending sending = flush(c);
        if (sending == FAILED) close_connection(c);
        if (sending != ALL_SENT) return;
        if (c->streaming && c->next_event > EVENTS_PER_STREAM) c->streaming = false;
        if (!c->streaming) {
            if (!take_request(c)) return;
        } else if (c->listener->gap_ns) {
            if (!c->queued) queue_next_event(c);
            return;
        } else {
            send_next_event(c);
        }
    }
}

static void receive(Connection *c) {
    if (c->in_len == c->in_room) {
        c->in_room *= 2;
        if (c->in_room > MAX_REQUEST) {
            close_connection(c);
            return;
        }
        c->in = realloc(c->in, c->in_room + 1);
    }
    ssize_t n = read(c->fd, c->in + c->in_len, c->in_room - c->in_len);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        close_connection(c);
    } else if (n > 0) {
        c->in_len += n;
        if (!c->streaming && c->out_sent == c->out_len) advance(c);
    }
}

static void accept_all(Listener *l) {
    int fd;
    while ((fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        set_nodelay(fd);
        Connection *c = calloc(1, sizeof *c);
        c->kind = CONNECTION;
        c->fd = fd;
        c->listener = l;
        c->in_room = FIRST_BUFFER;
        c->in = malloc(c->in_room + 1);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    }
}

static void send_due_events(Listener *l, int64_t now) {
    while (l->first && l->first->due <= now) {
        Connection *c = l->first;
        l->first = c->next;
        c->queued = false;
        if (c->closed) {
            release(c);
        } else {
            send_next_event(c);
            advance(c);
        }
    }
}

/* --- set up -------------------------------------------------------------------------------------------------- */

static void listen_on(const char *spec) {
    int port = 0, gap_us = 0, one = 1;
    size_t bytes = 0;
    if (listener_count == MAX_LISTENERS || sscanf(spec, "%d:%d:%zu", &port, &gap_us, &bytes) < 1) {
        fprintf(stderr, "usage: mock PORT[:GAP_US[:BYTES]] ... (at most %d)\n", MAX_LISTENERS);
        exit(2);
    }
    Listener *l = &listeners[listener_count++];
    l->kind = LISTENER;
    l->gap_ns = gap_us * 1000LL;
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = loopback(port);
    if (bind(l->fd, (void *)&a, sizeof a) || listen(l->fd, 4096)) die(spec);
    prepare_answer(l, bytes);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    epoll_ctl(epoll, EPOLL_CTL_ADD, l->fd, &e);
}

int main(int argc, char **argv) {
    prepare_process();
    epoll = epoll_create1(0);
    prepare_events();
    for (int i = 1; i < argc; i++) listen_on(argv[i]);
    static struct epoll_event events[512];
    for (;;) {
        int64_t soonest = -1, now = now_ns();
        for (int i = 0; i < listener_count; i++) {
            Listener *l = &listeners[i];
            send_due_events(l, now);
            if (l->first && (soonest < 0 || l->first->due < soonest)) soonest = l->first->due;
        }
        int n = wait_events(epoll, events, 512, soonest);
        for (int i = 0; i < n; i++) {
            if (*(Kind *)events[i].data.ptr == LISTENER) {
                accept_all(events[i].data.ptr);
                continue;
            }
            Connection *c = events[i].data.ptr;
            if (c->closed) continue;
            /* Either may release the connection, so only one of them runs; epoll tells the other again. */
            if (events[i].events & EPOLLOUT) advance(c);
            else receive(c);
        }
    }
}
