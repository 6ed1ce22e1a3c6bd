/* pickle_tensor.c - see pickle_tensor.h; for the words of a tensor torch_build.c. */
#include "pickle_tensor.h"

#include <stdlib.h>

typedef ckpt_pickle_out writer;

static const char storage_word[] = "storage", cpu_word[] = "cpu";
static const char function_v2[] = "torch._utils._rebuild_tensor_v2", function_v3[] = "torch._utils._rebuild_tensor_v3";
static const char ordered_dict[] = "collections.OrderedDict";

/* ---- storages ---- */

void ckpt_storages_out_free(ckpt_storages_out *s) {
  ckpt_ptrmap_free(&s->ids);
  free(s->numbers);
}

static ckpt_status room_for_storage(ckpt_storages_out *s, ckpt_error *err) {
  if (s->n < s->capacity) return CKPT_OK;
  size_t capacity = s->capacity == 0 ? 64 : s->capacity * 2;
  ckpt_storage **more = realloc(s->storages, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
  s->storages = more;
  ckpt_numbered *numbers = realloc(s->numbers, capacity * sizeof *numbers);
  if (numbers == NULL) return ckpt_fail_nomem(err, capacity * sizeof *numbers);
  s->numbers = numbers;
  s->capacity = capacity;
  return CKPT_OK;
}

ckpt_status ckpt_storages_number(size_t *out, ckpt_storages_out *s, ckpt_storage *storage, const void *key,
                                 ckpt_error *err) {
  size_t *number = NULL;
  CKPT_TRY(room_for_storage(s, err));
  CKPT_TRY(ckpt_ptrmap_place(&number, &s->ids, key, err));
  if (*number == SIZE_MAX) {
    *number = s->n;
    s->numbers[s->n] = (ckpt_numbered){SIZE_MAX, SIZE_MAX};
    s->storages[s->n++] = storage;
  }
  *out = *number;
  return CKPT_OK;
}

/* The digits of a number at `to`; gives their end. */
static unsigned char *digits(unsigned char *to, size_t number) {
  unsigned char text[24];
  size_t n = 0;
  do {
    text[n++] = (unsigned char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (n > 0) *to++ = text[--n];
  return to;
}

ckpt_status ckpt_storages_key(writer *w, ckpt_storages_out *s, size_t number) {
  unsigned char text[24];
  if (s->numbers[number].key != SIZE_MAX) return ckpt_out_get(w, s->numbers[number].key);
  CKPT_TRY(ckpt_out_text(w, (const char *)text, (size_t)(digits(text, number) - text)));
  return ckpt_out_number(w, &s->numbers[number].key);
}

/* One storage under two storage classes would be read back with the first one's dtype: it gets a record for each. */
static ckpt_status number_typed(size_t *number, ckpt_storages_out *s, ckpt_storage *storage, ckpt_dtype dtype,
                                ckpt_error *err) {
  size_t type = ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_V3 ? CKPT_DTYPE_COUNT : (size_t)dtype;
  CKPT_TRY(ckpt_storages_number(number, s, storage, storage, err));
  ckpt_numbered *first = &s->numbers[*number];
  if (first->type == SIZE_MAX) first->type = type;
  if (first->type == type) return CKPT_OK;
  const char *other = (const char *)storage + 2 + type; /* an address inside the allocation: nobody else's */
  return ckpt_storages_number(number, s, storage, other, err);
}

/* A storage under the words of a file has the class that they say, whatever else it is written as. */
static ckpt_status number_of(size_t *number, const writer *w, ckpt_storages_out *s, const ckpt_value *v) {
  ckpt_storage *storage = ckpt_tensor_storage(v->as.tensor);
  if (v->as.said != NULL) return ckpt_storages_number(number, s, storage, storage, w->err);
  return number_typed(number, s, storage, ckpt_tensor_dtype(v->as.tensor), w->err);
}

/* ---- words ---- */

const void *ckpt_tensor_identity(const ckpt_value *v) {
  bool by_program = v->made == NULL && v->as.said == NULL;
  return by_program ? (const void *)v->as.tensor : v;
}

static const char *class_name(ckpt_dtype dtype) {
  static const char *const names[CKPT_DTYPE_COUNT] = {
#define NAME_V2(storage) "torch." storage
#define NAME_V3(storage) "torch.storage." storage
#define NAME_Q(storage) "torch." storage
#define CKPT_X(id, name, bytes, rebuild, storage, numeric) NAME_##rebuild(storage),
      CKPT_DTYPE_MAP(CKPT_X)
#undef CKPT_X
  };
  return names[dtype];
}

static ckpt_status write_dtype(writer *w, ckpt_dtype dtype) {
  static const char *const names[CKPT_DTYPE_COUNT] = {
#define CKPT_X(id, name, bytes, rebuild, storage, numeric) "torch." name,
      CKPT_DTYPE_MAP(CKPT_X)
#undef CKPT_X
  };
  return ckpt_out_global(w, names[dtype]);
}

static ckpt_status write_dims(writer *w, const int64_t *dims, int n) {
  static const unsigned char codes[] = {')', 0x85, 0x86, 0x87};
  if (n > 3) CKPT_TRY(ckpt_out_op(w, '('));
  for (int i = 0; i < n; i++) CKPT_TRY(ckpt_out_int(w, dims[i]));
  CKPT_TRY(ckpt_out_op(w, n > 3 ? 't' : codes[n]));
  size_t id;
  return n == 0 ? CKPT_OK : ckpt_out_number(w, &id);
}

static ckpt_status write_bits(writer *w, const ckpt_tensor *t) {
  static const char conj_word[] = "conj", neg_word[] = "neg";
  size_t id;
  CKPT_TRY(ckpt_out_op(w, '}'));
  CKPT_TRY(ckpt_out_number(w, &id));
  if (ckpt_tensor_conj(t)) {
    CKPT_TRY(ckpt_out_word(w, conj_word));
    CKPT_TRY(ckpt_out_bytes(w, "\x88s", 2));
  }
  if (!ckpt_tensor_neg(t)) return CKPT_OK;
  CKPT_TRY(ckpt_out_word(w, neg_word));
  return ckpt_out_bytes(w, "\x88s", 2);
}

/* Ends the tuple of arguments, and calls. */
static ckpt_status write_end(writer *w, const void *identity) {
  size_t id;
  CKPT_TRY(ckpt_out_op(w, 't'));
  CKPT_TRY(ckpt_out_number(w, &id));
  CKPT_TRY(ckpt_out_op(w, 'R'));
  return ckpt_out_put(w, identity);
}

/* ---- tensors whose words are not all in the memo, word by word ---- */

static ckpt_status write_meta(writer *w, const ckpt_tensor *t) {
  int n = ckpt_tensor_ndim(t);
  CKPT_TRY(ckpt_out_global(w, "torch._utils._rebuild_meta_tensor_no_storage"));
  CKPT_TRY(ckpt_out_op(w, '('));
  CKPT_TRY(write_dtype(w, ckpt_tensor_dtype(t)));
  CKPT_TRY(write_dims(w, ckpt_tensor_shape(t), n));
  CKPT_TRY(write_dims(w, ckpt_tensor_stride(t), n));
  CKPT_TRY(ckpt_out_op(w, ckpt_tensor_requires_grad(t) ? 0x88 : 0x89));
  return write_end(w, t);
}

/* What a storage's persistent id begins with. */
static ckpt_status write_class(writer *w, const ckpt_value *v) {
  const ckpt_wording *said = v->as.said;
  CKPT_TRY(ckpt_out_op(w, '('));
  CKPT_TRY(said != NULL ? ckpt_out_str(w, said->tag) : ckpt_out_word(w, storage_word));
  return said != NULL ? ckpt_out_class(w, said->storage_class)
                      : ckpt_out_global(w, class_name(ckpt_tensor_dtype(v->as.tensor)));
}

static size_t element_size(const ckpt_tensor *t) {
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  return ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_V3 ? 1 : ckpt_dtype_size(dtype);
}

static ckpt_status write_storage(writer *w, ckpt_storages_out *s, const ckpt_value *v, size_t number) {
  size_t id, size = ckpt_storage_size(ckpt_tensor_storage(v->as.tensor));
  CKPT_TRY(write_class(w, v));
  CKPT_TRY(ckpt_storages_key(w, s, number));
  CKPT_TRY(v->as.said != NULL ? ckpt_out_str(w, v->as.said->location) : ckpt_out_word(w, cpu_word));
  CKPT_TRY(ckpt_out_int(w, (int64_t)(size / element_size(v->as.tensor))));
  CKPT_TRY(ckpt_out_op(w, 't'));
  CKPT_TRY(ckpt_out_number(w, &id));
  return ckpt_out_op(w, 'Q');
}

static ckpt_status write_view(writer *w, const ckpt_tensor *t) {
  size_t id;
  int n = ckpt_tensor_ndim(t);
  CKPT_TRY(ckpt_out_int(w, ckpt_tensor_offset(t)));
  CKPT_TRY(write_dims(w, ckpt_tensor_shape(t), n));
  CKPT_TRY(write_dims(w, ckpt_tensor_stride(t), n));
  CKPT_TRY(ckpt_out_op(w, ckpt_tensor_requires_grad(t) ? 0x88 : 0x89));
  CKPT_TRY(ckpt_out_global(w, ordered_dict));
  CKPT_TRY(ckpt_out_bytes(w, ")R", 2));
  return ckpt_out_number(w, &id);
}

static ckpt_status write_words(writer *w, ckpt_storages_out *s, const ckpt_value *v, size_t number) {
  const ckpt_tensor *t = v->as.tensor;
  bool v3 = ckpt_dtype_rebuild(ckpt_tensor_dtype(t)) == CKPT_REBUILD_V3;
  CKPT_TRY(ckpt_out_global(w, v3 ? function_v3 : function_v2));
  CKPT_TRY(ckpt_out_op(w, '('));
  CKPT_TRY(write_storage(w, s, v, number));
  CKPT_TRY(write_view(w, t));
  if (v3) CKPT_TRY(write_dtype(w, ckpt_tensor_dtype(t)));
  if (ckpt_tensor_conj(t) || ckpt_tensor_neg(t)) CKPT_TRY(write_bits(w, t));
  return write_end(w, ckpt_tensor_identity(v));
}

/* ---- in one go ---- */

enum { LONGEST_TENSOR = 2 * CKPT_MAX_DIMS * CKPT_LONGEST_INT + 160 };

static unsigned char *at_get(unsigned char *p, size_t id) {
  p[0] = id < 256 ? 'h' : 'j';
  ckpt_put32(p + 1, (uint32_t)id);
  return p + (id < 256 ? 2 : 5);
}

static unsigned char *at_put(unsigned char *p, writer *w) {
  size_t id = w->memo_count++;
  p[0] = id < 256 ? 'q' : 'r';
  ckpt_put32(p + 1, (uint32_t)id);
  return p + (id < 256 ? 2 : 5);
}

static unsigned char *at_int(unsigned char *p, int64_t v) { return p + ckpt_out_int_at(p, v); }

static unsigned char *at_dims(unsigned char *p, writer *w, const int64_t *dims, int n) {
  static const unsigned char codes[] = {')', 0x85, 0x86, 0x87};
  if (n > 3) *p++ = '(';
  for (int i = 0; i < n; i++) p = at_int(p, dims[i]);
  *p++ = n > 3 ? 't' : codes[n];
  return n == 0 ? p : at_put(p, w);
}

static unsigned char *at_key(unsigned char *p, writer *w, ckpt_numbered *number, size_t key) {
  if (number->key != SIZE_MAX) return at_get(p, number->key);
  unsigned char *end = digits(p + 5, key);
  p[0] = 'X';
  ckpt_put32(p + 1, (uint32_t)(end - p - 5));
  number->key = w->memo_count;
  return at_put(end, w);
}

static unsigned char *at_storage(unsigned char *p, writer *w, ckpt_storages_out *s, const ckpt_phrase *f,
                                 const ckpt_tensor *t, size_t number) {
  p = at_get(p, f->function);
  *p++ = '(';
  *p++ = '(';
  p = at_get(p, f->tag);
  p = at_get(p, f->storage_class);
  p = at_key(p, w, &s->numbers[number], number);
  p = at_get(p, f->location);
  p = at_int(p, (int64_t)(ckpt_storage_size(ckpt_tensor_storage(t)) / ckpt_dtype_size(ckpt_tensor_dtype(t))));
  *p++ = 't';
  p = at_put(p, w);
  *p++ = 'Q';
  return p;
}

static unsigned char *at_view(unsigned char *p, writer *w, const ckpt_phrase *f, const ckpt_tensor *t) {
  int n = ckpt_tensor_ndim(t);
  p = at_int(p, ckpt_tensor_offset(t));
  p = at_dims(p, w, ckpt_tensor_shape(t), n);
  p = at_dims(p, w, ckpt_tensor_stride(t), n);
  *p++ = ckpt_tensor_requires_grad(t) ? 0x88 : 0x89;
  p = at_get(p, f->ordered);
  *p++ = ')';
  *p++ = 'R';
  return at_put(p, w);
}

static ckpt_status write_phrase(writer *w, ckpt_storages_out *s, const ckpt_phrase *f, const ckpt_value *v,
                                size_t number) {
  size_t *id = NULL;
  CKPT_TRY(ckpt_out_room(w, LONGEST_TENSOR));
  CKPT_TRY(ckpt_ptrmap_place(&id, &w->memo, ckpt_tensor_identity(v), w->err));
  unsigned char *p = at_storage(w->bytes + w->n, w, s, f, v->as.tensor, number);
  p = at_view(p, w, f, v->as.tensor);
  *p++ = 't';
  p = at_put(p, w);
  *p++ = 'R';
  *id = w->memo_count;
  p = at_put(p, w);
  w->n = (size_t)(p - w->bytes);
  return CKPT_OK;
}

/* ---- phrases ---- */

static const void *words_of(const ckpt_value *v) {
  return v->as.said != NULL ? (const void *)v->as.said : class_name(ckpt_tensor_dtype(v->as.tensor));
}

static size_t memo_of_class(const writer *w, const char *name, size_t n) {
  return ckpt_strmap_get(&w->classes, name, n);
}

/* Notes where the words are that have just been written; a class inside a class is written anew each time. */
static void learn(writer *w, ckpt_storages_out *s, const ckpt_value *v) {
  const ckpt_wording *said = v->as.said;
  size_t n = 0;
  const char *name = said != NULL ? ckpt_value_text(said->storage_class, &n) : words_of(v);
  ckpt_phrase f = {.words = words_of(v),
                   .function = memo_of_class(w, function_v2, sizeof function_v2 - 1),
                   .tag = ckpt_ptrmap_get(&w->memo, said != NULL ? (const void *)said->tag : storage_word),
                   .storage_class = memo_of_class(w, name, said != NULL ? n : strlen(name)),
                   .location = ckpt_ptrmap_get(&w->memo, said != NULL ? (const void *)said->location : cpu_word),
                   .ordered = memo_of_class(w, ordered_dict, sizeof ordered_dict - 1)};
  bool all = f.function != SIZE_MAX && f.tag != SIZE_MAX && f.storage_class != SIZE_MAX && f.location != SIZE_MAX &&
             f.ordered != SIZE_MAX;
  if (all) s->phrases[s->next_phrase++ % CKPT_COUNTOF(s->phrases)] = f;
}

static const ckpt_phrase *find_phrase(const ckpt_storages_out *s, const void *words) {
  for (size_t i = 0; i < CKPT_COUNTOF(s->phrases); i++)
    if (s->phrases[i].words == words) return &s->phrases[i];
  return NULL;
}

/* What a phrase says: _rebuild_tensor_v2 without the bits, of a storage of whole elements, by numbers of four bytes. */
static bool is_plain(const writer *w, const ckpt_tensor *t) {
  return ckpt_dtype_rebuild(ckpt_tensor_dtype(t)) == CKPT_REBUILD_V2 && !ckpt_tensor_conj(t) && !ckpt_tensor_neg(t) &&
         w->memo_count < UINT32_MAX - 8;
}

ckpt_status ckpt_out_tensor(writer *w, ckpt_storages_out *s, const ckpt_value *v) {
  const ckpt_tensor *t = v->as.tensor;
  size_t number = 0;
  if (ckpt_dtype_rebuild(ckpt_tensor_dtype(t)) == CKPT_REBUILD_Q)
    return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a quantised tensor without its scale");
  if (ckpt_tensor_is_meta(t)) return write_meta(w, t);
  if (ckpt_storage_size(ckpt_tensor_storage(t)) % element_size(t) != 0)
    return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a storage of %zu bytes under a %s tensor",
                     ckpt_storage_size(ckpt_tensor_storage(t)), ckpt_dtype_name(ckpt_tensor_dtype(t)));
  CKPT_TRY(number_of(&number, w, s, v));
  bool plain = is_plain(w, t);
  const ckpt_phrase *f = plain ? find_phrase(s, words_of(v)) : NULL;
  if (f != NULL) return write_phrase(w, s, f, v, number);
  CKPT_TRY(write_words(w, s, v, number));
  if (plain) learn(w, s, v);
  return CKPT_OK;
}
