/* files.c - directories copied, removed and listed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "crash.h"

char *path_of(char out[PATH_MAX], const char *dir, const char *name) {
  if (snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX) abort();
  return out;
}

bool each_name(const char *dir, void (*each)(void *arg, const char *name), void *arg) {
  DIR *d = opendir(dir);
  if (d == NULL) return false;
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) each(arg, e->d_name);
  closedir(d);
  return true;
}

/* ---- removing ---- */

static void remove_entry(void *dir, const char *name) {
  char path[PATH_MAX];
  remove_tree(path_of(path, dir, name));
}

void remove_tree(const char *path) {
  if (unlink(path) == 0 || errno == ENOENT) return;
  each_name(path, remove_entry, (void *)(uintptr_t)path);
  rmdir(path);
}

/* ---- reading and writing ---- */

bool put_file(const char *dir, const char *name, const void *data, size_t size) {
  char path[PATH_MAX];
  int fd = open(path_of(path, dir, name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return false;
  bool ok = write(fd, data, size) == (ssize_t)size;
  return close(fd) == 0 && ok;
}

char *get_file(size_t *size, const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  char *text = NULL;
  if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) text = malloc((size_t)st.st_size + 1);
  if (text != NULL) {
    ssize_t n = pread(fd, text, (size_t)st.st_size, 0);
    *size = n < 0 ? 0 : (size_t)n;
    text[*size] = '\0';
  }
  if (fd >= 0) close(fd);
  return text;
}

/* ---- copying ---- */

enum { MAX_COPIED = 64 };

typedef struct copying {
  const char *from, *to;
  ino_t inodes[MAX_COPIED];
  char names[MAX_COPIED][80];
  int n;
  bool ok;
} copying;

/* A second name of a file that has been copied. */
static bool copy_link(copying *c, const struct stat *st, const char *name) {
  char old[PATH_MAX], path[PATH_MAX];
  for (int i = 0; i < c->n; i++)
    if (c->inodes[i] == st->st_ino) return link(path_of(old, c->to, c->names[i]), path_of(path, c->to, name)) == 0;
  if (c->n == MAX_COPIED) abort();
  c->inodes[c->n] = st->st_ino;
  snprintf(c->names[c->n++], sizeof c->names[0], "%.79s", name);
  return false;
}

static bool copy_symlink(const copying *c, const char *path, const char *name) {
  char target[PATH_MAX], to[PATH_MAX];
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n < 0) return false;
  target[n] = '\0';
  return symlink(target, path_of(to, c->to, name)) == 0;
}

static bool copy_one(copying *c, const char *name) {
  char path[PATH_MAX], to[PATH_MAX];
  struct stat st;
  size_t size = 0;
  if (lstat(path_of(path, c->from, name), &st) != 0) return false;
  if (S_ISDIR(st.st_mode)) return copy_tree(path, path_of(to, c->to, name));
  if (S_ISLNK(st.st_mode)) return copy_symlink(c, path, name);
  if (copy_link(c, &st, name)) return true;
  char *data = get_file(&size, path);
  bool ok = data != NULL && put_file(c->to, name, data, size);
  free(data);
  return ok;
}

static void copy_entry(void *arg, const char *name) {
  copying *c = arg;
  c->ok = copy_one(c, name) && c->ok;
}

bool copy_tree(const char *from, const char *to) {
  copying c = {.from = from, .to = to, .ok = true};
  return mkdir(to, 0777) == 0 && each_name(from, copy_entry, &c) && c.ok;
}

/* ---- counting, scratch ---- */

typedef struct counting {
  const char *prefix;
  int n;
} counting;

static void count_one(void *arg, const char *name) {
  counting *c = arg;
  c->n += strncmp(name, c->prefix, strlen(c->prefix)) == 0;
}

int count_names(const char *dir, const char *prefix) {
  counting c = {prefix, 0};
  each_name(dir, count_one, &c);
  return c.n;
}

bool scratch_make(char out[PATH_MAX]) {
  const char *places[] = {getenv("CRASH_DIR"), "/dev/shm", getenv("TMPDIR"), "/tmp"};
  for (size_t i = 0; i < COUNTOF(places); i++) {
    if (places[i] == NULL || places[i][0] == '\0') continue;
    if (mkdtemp(path_of(out, places[i], "ckpt-crash-XXXXXX")) != NULL) return true;
  }
  return false;
}
