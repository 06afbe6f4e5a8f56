/*
 * The yardstick of the latency benchmark: frames at a fixed rate through a split ring of one network function to one of another, sent and polled for in C.
 *
 * Rings and buffers are set up by the caller, who is the driver until the loop begins; event suppression is by flags, a frame is one descriptor, and a
 * header of 12 bytes comes before it. A frame's latency counts from when it was due, not from when it was sent: a loop that is late is late for all that
 * it should have sent meanwhile.
 *
 * Compiled at run time, `cc -O2 -shared -fPIC`; its functions take and give numbers alone.
 */
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES 12u
#define MOST 1024u
/* Latencies are counted by steps of 100 ns, up to 100 ms; what took longer stands in the last. */
#define STEP_NS 100u
#define STEPS 1000000u
#define PATIENCE_NS 5000000000u

enum { WRITE = 2, NO_NOTIFY = 1, NO_INTERRUPT = 1 };

struct descriptor { uint64_t address; uint32_t length; uint16_t flags, next; };
struct available { uint16_t flags, index, ring[]; };
struct used { uint16_t flags, index; struct { uint32_t id, length; } ring[]; };

struct queue {
  struct descriptor *descriptors;
  struct available *available;
  volatile struct used *used;
  uint8_t *buffers;
  uint64_t iova;
  uint32_t size, stride, bytes;
  int doorbell;
  uint16_t next, taken;
};

static struct queue queues[2]; /* 0: out, 1: in */
static uint8_t frame[2048];
static uint32_t frame_bytes, counts[STEPS];
static uint64_t longest, total;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *pointer(uint32_t lo, uint32_t hi) { return (void *)(uintptr_t)((uint64_t)hi << 32 | lo); }

/* Where the parts of a ring are: its memory, and offsets in it. */
int latency_ring(uint32_t which, uint32_t lo, uint32_t hi, uint32_t size, uint32_t driver, uint32_t device, uint32_t doorbell) {
  if (which > 1 || size > MOST) return -1;
  struct queue *queue = &queues[which];
  uint8_t *memory = pointer(lo, hi);
  queue->descriptors = (struct descriptor *)memory;
  queue->available = (struct available *)(memory + driver);
  queue->used = (struct used *)(memory + device);
  queue->size = size;
  queue->doorbell = (int)doorbell;
  return 0;
}

/* Its buffers: here, and for the device. */
int latency_buffers(uint32_t which, uint32_t lo, uint32_t hi, uint32_t iova_lo, uint32_t iova_hi, uint32_t stride, uint32_t bytes) {
  if (which > 1) return -1;
  queues[which].buffers = pointer(lo, hi);
  queues[which].iova = (uint64_t)iova_hi << 32 | iova_lo;
  queues[which].stride = stride;
  queues[which].bytes = bytes;
  return 0;
}

int latency_frame(uint32_t at, uint32_t byte, uint32_t bytes) {
  if (at >= sizeof frame || bytes > sizeof frame) return -1;
  frame[at] = (uint8_t)byte;
  frame_bytes = bytes;
  return 0;
}

static void add(struct queue *queue, uint32_t slot, uint32_t bytes, uint16_t flags) {
  queue->descriptors[slot] = (struct descriptor){ queue->iova + (uint64_t)slot * queue->stride, bytes, flags, 0 };
  queue->available->ring[queue->next++ & (queue->size - 1)] = (uint16_t)slot;
}

static int publish(struct queue *queue) {
  uint64_t one = 1;
  __atomic_store_n(&queue->available->index, queue->next, __ATOMIC_SEQ_CST);
  if ((queue->used->flags & NO_NOTIFY) != 0) return 0;
  return write(queue->doorbell, &one, sizeof one) == sizeof one ? 0 : -1;
}

/* Gives the receive queue its buffers: once, before the first run. */
int latency_begin(void) {
  struct queue *in = &queues[1];
  queues[0].available->flags = in->available->flags = NO_INTERRUPT;
  for (uint32_t slot = 0; slot < in->size; slot++) add(in, slot, in->bytes, WRITE);
  return publish(in);
}

int latency_clear(void) {
  memset(counts, 0, sizeof counts);
  longest = total = 0;
  return 0;
}

/* Sends so many frames, each when it is due. Gives how many came; less than that when one is lost, or is another. */
int latency_run(uint32_t frames, uint32_t interval_ns) {
  struct queue *out = &queues[0], *in = &queues[1];
  uint32_t sent = 0, came = 0;
  uint64_t start = now(), quiet_since = start;
  while (came < frames) {
    uint64_t at = now();
    if (sent < frames && at >= start + (uint64_t)sent * interval_ns && sent - came < in->size / 2) {
      uint32_t slot = out->next & (out->size - 1);
      if (out->size > (uint16_t)(out->next - __atomic_load_n(&out->used->index, __ATOMIC_ACQUIRE))) {
        uint8_t *buffer = out->buffers + (size_t)slot * out->stride + HEADER_BYTES;
        memcpy(buffer, frame, frame_bytes);
        memcpy(buffer + 14, &sent, sizeof sent);
        add(out, slot, HEADER_BYTES + frame_bytes, 0);
        if (publish(out) != 0) return -1;
        sent++;
      }
    }
    uint16_t index = __atomic_load_n(&in->used->index, __ATOMIC_ACQUIRE);
    if (index == in->taken) {
      if (at - quiet_since > PATIENCE_NS) return (int)came;
      continue;
    }
    at = quiet_since = now();
    for (; in->taken != index; in->taken++) {
      uint32_t id = in->used->ring[in->taken & (in->size - 1)].id, number;
      if (id >= in->size) return -2;
      memcpy(&number, in->buffers + (size_t)id * in->stride + HEADER_BYTES + 14, sizeof number);
      if (number != came) return -3;
      uint64_t took = at - (start + (uint64_t)number * interval_ns), step = took / STEP_NS;
      counts[step < STEPS ? step : STEPS - 1]++;
      if (took > longest) longest = took;
      total++, came++;
      add(in, id, in->bytes, WRITE);
    }
    if (publish(in) != 0) return -1;
  }
  return (int)came;
}

/* The time that so many of a million did not exceed, in steps of 100 ns; 1000001: the longest. */
int latency_quantile(uint32_t millionths) {
  if (millionths > 1000000) return (int)(longest / STEP_NS);
  uint64_t left = (total * millionths + 999999) / 1000000, step = 0;
  while (step < STEPS - 1 && counts[step] < left) left -= counts[step++];
  return (int)step + 1;
}
