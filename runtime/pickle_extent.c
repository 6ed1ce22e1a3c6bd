/*
 * pickle_extent.c - where a pickle ends, found by stepping over opcodes and their arguments (see pickle_read.h).
 */
#include "pickle_read.h"

/* What follows an opcode: so many bytes, a count and so many bytes, or one or two lines. */
enum { BYTES = 0x10, COUNTED = 0x20, LINES = 0x30, STOP = 0x40, SHAPE = 0xf0 };

static const unsigned char shapes[256] = {
    ['('] = BYTES,        ['.'] = STOP,         ['0'] = BYTES,        ['1'] = BYTES,        ['2'] = BYTES,
    ['F'] = LINES + 1,    ['I'] = LINES + 1,    ['J'] = BYTES + 4,    ['K'] = BYTES + 1,    ['L'] = LINES + 1,
    ['M'] = BYTES + 2,    ['N'] = BYTES,        ['P'] = LINES + 1,    ['Q'] = BYTES,        ['R'] = BYTES,
    ['S'] = LINES + 1,    ['T'] = COUNTED + 4,  ['U'] = COUNTED + 1,  ['V'] = LINES + 1,    ['X'] = COUNTED + 4,
    ['a'] = BYTES,        ['b'] = BYTES,        ['c'] = LINES + 2,    ['d'] = BYTES,        ['}'] = BYTES,
    ['e'] = BYTES,        ['g'] = LINES + 1,    ['h'] = BYTES + 1,    ['i'] = LINES + 2,    ['j'] = BYTES + 4,
    ['l'] = BYTES,        [']'] = BYTES,        ['o'] = BYTES,        ['p'] = LINES + 1,    ['q'] = BYTES + 1,
    ['r'] = BYTES + 4,    ['s'] = BYTES,        ['t'] = BYTES,        [')'] = BYTES,        ['u'] = BYTES,
    ['G'] = BYTES + 8,    ['B'] = COUNTED + 4,  ['C'] = COUNTED + 1,  [0x80] = BYTES + 1,   [0x81] = BYTES,
    [0x82] = BYTES + 1,   [0x83] = BYTES + 2,   [0x84] = BYTES + 4,   [0x85] = BYTES,       [0x86] = BYTES,
    [0x87] = BYTES,       [0x88] = BYTES,       [0x89] = BYTES,       [0x8a] = COUNTED + 1, [0x8b] = COUNTED + 4,
    [0x8c] = COUNTED + 1, [0x8d] = COUNTED + 8, [0x8e] = COUNTED + 8, [0x8f] = BYTES,       [0x90] = BYTES,
    [0x91] = BYTES,       [0x92] = BYTES,       [0x93] = BYTES,       [0x94] = BYTES,       [0x95] = BYTES + 8,
    [0x96] = COUNTED + 8, [0x97] = BYTES,       [0x98] = BYTES,
};

/* Steps over n bytes; past the end is at the end. */
static size_t step(size_t pos, uint64_t n, size_t size) { return n > size - pos ? size : pos + (size_t)n; }

static size_t skip_counted(const unsigned char *data, size_t pos, size_t width, size_t size) {
  if (width > size - pos) return size;
  uint64_t n = 0;
  for (size_t i = width; i-- > 0;) n = n << 8 | data[pos + i];
  return step(pos + width, n, size);
}

static size_t skip_lines(const unsigned char *data, size_t pos, size_t lines, size_t size) {
  while (lines-- > 0) {
    const unsigned char *end = pos == size ? NULL : memchr(data + pos, '\n', size - pos);
    if (end == NULL) return size;
    pos = (size_t)(end - data) + 1;
  }
  return pos;
}

size_t ckpt_pickle_extent(const unsigned char *data, size_t start, size_t size) {
  size_t pos = start;
  while (pos < size) {
    unsigned char shape = shapes[data[pos++]];
    size_t n = shape & 0x0f;
    switch (shape & SHAPE) {
      case BYTES: pos = step(pos, n, size); break;
      case COUNTED: pos = skip_counted(data, pos, n, size); break;
      case LINES: pos = skip_lines(data, pos, n, size); break;
      default: return pos; /* STOP, or no opcode */
    }
  }
  return size;
}
