/*
 * pickles.c - hostile_pickles: reads pickles from standard input, each behind its length in 4 bytes, and says of each
 * in one line whether the pickle machine takes it: status and message. The other side of differential.py.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pickle_read.h"
#include "trust.h"

static void judge(const unsigned char *bytes, size_t n) {
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_error err = {0};
  ckpt_trust trust = ckpt_trust_of(NULL);
  ckpt_status st = ckpt_document_make(&doc, ckpt_pickle_memory_limit(n), &err);
  if (st == CKPT_OK) {
    ckpt_document_set_limits(doc, &trust.limits);
    st = ckpt_pickle_read(&root, NULL, doc, bytes, n, "p", NULL, &err);
  }
  for (char *c = err.message; *c != '\0'; c++)
    if (*c == '\n' || *c == '\t') *c = ' ';
  printf("%s\t%s\n", ckpt_status_name(st), st == CKPT_OK ? "" : err.message);
  ckpt_document_release(doc);
}

int main(void) {
  unsigned char length[4];
  while (fread(length, 1, 4, stdin) == 4) {
    size_t n = ckpt_le32(length);
    unsigned char *bytes = malloc(n + 1);
    if (bytes == NULL || fread(bytes, 1, n, stdin) != n) return 2;
    unsigned char *exact = realloc(bytes, n == 0 ? 1 : n);
    judge(exact, n);
    free(exact);
  }
  return 0;
}
