/*
 * The yardstick of the ring benchmark: a virtqueue's two sides in C, with the book-keeping and the checks that the library's queues do.
 *
 * Driver: a record for each chain in flight (its part, to be offered again after a reset; its writable bytes; its place in the order of
 * commits), a list of free records, and a check of each index, id and length that the device wrote. Device: the same distrust of the driver,
 * chains as parts that are found in a table of memory regions, and what each head that it holds is. Chains have one part here.
 *
 * Compiled at run time, `cc -O2 -shared -fPIC`; the functions at the end take and give numbers alone, and are called once for many descriptors.
 */
#include <stdint.h>
#include <string.h>

#define SIZE 256u
#define MASK (SIZE - 1u)
#define REGIONS 4
#define CHAIN_PARTS 64

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 0x80, USED = 0x8000, BOTH = AVAIL | USED };
/* Event suppression of a packed ring, in the upper half of its 32 bits. */
enum { EVENTS_ON = 0, EVENTS_OFF = 1, EVENTS_AT = 2 };

struct descriptor { uint32_t lo, hi, length; uint16_t flags, next; };
struct packed_descriptor { uint32_t lo, hi, length; uint16_t id, flags; };
struct used { uint32_t id, length; };

/* What both sides reach. */
struct shared {
  union { struct descriptor split[SIZE]; struct packed_descriptor packed[SIZE]; };
  uint16_t avail_flags, avail_index, avail[SIZE], used_event;
  _Alignas(64) uint16_t used_flags, used_index;
  struct used used[SIZE];
  uint16_t avail_event;
  _Alignas(64) uint32_t driver_events, device_events;
  _Alignas(64) uint8_t buffer[4096];
};

struct part { uint32_t lo, hi, length, flags; };

struct driver {
  struct part parts[SIZE];
  uint16_t link[SIZE], taken[SIZE];
  uint32_t writable[SIZE];
  uint64_t serial[SIZE]; /* 0: not in flight */
  uint64_t committed, published;
  uint32_t free_head, free_count, in_flight;
  int fault;
  uint16_t next, next_used;                       /* split */
  uint32_t slot, wrap, used_slot, used_wrap;      /* packed */
  int32_t head_slot;                              /* written last: its flags publish the burst */
  uint16_t head_flags;
  uint16_t ids[SIZE];
  uint32_t lengths[SIZE];
};

struct region { uint64_t iova, bytes; uint8_t *memory; int reads, writes; };

struct chain {
  uint32_t id, parts, readable_parts;
  uint64_t readable, writable;
  uint8_t *memory[CHAIN_PARTS];
  uint32_t length[CHAIN_PARTS];
};

struct device {
  struct region regions[REGIONS];
  uint32_t region_count;
  struct region *last;
  int broken;
  uint16_t held[SIZE]; /* by head (split) or id (packed): ring descriptors that it takes, 0 when it is not held */
  uint16_t next, seen, next_used, published, notified;          /* split */
  uint32_t slot, wrap, used_slot, used_wrap, outstanding, pushed; /* packed */
  int32_t first_slot;
  uint16_t first_flags;
  struct chain chain;
};

struct pair { struct shared shared; struct driver driver; struct device device; int event_index; };

static struct pair pairs[4]; /* split, packed; the same with event index */

#define PUBLISH(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)
#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
/* Read once: the other side may change it between two looks. */
#define ONCE(place) (*(volatile __typeof__(place) *)&(place))

static uint64_t iova_of(const struct pair *q) { return 0x100000 + (uint64_t)((const uint8_t *)q->shared.buffer - (const uint8_t *)&q->shared); }

/* ---- the driver, whatever the layout ---- */

/* Takes a record for a chain of one part; its number is the chain's id. */
static int hold(struct driver *d, uint64_t iova, uint32_t length, int writable) {
  if (d->fault || length == 0 || d->free_count == 0) return -1;
  uint32_t id = d->free_head;
  d->free_head = d->link[id];
  d->free_count--;
  d->parts[id] = (struct part){(uint32_t)iova, (uint32_t)(iova >> 32), length, writable ? WRITE : 0};
  d->taken[id] = 1;
  d->writable[id] = writable ? length : 0;
  d->serial[id] = ++d->committed;
  d->in_flight++;
  return (int)id;
}

static uint32_t fresh(struct driver *d) {
  uint32_t count = (uint32_t)(d->committed - d->published);
  d->published = d->committed;
  return count;
}

