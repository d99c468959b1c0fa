/* Moves the clocks of the process that it is preloaded into. The file that CLOCK_AHEAD names holds the
 * nanoseconds, two signed numbers of 8 bytes: for the wall clock, and for the one that is never set. Every
 * reading of a clock sees what stands there now. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;

static int64_t ahead(int which) {
  static const volatile int64_t *shared;
  if (shared == NULL) {
    const char *name = getenv("CLOCK_AHEAD");
    int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    close(file);
    shared = mapped;
  }
  return shared[which];
}

int clock_gettime(clockid_t id, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, id, now);
  int wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
  if (failed == 0 && (wall || id == CLOCK_MONOTONIC)) {
    int64_t total = now->tv_sec * SECOND + now->tv_nsec + ahead(wall ? 0 : 1);
    now->tv_sec = total / SECOND;
    now->tv_nsec = total % SECOND;
  }
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec fine;
  int failed = clock_gettime(CLOCK_REALTIME, &fine);
  now->tv_sec = fine.tv_sec;
  now->tv_usec = fine.tv_nsec / 1000;
  return failed;
}

time_t time(time_t *into) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (into != NULL) *into = now.tv_sec;
  return now.tv_sec;
}
