/* torchscript_code.c - see torchscript_code.h. */
#include "torchscript_code.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_SOURCE = 64 << 20 };

struct ckpt_script_code {
  const ckpt_archive *archive;
  bool *scanned;       /* by record */
  ckpt_strmap classes; /* "__torch__.module.Class" -> ckpt_script_kind */
  ckpt_arena names;
};

ckpt_status ckpt_script_code_new(ckpt_script_code **out, const ckpt_archive *a, ckpt_error *err) {
  size_t n = ckpt_zip_count(a->zip);
  ckpt_script_code *code = calloc(1, sizeof *code);
  if (code != NULL) code->scanned = calloc(n, sizeof *code->scanned);
  if (code == NULL || code->scanned == NULL) {
    free(code);
    return ckpt_fail_nomem(err, n + sizeof *code);
  }
  code->archive = a;
  *out = code;
  return CKPT_OK;
}

void ckpt_script_code_free(ckpt_script_code *code) {
  if (code == NULL) return;
  free(code->scanned);
  ckpt_strmap_free(&code->classes);
  ckpt_arena_free(&code->names);
  free(code);
}

/* The record with the source of a class: code/ and the module with slashes for dots. SIZE_MAX if there is none. */
static size_t record_of(const ckpt_script_code *code, const ckpt_value *class_) {
  char name[512];
  int n = snprintf(name, sizeof name, "code/%.*s.py", (int)class_->as.text.module, class_->as.text.bytes);
  if (class_->as.text.module >= sizeof name || n < 0 || (size_t)n >= sizeof name) return SIZE_MAX;
  for (int i = 5; i < n - 3; i++)
    if (name[i] == '.') name[i] = '/';
  return ckpt_archive_find(code->archive, name);
}

static bool is_name(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c >= 0x80;
}

/* A line `class NAME(Module):` or another declaration; lines of other kinds tell nothing. */
static ckpt_status scan_line(ckpt_script_code *code, const char *module, size_t module_n, const char *line, size_t n,
                             ckpt_error *err) {
  static const char word[] = "class ", base[] = "(Module):";
  size_t start = sizeof word - 1, end = start;
  if (n < start || memcmp(line, word, start) != 0) return CKPT_OK;
  while (end < n && is_name((unsigned char)line[end])) end++;
  bool module_class = n - end >= sizeof base - 1 && memcmp(line + end, base, sizeof base - 1) == 0;
  ckpt_error here = {0};
  char *name = ckpt_arena_alloc(&code->names, module_n + 1 + end - start, &here);
  if (name == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  memcpy(name, module, module_n);
  name[module_n] = '.';
  memcpy(name + module_n + 1, line + start, end - start);
  return ckpt_strmap_set(&code->classes, name, module_n + 1 + end - start,
                         module_class ? CKPT_SCRIPT_MODULE : CKPT_SCRIPT_OTHER, err);
}

static ckpt_status scan(ckpt_script_code *code, const char *module, size_t module_n, const char *text, size_t n,
                        ckpt_error *err) {
  for (size_t at = 0; at < n;) {
    const char *end = memchr(text + at, '\n', n - at);
    size_t length = end == NULL ? n - at : (size_t)(end - (text + at));
    CKPT_TRY(scan_line(code, module, module_n, text + at, length, err));
    at += length + 1;
  }
  return CKPT_OK;
}

static ckpt_status scan_record(ckpt_script_code *code, size_t i, const ckpt_value *class_, ckpt_error *err) {
  const ckpt_zip_entry *e = ckpt_zip_entry_at(code->archive->zip, i);
  const unsigned char *text = NULL;
  unsigned char *heap = NULL;
  size_t n = 0;
  if (e->size > MAX_SOURCE)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "record '%s' has %llu bytes of source text; at most %d are read", e->name,
                     (unsigned long long)e->size, MAX_SOURCE);
  CKPT_TRY(ckpt_archive_bytes(&text, &n, &heap, code->archive, i, err));
  ckpt_status st = scan(code, class_->as.text.bytes, class_->as.text.module, (const char *)text, n, err);
  free(heap);
  if (st == CKPT_OK) code->scanned[i] = true;
  return st;
}

ckpt_status ckpt_script_code_kind(ckpt_script_kind *out, ckpt_script_code *code, const ckpt_value *class_,
                                  ckpt_error *err) {
  size_t i = record_of(code, class_);
  if (i != SIZE_MAX && !code->scanned[i]) CKPT_TRY(scan_record(code, i, class_, err));
  size_t kind = ckpt_strmap_get(&code->classes, class_->as.text.bytes, class_->as.text.n);
  *out = kind == SIZE_MAX ? CKPT_SCRIPT_UNKNOWN : (ckpt_script_kind)kind;
  return CKPT_OK;
}
