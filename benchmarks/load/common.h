/* What the three load programs share: clock, loopback sockets, latency histogram. Linux only. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Every stream of the mock upstream has this many content events; the stream client counts them. */
#define EVENTS_PER_STREAM 100

#define NS_PER_SECOND 1000000000LL

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_SECOND + t.tv_nsec;
}

/* Once at the start: a closed peer is an error of write(2), not a signal; timed waits are not rounded up by 50 us. */
static inline void prepare_process(void) {
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

/* epoll_wait until an event or until `until_ns` (monotonic; negative: no limit). */
static inline int wait_events(int epoll, struct epoll_event *events, int room, int64_t until_ns) {
    struct timespec limit, *limit_or_none = NULL;
    if (until_ns >= 0) {
        int64_t left = until_ns - now_ns();
        if (left < 0) left = 0;
        limit = (struct timespec){.tv_sec = left / NS_PER_SECOND, .tv_nsec = left % NS_PER_SECOND};
        limit_or_none = &limit;
    }
    int n = epoll_pwait2(epoll, events, room, limit_or_none, NULL);
    return n < 0 ? 0 : n;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static inline void set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* A connected, non-blocking socket to 127.0.0.1:port; ends the program if nobody listens there. */
static inline int connect_loopback(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = loopback(port);
    if (fd < 0 || connect(fd, (void *)&a, sizeof a)) die("connect");
    set_nodelay(fd);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* The whole file, NUL-terminated; its size in *len. */
static inline char *read_whole(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    if (!f) die(path);
    fseek(f, 0, SEEK_END);
    *len = ftell(f);
    rewind(f);
    char *data = malloc(*len + 1);
    if (fread(data, 1, *len, f) != *len) die(path);
    data[*len] = 0;
    fclose(f);
    return data;
}

/* Counts of latencies in whole microseconds; 2 s and more fall into the last bucket. */
#define HISTOGRAM_US 2000000

typedef struct {
    uint32_t *buckets;
    int64_t count;
} Histogram;

static inline Histogram new_histogram(void) {
    return (Histogram){.buckets = calloc(HISTOGRAM_US, sizeof(uint32_t)), .count = 0};
}

static inline void record_ns(Histogram *h, int64_t ns) {
    int64_t us = ns / 1000;
    if (us < 0) us = 0;
    if (us >= HISTOGRAM_US) us = HISTOGRAM_US - 1;
    h->buckets[us]++;
    h->count++;
}

/* The latency in us that the fraction `p` of all records does not exceed; -1 without records. */
static inline int64_t percentile_us(const Histogram *h, double p) {
    int64_t rank = (int64_t)(h->count * p), seen = 0;
    for (int64_t us = 0; us < HISTOGRAM_US; us++) {
        seen += h->buckets[us];
        if (seen > rank) return us;
    }
    return -1;
}

#endif
