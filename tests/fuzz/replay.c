/*
 * replay.c - main of a fuzz target without libFuzzer: runs each file, or each file of each directory, once. For builds
 * that are measured (coverage) or watched by a sanitizer that libFuzzer does not go with.
 */
#include <dirent.h>

#include "fuzz.h"

static size_t done;

static void run_file(const char *path) {
  static unsigned char bytes[1 << 20];
  FILE *f = fopen(path, "rb");
  if (f == NULL) return;
  size_t n = fread(bytes, 1, sizeof bytes, f);
  fclose(f);
  unsigned char *exact = malloc(n + (n == 0));
  CHECK(exact != NULL);
  if (n > 0) memcpy(exact, bytes, n);
  LLVMFuzzerTestOneInput(exact, n);
  free(exact);
  done++;
}

static void run(const char *path) {
  char below[4096];
  DIR *dir = opendir(path);
  if (dir == NULL) {
    run_file(path);
    return;
  }
  for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
    if (e->d_name[0] == '.') continue;
    snprintf(below, sizeof below, "%s/%s", path, e->d_name);
    run_file(below);
  }
  closedir(dir);
}

/* Mutators refer to it; nothing is mutated here. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max) {
  (void)data, (void)max;
  return size;
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) run(argv[i]);
  printf("%zu inputs\n", done);
  return done > 0 ? 0 : 1;
}