/* A chain that came back: it must be one that the device has, with no more bytes than it has room for. */
static int release(struct driver *d, uint32_t id, uint32_t length) {
  if (id >= SIZE || d->serial[id] == 0 || d->serial[id] > d->published || length > d->writable[id]) {
    d->fault = 1;
    return -1;
  }
  d->serial[id] = 0;
  d->link[id] = (uint16_t)d->free_head;
  d->free_head = id;
  d->free_count += d->taken[id];
  d->in_flight--;
  return 0;
}

/* ---- the device, whatever the layout ---- */

static struct region *find(struct device *d, uint64_t iova, uint32_t length) {
  struct region *r = d->last;
  if (r && iova >= r->iova && iova - r->iova + length <= r->bytes) return r;
  for (uint32_t i = 0; i < d->region_count; i++) {
    r = &d->regions[i];
    if (iova >= r->iova && iova - r->iova + length <= r->bytes) return d->last = r;
  }
  return 0;
}

static void begin(struct chain *c) { c->parts = c->readable_parts = 0, c->readable = c->writable = 0; }

static int add_part(struct device *d, uint32_t lo, uint32_t hi, uint32_t length, uint32_t flags) {
  struct chain *c = &d->chain;
  int writes = (flags & WRITE) != 0;
  if (length == 0 || (!writes && c->writable != 0) || c->parts == CHAIN_PARTS) return -1;
  if (c->readable + c->writable + length > UINT64_C(1) << 32) return -1;
  uint64_t iova = (uint64_t)hi << 32 | lo;
  struct region *r = find(d, iova, length);
  if (!r || !(writes ? r->writes : r->reads)) return -1;
  c->memory[c->parts] = r->memory + (iova - r->iova);
  c->length[c->parts++] = length;
  if (writes) c->writable += length;
  else c->readable += length, c->readable_parts = c->parts;
  return 0;
}

static int violation(struct device *d) { return d->broken = 1, -1; }

/* ---- split ---- */

static int split_add(struct pair *q, uint64_t iova, uint32_t length, int writable) {
  struct driver *d = &q->driver;
  int id = hold(d, iova, length, writable);
  if (id < 0) return id;
  const struct part *p = &d->parts[id];
  q->shared.split[id] = (struct descriptor){p->lo, p->hi, p->length, (uint16_t)p->flags, 0};
  q->shared.avail[d->next++ & MASK] = (uint16_t)id;
  return id;
}

/* Says whether the device wants to be notified, as the device does of the driver in `split_return`. */
static int split_publish(struct pair *q) {
  struct driver *d = &q->driver;
  uint32_t count = fresh(d);
  if (d->fault || count == 0) return 0;
  PUBLISH(q->shared.avail_index, d->next);
  if (!q->event_index) return (LOAD(q->shared.used_flags) & 1) == 0;
  return (uint16_t)(d->next - LOAD(q->shared.avail_event) - 1) < count;
}

static int split_take(struct pair *q) {
  struct driver *d = &q->driver;
  if (d->fault) return -1;
  uint32_t count = (uint16_t)(LOAD(q->shared.used_index) - d->next_used), done = 0;
  if (count > d->in_flight - (uint32_t)(d->committed - d->published)) return d->fault = 1, -1;
  for (; done < count; done++) {
    struct used *u = &q->shared.used[d->next_used & MASK];
    uint32_t id = ONCE(u->id), length = ONCE(u->length);
    if (release(d, id, length) < 0) break;
    d->ids[done] = (uint16_t)id;
    d->lengths[done] = length;
    d->next_used++;
  }
  return (int)done;
}

static int split_pop(struct pair *q) {
  struct device *d = &q->device;
  if (d->broken) return -1;
  if (d->next == d->seen) {
    uint16_t index = LOAD(q->shared.avail_index);
    if ((uint16_t)(index - d->next) > SIZE) return violation(d);
    d->seen = index;
    if (index == d->next) return -1;
  }
  uint32_t head = ONCE(q->shared.avail[d->next & MASK]), at = head, steps = 0;
  if (head >= SIZE || d->held[head]) return violation(d);
  begin(&d->chain);
  for (;;) {
    struct descriptor *x = &q->shared.split[at];
    uint32_t flags = ONCE(x->flags), lo = ONCE(x->lo), hi = ONCE(x->hi), length = ONCE(x->length);
    if ((flags & INDIRECT) || ++steps > SIZE || add_part(d, lo, hi, length, flags) < 0) return violation(d);
    if (!(flags & NEXT)) break;
    if ((at = ONCE(x->next)) >= SIZE) return violation(d);
  }
  d->held[head] = (uint16_t)steps;
  d->next++;
  d->chain.id = head;
  return (int)head;
}

