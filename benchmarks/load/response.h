/* An incremental reader of HTTP/1.1 answers with Content-Length or chunked framing.
 * Strict on purpose: whatever it does not expect makes the answer BROKEN. */
#ifndef BENCH_RESPONSE_H
#define BENCH_RESPONSE_H

#include "common.h"

#define HEAD_LIMIT 8192

typedef enum { HEAD, BY_LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, COMPLETE, BROKEN } ResponseState;

typedef struct {
    ResponseState state;
    int status;
    size_t left;      /* bytes of the body or of the chunk still to come */
    bool in_extension; /* behind the ';' of a chunk-size line */
    size_t line;      /* length of the trailer line so far */
    size_t head_len;
    char head[HEAD_LIMIT + 1];
} Response;

typedef void (*BodySink)(void *owner, const char *data, size_t n);

static inline void response_reset(Response *r) {
    r->state = HEAD;
    r->status = 0;
    r->left = r->line = r->head_len = 0;
    r->in_extension = false;
}

static inline void response_parse_head(Response *r) {
    r->head[r->head_len] = 0;
    if (strncmp(r->head, "HTTP/1.1 ", 9)) {
        r->state = BROKEN;
        return;
    }
    r->status = atoi(r->head + 9);
    char *length = strcasestr(r->head, "\r\ncontent-length:");
    if (strcasestr(r->head, "\r\ntransfer-encoding: chunked")) {
        r->state = CHUNK_SIZE;
        r->left = 0;
    } else if (length) {
        r->left = strtoul(length + 17, NULL, 10);
        r->state = r->left ? BY_LENGTH : COMPLETE;
    } else {
        r->state = BROKEN;
    }
}

/* Takes bytes into the head up to its empty line; returns how many it took. */
static inline size_t response_take_head(Response *r, const char *data, size_t n) {
    size_t i = 0;
    while (i < n && r->state == HEAD) {
        if (r->head_len == HEAD_LIMIT) {
            r->state = BROKEN;
            break;
        }
        r->head[r->head_len++] = data[i++];
        if (data[i - 1] == '\n' && r->head_len >= 4 && !memcmp(r->head + r->head_len - 4, "\r\n\r\n", 4)) {
            response_parse_head(r);
        }
    }
    return i;
}

/* One byte of a chunk-size line, of the line end after a chunk, or of the trailer. */
static inline void response_take_framing(Response *r, char x) {
    if (r->state == CHUNK_END) {
        if (x == '\n') r->state = CHUNK_SIZE, r->left = 0, r->in_extension = false;
        else if (x != '\r') r->state = BROKEN;
    } else if (r->state == TRAILER) {
        if (x == '\n') {
            if (r->line == 0) r->state = COMPLETE;
            r->line = 0;
        } else if (x != '\r') {
            r->line++;
        }
    } else if (x == '\n') {
        r->state = r->left ? CHUNK_DATA : TRAILER;
    } else if (x == ';') {
        r->in_extension = true;
    } else if (x != '\r' && !r->in_extension) {
        int digit = x >= '0' && x <= '9' ? x - '0' : (x | 32) >= 'a' && (x | 32) <= 'f' ? (x | 32) - 'a' + 10 : -1;
        if (digit < 0) r->state = BROKEN;
        else r->left = r->left * 16 + digit;
    }
}

/* Feeds received bytes; body bytes go to `sink`. Bytes after the end of the answer make it BROKEN. */
static inline void response_feed(Response *r, const char *data, size_t n, BodySink sink, void *owner) {
    size_t i = r->state == HEAD ? response_take_head(r, data, n) : 0;
    while (i < n && r->state != BROKEN) {
        if (r->state == COMPLETE) {
            r->state = BROKEN;
        } else if (r->state == BY_LENGTH || r->state == CHUNK_DATA) {
            size_t part = n - i < r->left ? n - i : r->left;
            sink(owner, data + i, part);
            i += part;
            r->left -= part;
            if (!r->left) r->state = r->state == BY_LENGTH ? COMPLETE : CHUNK_END;
        } else {
            response_take_framing(r, data[i++]);
        }
    }
}

#endif
