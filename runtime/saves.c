/* saves.c - see saves.h. */
#include "saves.h"

static bool more(const ckpt_saves *found, const ckpt_save_format *format, const ckpt_mapping *map) {
  if (found->count == 0) return true;
  return found->end < ckpt_mapping_size(map) && format->begins(map, found->end);
}

/* Goes through the file until its end, or a fault behind the wanted save. */
static ckpt_status scan(ckpt_document **doc, ckpt_saves *found, const ckpt_save_format *format, ckpt_mapping *map,
                        size_t wanted, ckpt_error *err) {
  while (more(found, format, map)) {
    ckpt_error here;
    size_t end = 0;
    ckpt_status st = format->read(found->count == wanted ? doc : NULL, &end, map, found->end, &here);
    if (st != CKPT_OK && found->count > wanted && st != CKPT_E_NOMEM) return CKPT_OK;
    if (st != CKPT_OK && err != NULL) *err = here;
    CKPT_TRY(st);
    *found = (ckpt_saves){found->count + 1, end};
  }
  return CKPT_OK;
}

ckpt_status ckpt_saves_read(ckpt_document **out, ckpt_saves *saves, const ckpt_save_format *format, ckpt_mapping *map,
                            size_t wanted, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_saves found = {0, 0};
  ckpt_status st = scan(&doc, &found, format, map, wanted, err);
  if (st == CKPT_OK && doc == NULL) return ckpt_saves_no_such(wanted, found.count, err);
  if (st != CKPT_OK) {
    ckpt_document_release(doc);
    return st;
  }
  *out = doc;
  *saves = found;
  return CKPT_OK;
}

ckpt_status ckpt_saves_no_such(size_t wanted, size_t count, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "there is no save %zu: the file holds %zu%s", wanted + 1, count,
                   count == 1 ? " only" : "");
}

ckpt_status ckpt_saves_check(const ckpt_saves *saves, const ckpt_save_format *format, ckpt_mapping *map,
                             ckpt_error *err) {
  size_t end;
  return more(saves, format, map) ? format->read(NULL, &end, map, saves->end, err) : CKPT_OK;
}