static int split_push(struct pair *q, uint32_t id, uint32_t length) {
  struct device *d = &q->device;
  if (id >= SIZE || !d->held[id]) return violation(d);
  d->held[id] = 0;
  q->shared.used[d->next_used++ & MASK] = (struct used){id, length};
  return 0;
}

static int split_return(struct pair *q) {
  struct device *d = &q->device;
  if (d->broken || d->next_used == d->published) return 0;
  PUBLISH(q->shared.used_index, d->next_used);
  d->published = d->next_used;
  uint16_t before = d->notified;
  d->notified = d->published;
  if (!q->event_index) return (LOAD(q->shared.avail_flags) & 1) == 0;
  return (uint16_t)(d->published - LOAD(q->shared.used_event) - 1) < (uint16_t)(d->published - before);
}

/* ---- packed ---- */

static int wanted(const struct pair *q, uint32_t events, uint32_t slot, uint32_t wrap, uint32_t count) {
  uint32_t flags = events >> 16 & 3;
  if (flags != EVENTS_AT || !q->event_index) return flags != EVENTS_OFF;
  uint32_t at = events & 0x7fff, at_wrap = events >> 15 & 1;
  uint32_t past = slot + (wrap == at_wrap ? 0 : SIZE) - at - 1;
  return past < count;
}

static int packed_add(struct pair *q, uint64_t iova, uint32_t length, int writable) {
  struct driver *d = &q->driver;
  int id = hold(d, iova, length, writable);
  if (id < 0) return id;
  const struct part *p = &d->parts[id];
  struct packed_descriptor *x = &q->shared.packed[d->slot];
  uint16_t flags = (uint16_t)((d->wrap ? AVAIL : USED) | p->flags);
  x->lo = p->lo, x->hi = p->hi, x->length = p->length, x->id = (uint16_t)id;
  if (d->head_slot < 0) d->head_slot = (int32_t)d->slot, d->head_flags = flags;
  else x->flags = flags;
  if (++d->slot == SIZE) d->slot = 0, d->wrap ^= 1;
  return id;
}

static int packed_publish(struct pair *q) {
  struct driver *d = &q->driver;
  uint32_t count = fresh(d);
  if (d->fault || count == 0) return 0;
  PUBLISH(q->shared.packed[d->head_slot].flags, d->head_flags);
  d->head_slot = -1;
  return wanted(q, LOAD(q->shared.device_events), d->slot, d->wrap, count);
}

static int packed_take(struct pair *q) {
  struct driver *d = &q->driver;
  int done = 0;
  while (!d->fault) {
    struct packed_descriptor *x = &q->shared.packed[d->used_slot];
    uint32_t flags = LOAD(x->flags);
    if ((flags & BOTH) != (d->used_wrap ? BOTH : 0)) break;
    if (d->in_flight == (uint32_t)(d->committed - d->published)) { d->fault = 1; break; }
    uint32_t id = ONCE(x->id), length = flags & WRITE ? ONCE(x->length) : 0;
    uint32_t skip = id < SIZE ? d->taken[id] : 0;
    if (release(d, id, length) < 0) break;
    d->ids[done] = (uint16_t)id;
    d->lengths[done++] = length;
    if ((d->used_slot += skip) >= SIZE) d->used_slot -= SIZE, d->used_wrap ^= 1;
  }
  return d->fault ? -1 : done;
}

