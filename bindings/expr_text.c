/* expr_text.c - see expr_text.h. */
#include "expr_text.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct text {
  char *at;
  size_t n;
  const char *comma; /* before the next argument */
} text;

static void put(text *t, const char *format, ...) CKPT_PRINTF(2, 3);

static void put(text *t, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(t->at + t->n, CKPT_EXPR_TEXT - t->n, format, args);
  va_end(args);
  t->n += n < 0 ? 0 : (size_t)n;
  if (t->n >= CKPT_EXPR_TEXT) t->n = CKPT_EXPR_TEXT - 1;
}

static void put_list(text *t, const ckpt_expr_list *list, bool brackets) {
  put(t, "%s%s", t->comma, brackets ? "[" : "");
  for (size_t i = 0; i < list->n && i < 8; i++) put(t, "%s%lld", i > 0 ? ", " : "", (long long)list->items[i]);
  put(t, "%s%s", list->n > 8 ? ", ..." : "", brackets ? "]" : "");
}

static void put_number(text *t, const ckpt_expr_node *node) {
  if (!node->has_number) return;
  double v = node->number.kind == CKPT_SCALAR_FLOAT ? node->number.real : (double)node->number.whole;
  put(t, "%s%.6g", t->comma, v);
}

static void put_argument(text *t, const ckpt_expr_node *node, char kind, int *integer, int *list) {
  static const char *const modes[] = {"nearest", "bilinear", "bicubic"};
  switch (kind) {
    case 'i':
      if (*integer < node->n_integers) put(t, "%s%lld", t->comma, (long long)node->integer[*integer]);
      (*integer)++;
      break;
    case 'l':
    case 'r': put_list(t, &node->list[(*list)++], kind == 'l'); break;
    case 'n': put_number(t, node); break;
    case 't':
      if (node->has_dtype) put(t, "%s%s", t->comma, ckpt_dtype_name(node->dtype));
      break;
    default: put(t, "%s%s", t->comma, modes[node->mode]);
  }
}

static void put_node(text *t, const ckpt_expr_node *node) {
  int integer = 0, list = 0;
  for (size_t i = 0; i < node->n_of && t->n + 8 < CKPT_EXPR_TEXT; i++) put_node(t, node->of[i]);
  if (node->op == NULL) return;
  put(t, "%s%s(", t->n > 0 ? ", " : "", node->op->name);
  t->comma = "";
  for (const char *a = node->op->arguments; *a != '\0'; a++) {
    if (*a == '?') continue;
    put_argument(t, node, *a, &integer, &list);
    t->comma = ", ";
  }
  put(t, ")");
}

const char *ckpt_expr_text(char out[CKPT_EXPR_TEXT], const ckpt_expr *e) {
  text t = {out, 0, ""};
  out[0] = '\0';
  put_node(&t, e->root);
  if (t.n == CKPT_EXPR_TEXT - 1) memcpy(out + CKPT_EXPR_TEXT - 4, "...", 4);
  return out;
}

static bool rearranges(const ckpt_expr_node *node) {
  static const char *const names[] = {"index_select", "slice",      "flip",  "roll",  "transpose", "permute",
                                      "reshape",      "cast",       "split", "chunk", "unsqueeze", "squeeze",
                                      "rope_split",   "rope_merge", "cat",   "stack"};
  bool known = node->op == NULL;
  for (size_t i = 0; i < CKPT_COUNTOF(names) && !known; i++) known = strcmp(node->op->name, names[i]) == 0;
  for (size_t i = 0; i < node->n_of && known; i++) known = rearranges(node->of[i]);
  return known;
}

bool ckpt_expr_rearranges(const ckpt_expr *e) { return rearranges(e->root); }
