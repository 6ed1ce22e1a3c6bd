/*
 * direct.c - see direct.h.
 *
 * Invariants: blocks are filled and written in turn; `full` of them wait for the writer, which owns the first of these;
 * the caller owns the others and fills the one behind. Once `failed` is set nothing more is written. Only a whole block
 * is written directly: the last one, which is shorter, goes through the page cache.
 */
#include "direct.h"

#include <errno.h>
#include <stdlib.h>

#include "parallel.h"

enum { BLOCK = 1 << 20, BLOCKS = 2, ALIGNMENT = 4096 };

struct ckpt_direct {
  const ckpt_io *io;
  int fd;
  bool direct, closed;                  /* direct: the file is in that mode; closed: no more blocks will come */
  int failed;                           /* errno */
  unsigned char *room, *blocks[BLOCKS]; /* the blocks, aligned, in their room */
  size_t filled[BLOCKS];
  size_t in, out, full; /* blocks by number: that is filled, that is written next; how many wait */
  pthread_mutex_t lock;
  pthread_cond_t moved;
  ckpt_beside writer;
  bool started;
};

/* ---- writing a block ---- */

static void stop_direct(ckpt_direct *s) {
  if (s->direct) ckpt_io_direct(s->io, s->fd, false);
  s->direct = false;
}

/* A direct write that the file system does not take (EINVAL, also after a short one) is made in the usual way. */
static int write_block(ckpt_direct *s, const unsigned char *data, size_t n) {
  size_t done = 0;
  if (n % ALIGNMENT != 0) stop_direct(s);
  if (s->direct) {
    if (ckpt_io_write_some(s->io, s->fd, data, n, &done) == 0) return 0;
    if (errno != EINVAL) return errno;
    stop_direct(s);
  }
  return ckpt_io_write_all(s->io, s->fd, data + done, n - done) == 0 ? 0 : errno;
}

/* ---- the thread ---- */

static void write_blocks(void *context) {
  ckpt_direct *s = context;
  pthread_mutex_lock(&s->lock);
  for (;;) {
    while (s->full == 0 && !s->closed) pthread_cond_wait(&s->moved, &s->lock);
    if (s->full == 0) break;
    size_t at = s->out;
    bool skip = s->failed != 0;
    pthread_mutex_unlock(&s->lock);
    int failed = skip ? 0 : write_block(s, s->blocks[at], s->filled[at]);
    pthread_mutex_lock(&s->lock);
    if (failed != 0) s->failed = failed;
    s->out = (at + 1) % BLOCKS;
    s->full--;
    pthread_cond_signal(&s->moved);
  }
  pthread_mutex_unlock(&s->lock);
}

/* Gives the block that is being filled away, and waits until there is one to fill. */
static int pass_block(ckpt_direct *s) {
  if (!s->started) {
    int failed = s->failed != 0 ? 0 : write_block(s, s->blocks[s->in], s->filled[s->in]);
    if (failed != 0) s->failed = failed;
    s->filled[s->in] = 0;
    return s->failed;
  }
  pthread_mutex_lock(&s->lock);
  s->full++;
  s->in = (s->in + 1) % BLOCKS;
  pthread_cond_signal(&s->moved);
  while (s->full == BLOCKS) pthread_cond_wait(&s->moved, &s->lock);
  s->filled[s->in] = 0;
  int failed = s->failed;
  pthread_mutex_unlock(&s->lock);
  return failed;
}

/* ---- public ---- */

int ckpt_direct_write(ckpt_direct *s, const void *data, size_t size) {
  const unsigned char *p = data;
  while (size > 0) {
    size_t *filled = &s->filled[s->in], n = BLOCK - *filled < size ? BLOCK - *filled : size;
    memcpy(s->blocks[s->in] + *filled, p, n);
    *filled += n;
    p += n;
    size -= n;
    int failed = *filled == BLOCK ? pass_block(s) : 0;
    if (failed != 0) return failed;
  }
  return 0;
}

static void close_direct(ckpt_direct *s) {
  if (!s->started) return;
  pthread_mutex_lock(&s->lock);
  s->closed = true;
  pthread_cond_signal(&s->moved);
  pthread_mutex_unlock(&s->lock);
  ckpt_beside_join(&s->writer);
  s->started = false;
}

int ckpt_direct_flush(ckpt_direct *s) {
  if (s->filled[s->in] > 0) pass_block(s);
  close_direct(s);
  stop_direct(s);
  return s->failed;
}

void ckpt_direct_free(ckpt_direct *s) {
  if (s == NULL) return;
  close_direct(s);
  free(s->room);
  pthread_mutex_destroy(&s->lock);
  pthread_cond_destroy(&s->moved);
  free(s);
}

ckpt_status ckpt_direct_new(ckpt_direct **out, const ckpt_io *io, int fd, ckpt_error *err) {
  ckpt_direct *s = calloc(1, sizeof *s);
  if (s == NULL) return ckpt_fail_nomem(err, sizeof *s);
  s->io = io;
  s->fd = fd;
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->moved, NULL);
  s->room = malloc(BLOCKS * BLOCK + ALIGNMENT);
  if (s->room == NULL) {
    ckpt_direct_free(s);
    return ckpt_fail_nomem(err, BLOCKS * BLOCK + ALIGNMENT);
  }
  unsigned char *first = s->room + (ALIGNMENT - (uintptr_t)s->room % ALIGNMENT);
  for (size_t i = 0; i < BLOCKS; i++) s->blocks[i] = first + i * BLOCK;
  s->direct = ckpt_io_direct(io, fd, true);
  s->started = ckpt_beside_try(&s->writer, write_blocks, s);
  *out = s;
  return CKPT_OK;
}