static int packed_pop(struct pair *q) {
  struct device *d = &q->device;
  if (d->broken) return -1;
  uint32_t at = d->slot, wrap = d->wrap, slots = 0, id;
  uint32_t flags = LOAD(q->shared.packed[at].flags);
  if ((flags & BOTH) != (wrap ? AVAIL : USED)) return -1;
  begin(&d->chain);
  for (;;) {
    struct packed_descriptor *x = &q->shared.packed[at];
    if (slots++ > 0) flags = ONCE(x->flags);
    if ((flags & BOTH) != (wrap ? AVAIL : USED) || (flags & INDIRECT)) return violation(d);
    uint32_t lo = ONCE(x->lo), hi = ONCE(x->hi), length = ONCE(x->length);
    if (slots > SIZE - d->outstanding || add_part(d, lo, hi, length, flags) < 0) return violation(d);
    id = ONCE(x->id);
    if (++at == SIZE) at = 0, wrap ^= 1;
    if (!(flags & NEXT)) break;
  }
  if (id >= SIZE || d->held[id]) return violation(d);
  d->held[id] = (uint16_t)slots;
  d->outstanding += slots;
  d->slot = at;
  d->wrap = wrap;
  d->chain.id = id;
  return (int)id;
}

static int packed_push(struct pair *q, uint32_t id, uint32_t length) {
  struct device *d = &q->device;
  uint32_t slots = id < SIZE ? d->held[id] : 0;
  if (slots == 0) return violation(d);
  d->held[id] = 0;
  d->pushed += slots;
  struct packed_descriptor *x = &q->shared.packed[d->used_slot];
  uint16_t flags = (uint16_t)((d->used_wrap ? BOTH : 0) | (length ? WRITE : 0));
  x->length = length, x->id = (uint16_t)id;
  if (d->first_slot < 0) d->first_slot = (int32_t)d->used_slot, d->first_flags = flags;
  else x->flags = flags;
  if ((d->used_slot += slots) >= SIZE) d->used_slot -= SIZE, d->used_wrap ^= 1;
  return 0;
}

static int packed_return(struct pair *q) {
  struct device *d = &q->device;
  if (d->broken || d->first_slot < 0) return 0;
  PUBLISH(q->shared.packed[d->first_slot].flags, d->first_flags);
  d->first_slot = -1;
  uint32_t count = d->pushed;
  d->outstanding -= count;
  d->pushed = 0;
  return wanted(q, LOAD(q->shared.driver_events), d->used_slot, d->used_wrap, count);
}

/* ---- what is called ---- */

static struct pair *pair_of(uint32_t packed, uint32_t event_index) { return &pairs[(packed != 0) + 2 * (event_index != 0)]; }

/* Makes a ring new. */
int32_t ring_reset(uint32_t packed, uint32_t event_index) {
  struct pair *q = pair_of(packed, event_index);
  memset(q, 0, sizeof *q);
  q->event_index = event_index != 0;
  for (uint32_t i = 0; i < SIZE; i++) q->driver.link[i] = (uint16_t)((i + 1) % SIZE);
  q->driver.free_count = SIZE;
  q->driver.wrap = q->driver.used_wrap = q->device.wrap = q->device.used_wrap = 1;
  q->driver.head_slot = q->device.first_slot = -1;
  q->device.regions[0] = (struct region){0x100000, sizeof q->shared, (uint8_t *)&q->shared, 1, 1};
  q->device.region_count = 1;
  /* Neither side wants to be notified, as when both poll. */
  q->shared.avail_flags = q->shared.used_flags = event_index ? 0 : 1;
  q->shared.driver_events = q->shared.device_events = EVENTS_OFF << 16;
  return 0;
}

#define TURN(add, publish, pop, push, give_back, take)                                \
  for (uint32_t done = 0; done < count; done += burst) {                              \
    for (uint32_t i = 0; i < burst; i++) if (add(q, iova, 64, 0) < 0) return -1;      \
    notified += publish(q);                                                           \
    for (uint32_t i = 0; i < burst; i++) {                                            \
      int id = pop(q);                                                                \
      if (id < 0 || push(q, (uint32_t)id, 0) < 0) return -2;                          \
    }                                                                                 \
    notified += give_back(q);                                                         \
    if (take(q) != (int)burst) return -3;                                             \
  }

static volatile int kept;

/* Moves at least `count` chains around, `burst` at a time. Gives 0, or a negative number when one is lost. */
int32_t ring_turn(uint32_t packed, uint32_t event_index, uint32_t count, uint32_t burst) {
  struct pair *q = pair_of(packed, event_index);
  if (burst == 0 || burst > SIZE) return -4;
  uint64_t iova = iova_of(q);
  int notified = 0;
  if (packed) { TURN(packed_add, packed_publish, packed_pop, packed_push, packed_return, packed_take) }
  else { TURN(split_add, split_publish, split_pop, split_push, split_return, split_take) }
  kept = notified; /* so that the answers are worked out */
  return 0;
}
