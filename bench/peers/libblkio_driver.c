/*
 * libblkio's driver in the race: random reads of a virtio-blk device behind a vhost-user socket, so many in flight, each followed by another.
 *
 *   libblkio_driver SOCKET DEPTH polled|blocking WARM_UP_MS MS
 *
 * Prints requests, seconds, and the latencies' 50th and 99th percentiles in nanoseconds. One clock is read for a burst that is submitted, and one
 * for a burst that is answered, as in the driver that it is compared with.
 */
#include <blkio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REQUEST_BYTES 4096
#define MAX_DEPTH 256
/* Latencies are counted by steps of 16 ns, up to 16 ms; what took longer stands in the last. */
#define STEP_NS 16
#define STEPS 1048576

static uint64_t since[MAX_DEPTH], counts[STEPS], total;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void check(int result, const char *what) {
  if (result >= 0) return;
  fprintf(stderr, "%s: %s (%s)\n", what, strerror(-result), blkio_get_error_msg());
  exit(1);
}

static uint64_t percentile(double part) {
  uint64_t left = (uint64_t)((double)total * part), step = 0;
  while (step < STEPS - 1 && counts[step] <= left) left -= counts[step++];
  return (step + 1) * STEP_NS;
}

static uint32_t state = 0x9e3779b9;
static uint64_t place(uint64_t places) {
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return ((uint64_t)state * places) >> 32;
}

static struct blkioq *queue;
static char *memory;
static uint64_t places;

static void submit(uintptr_t slot, uint64_t at) {
  since[slot] = at;
  blkioq_read(queue, place(places) * REQUEST_BYTES, memory + slot * REQUEST_BYTES, REQUEST_BYTES, (void *)slot, 0);
}

/* Takes what is answered and asks again, until a time; gives how many were answered. */
static uint64_t turns(int depth, int polled, uint64_t until) {
  struct blkio_completion done[MAX_DEPTH];
  uint64_t answered = 0;
  for (;;) {
    int count = blkioq_do_io(queue, done, polled ? 0 : 1, depth, NULL);
    check(count, "blkioq_do_io");
    uint64_t at = now();
    for (int i = 0; i < count; i++) {
      check(done[i].ret, "a read");
      uint64_t step = (at - since[(uintptr_t)done[i].user_data]) / STEP_NS;
      counts[step < STEPS ? step : STEPS - 1]++;
    }
    answered += (uint64_t)count;
    /* On a busy machine the device may have had no turn yet. */
    if (at >= until && answered > 0) {
      /* What was just answered is asked again, so that the depth stays for the next turns. */
      for (int i = 0; i < count; i++) submit((uintptr_t)done[i].user_data, at);
      return answered;
    }
    if (count == 0) continue;
    at = now();
    for (int i = 0; i < count; i++) submit((uintptr_t)done[i].user_data, at);
  }
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  int depth = atoi(argv[2]), polled = strcmp(argv[3], "polled") == 0;
  if (depth < 1 || depth > MAX_DEPTH) return 2;
  struct blkio *b;
  check(blkio_create("virtio-blk-vhost-user", &b), "blkio_create");
  check(blkio_set_str(b, "path", argv[1]), "path");
  check(blkio_connect(b), "blkio_connect");
  check(blkio_start(b), "blkio_start");
  uint64_t capacity;
  check(blkio_get_uint64(b, "capacity", &capacity), "capacity");
  places = capacity / REQUEST_BYTES;
  struct blkio_mem_region region;
  check(blkio_alloc_mem_region(b, &region, (size_t)MAX_DEPTH * REQUEST_BYTES), "blkio_alloc_mem_region");
  check(blkio_map_mem_region(b, &region), "blkio_map_mem_region");
  memory = region.addr;
  queue = blkio_get_queue(b, 0);
  if (polled) blkioq_set_completion_fd_enabled(queue, false);

  uint64_t start = now();
  for (int slot = 0; slot < depth; slot++) submit((uintptr_t)slot, start);
  turns(depth, polled, start + strtoull(argv[4], NULL, 10) * 1000000u);
  memset(counts, 0, sizeof counts);
  start = now();
  total = turns(depth, polled, start + strtoull(argv[5], NULL, 10) * 1000000u);
  double seconds = (double)(now() - start) / 1e9;
  printf("{\"requests\":%llu,\"seconds\":%.6f,\"p50Ns\":%llu,\"p99Ns\":%llu}\n", (unsigned long long)total, seconds,
         (unsigned long long)percentile(0.5), (unsigned long long)percentile(0.99));
  blkio_destroy(&b);
  return 0;
}
