/* A disk that hangs or turns read-only: LD_PRELOAD, steered by the first letter of the file in BAD_DISK. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static char mode(void) {
  char letter = 0;
  int file = open(getenv("BAD_DISK"), O_RDONLY);
  if (file < 0) return 0;
  if (read(file, &letter, 1) != 1) letter = 0;
  close(file);
  return letter;
}

static int is_read_only(void) {
  if (mode() != 'r') return 0;
  errno = EROFS;
  return 1;
}

/* A sync says that it hangs, and ends when the disk is well. */
static void wait_until_well(void) {
  char name[4096];
  if (mode() != 'h') return;
  snprintf(name, sizeof name, "%s.hangs", getenv("BAD_DISK"));
  close(open(name, O_CREAT | O_WRONLY, 0600));
  while (mode() == 'h') usleep(1000);
}

#define real(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
  return is_read_only() ? -1 : real(pwrite)(fd, bytes, n, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
  return is_read_only() ? -1 : real(pwrite64)(fd, bytes, n, at);
}
int fsync(int fd) {
  wait_until_well();
  return is_read_only() ? -1 : real(fsync)(fd);
}
int fdatasync(int fd) {
  wait_until_well();
  return is_read_only() ? -1 : real(fdatasync)(fd);
}
