/*
 * The yardstick of the ring benchmark: a virtqueue's two sides in C, with the book-keeping and the checks that the library's queues do.
 *
 * Driver: a record for each descriptor of a chain in flight (its part, to be offered again after a reset; its writable bytes; its place in the order
 * of commits), free records as a list, and a check of each index, id and length that the device wrote. Device: the same distrust of the driver, chains
 * as parts that are found in a table of memory regions, what each head that it holds is, and in what order they were taken. Both look each time whether
 * they are broken or closed. IN_ORDER: records go round, chains come back as batches, and both sides insist on the order.
 *
 * Compiled at run time, `cc -O2 -shared -fPIC`; the functions at the end take and give numbers alone, and are called once for many descriptors.
 */
#include <stdint.h>
#include <string.h>

#define SIZE 256u
#define MASK (SIZE - 1u)
#define REGIONS 4
#define CHAIN_PARTS (2 * SIZE + 16)
#define TABLE_PARTS 2u
#define CHAIN_BYTES_MAX (UINT64_C(1) << 32)

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 0x80, USED = 0x8000, BOTH = AVAIL | USED };
/* Event suppression of a packed ring, in the upper half of its 32 bits. */
enum { EVENTS_ON = 0, EVENTS_OFF = 1, EVENTS_AT = 2 };
/* Bits of a kind of ring. */
enum { PACKED = 1, EVENT_INDEX = 2, IN_ORDER = 4, NOTIFIED = 8, KINDS = 16 };

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
  _Alignas(64) uint32_t tables[SIZE][TABLE_PARTS][4];
  _Alignas(64) uint8_t buffer[4096];
};

struct part { uint32_t lo, hi, length, flags; };

struct driver {
  struct part parts[SIZE], table_parts[SIZE][TABLE_PARTS];
  uint16_t link[SIZE], tail[SIZE], taken[SIZE], in_table[SIZE];
  uint32_t writable[SIZE];
  uint64_t serial[SIZE]; /* 0: not in flight */
  uint64_t committed, published;
  uint32_t free_head, free_count, in_flight;
  int fault, closed, in_order;
  uint32_t oldest, batch_length;
  int32_t batch_end;                              /* -1: no batch is open */
  uint16_t next, next_used;                       /* split */
  uint32_t slot, wrap, used_slot, used_wrap, shown; /* packed */
  int32_t head_slot;                              /* written last: its flags publish the burst */
  uint16_t head_flags;
  uint16_t ids[SIZE];
  uint32_t lengths[SIZE];
};

struct region { uint64_t iova, bytes; uint8_t *memory; int reads, writes; };

struct chain {
  uint32_t id, parts, readable_parts;
  uint64_t readable, writable;
  struct region *region[CHAIN_PARTS];
  uint64_t offset[CHAIN_PARTS];
  uint32_t length[CHAIN_PARTS];
};

struct device {
  struct region regions[REGIONS];
  uint32_t region_count;
  struct region *last;
  int broken, generation, mapped, rests, in_order;
  uint16_t held[SIZE]; /* by head (split) or id (packed): ring descriptors that it takes, 0 when it is not held */
  uint16_t order[SIZE]; /* ids in the order in which they were taken, round and round */
  uint32_t taken_next, return_next, held_count;
  int32_t head_next; /* IN_ORDER, split: the next chain begins there; -1: anywhere */
  uint16_t next, seen, next_used, published, notified;          /* split */
  uint32_t slot, wrap, used_slot, used_wrap, outstanding, pushed; /* packed */
  uint64_t life, noted; /* packed: descriptors taken, and the last position that a notification said */
  int32_t first_slot;
  uint16_t first_flags;
  struct chain chain;
};

struct pair { struct shared shared; struct driver driver; struct device device; int event_index; uint32_t doorbell; };

static struct pair pairs[KINDS];

#define PUBLISH(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)
#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
/* Read once: the other side may change it between two looks. */
#define ONCE(place) (*(volatile __typeof__(place) *)&(place))

#define BASE 0x100000
static uint64_t iova_of(const struct pair *q, const void *at) { return BASE + (uint64_t)((const uint8_t *)at - (const uint8_t *)&q->shared); }

/* ---- the driver, whatever the layout ---- */

static void commit(struct driver *d, uint32_t id, uint32_t last, uint32_t taken, uint32_t in_table, uint64_t writable) {
  d->free_head = d->link[last];
  d->free_count -= taken;
  d->tail[id] = (uint16_t)last;
  d->taken[id] = (uint16_t)taken;
  d->in_table[id] = (uint16_t)in_table;
  d->writable[id] = writable > UINT32_MAX ? UINT32_MAX : (uint32_t)writable;
  d->serial[id] = ++d->committed;
  d->in_flight++;
}

/* Takes a record for a chain of one part; its number is the chain's id. */
static int hold(struct driver *d, uint64_t iova, uint32_t length, int writable) {
  if (d->fault || d->closed || length == 0 || d->free_count == 0) return -1;
  uint32_t id = d->free_head;
  d->parts[id] = (struct part){(uint32_t)iova, (uint32_t)(iova >> 32), length, writable ? WRITE : 0};
  commit(d, id, id, 1, 0, writable ? length : 0);
  return (int)id;
}

/* The same of a chain of several parts, of which the device reads the first and writes the others. */
static int hold_parts(struct driver *d, uint64_t iova, uint32_t length, uint32_t parts) {
  uint32_t in_table = parts <= TABLE_PARTS ? parts : 0, taken = in_table ? 1 : parts;
  if (d->fault || d->closed || parts > SIZE || taken > d->free_count) return -1;
  uint32_t id = d->free_head, record = id, last = id;
  uint64_t bytes = 0, writable = 0;
  for (uint32_t at = 0; at < parts; at++) {
    if (length == 0 || (bytes += length) > CHAIN_BYTES_MAX) return -1;
    if (at > 0) writable += length;
    struct part *part = in_table ? &d->table_parts[id][at] : &d->parts[record];
    *part = (struct part){(uint32_t)iova, (uint32_t)(iova >> 32), length, at > 0 ? WRITE : 0};
    if (!in_table) last = record, record = d->link[record];
  }
  commit(d, id, last, taken, in_table, writable);
  return (int)id;
}

static uint32_t fresh(struct driver *d) {
  uint32_t count = (uint32_t)(d->committed - d->published);
  d->published = d->committed;
  return count;
}

static uint32_t held_by_device(const struct driver *d) { return d->in_flight - (uint32_t)(d->committed - d->published); }

/* It must be one that the device has, with no more bytes than it has room for. */
static int returned_well(struct driver *d, uint32_t id, uint32_t length) {
  if (id < SIZE && d->serial[id] != 0 && d->serial[id] <= d->published && length <= d->writable[id]) return 0;
  return d->fault = 1, -1;
}

static void release(struct driver *d, uint32_t id) {
  d->serial[id] = 0;
  d->link[d->tail[id]] = (uint16_t)d->free_head;
  d->free_head = id;
  d->free_count += d->taken[id];
  d->in_flight--;
}

/* IN_ORDER: gives the next chain of the open batch out; records stay in their order. */
static uint32_t next_of_batch(struct driver *d, int at) {
  uint32_t id = d->oldest, length = d->writable[id];
  if ((int32_t)id == d->batch_end) length = d->batch_length, d->batch_end = -1;
  d->ids[at] = (uint16_t)id;
  d->lengths[at] = length;
  d->serial[id] = 0;
  d->oldest = (id + d->taken[id]) & MASK;
  d->free_count += d->taken[id];
  d->in_flight--;
  return d->taken[id];
}

/* ---- the device, whatever the layout ---- */

static int ready(const struct device *d) { return !d->rests && !d->broken && d->generation == d->mapped; }

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
  if (c->readable + c->writable + length > CHAIN_BYTES_MAX) return -1;
  uint64_t iova = (uint64_t)hi << 32 | lo;
  struct region *r = find(d, iova, length);
  if (!r || !(writes ? r->writes : r->reads)) return -1;
  c->region[c->parts] = r;
  c->offset[c->parts] = iova - r->iova;
  c->length[c->parts++] = length;
  if (writes) c->writable += length;
  else c->readable += length, c->readable_parts = c->parts;
  return 0;
}

/* Reads an indirect table, whose entries each name the next one (split) or follow one another (packed). */
static int add_table(struct device *d, uint32_t lo, uint32_t hi, uint32_t length, int linked) {
  uint32_t entries = length / 16, at = 0;
  if (length == 0 || length % 16 != 0 || entries > SIZE) return -1;
  for (uint32_t steps = 1; steps <= SIZE; steps++) {
    uint64_t iova = ((uint64_t)hi << 32 | lo) + 16 * at;
    struct region *r = find(d, iova, 16);
    struct descriptor x; /* of a packed ring: `next` is where its flags are */
    if (!r || !r->reads) return -1;
    memcpy(&x, r->memory + (iova - r->iova), 16);
    uint32_t flags = linked ? x.flags : x.next;
    if ((linked && (flags & INDIRECT)) || add_part(d, x.lo, x.hi, x.length, flags) < 0) return -1;
    if (linked ? !(flags & NEXT) : at + 1 == entries) return 0;
    if (linked && (x.next >= entries || (d->in_order && x.next != at + 1))) return -1;
    at = linked ? x.next : at + 1;
  }
  return -1;
}

static int violation(struct device *d) { return d->broken = 1, -1; }

static void took(struct device *d, uint32_t id, uint32_t slots) {
  d->held[id] = (uint16_t)slots;
  d->order[d->taken_next] = (uint16_t)id;
  d->taken_next = (d->taken_next + 1) & MASK;
  d->held_count++;
  d->chain.id = id;
}

/* Descriptors of a chain that the device holds and may return now; 0: it may not. */
static uint32_t give_up(struct device *d, uint32_t id) {
  uint32_t slots = id < SIZE && !d->broken && d->generation == d->mapped ? d->held[id] : 0;
  if (slots == 0) return 0;
  if (d->in_order) {
    if (d->order[d->return_next] != id) return 0;
    d->return_next = (d->return_next + 1) & MASK;
  }
  d->held[id] = 0;
  d->held_count--;
  return slots;
}

/* ---- split ---- */

static void split_describe(struct pair *q, uint32_t record, uint32_t flags, uint32_t next) {
  const struct part *p = &q->driver.parts[record];
  q->shared.split[record] = (struct descriptor){p->lo, p->hi, p->length, (uint16_t)(p->flags | flags), (uint16_t)next};
}

static int split_offer(struct pair *q, int id) {
  struct driver *d = &q->driver;
  if (id < 0) return id;
  uint32_t in_table = d->in_table[id];
  if (in_table != 0) {
    for (uint32_t at = 0; at < in_table; at++) {
      const struct part *p = &d->table_parts[id][at];
      uint32_t last = at + 1 == in_table;
      memcpy(q->shared.tables[id][at], p, 12);
      q->shared.tables[id][at][3] = last ? p->flags : p->flags | NEXT | (at + 1) << 16;
    }
    uint64_t table = iova_of(q, q->shared.tables[id]);
    q->shared.split[id] = (struct descriptor){(uint32_t)table, (uint32_t)(table >> 32), 16 * in_table, INDIRECT, 0};
  } else {
    uint32_t record = (uint32_t)id;
    for (uint32_t left = d->taken[id]; left > 1; left--) split_describe(q, record, NEXT, d->link[record]), record = d->link[record];
    split_describe(q, record, 0, 0);
  }
  q->shared.avail[d->next++ & MASK] = (uint16_t)id;
  return id;
}

/* Says whether the device wants to be notified, as the device does of the driver in `split_return`. */
static int split_publish(struct pair *q) {
  struct driver *d = &q->driver;
  uint32_t count = fresh(d);
  if (d->fault || d->closed || count == 0) return 0;
  q->doorbell = (uint32_t)d->next << 16;
  PUBLISH(q->shared.avail_index, d->next);
  if (!q->event_index) return (LOAD(q->shared.used_flags) & 1) == 0;
  return (uint16_t)(d->next - LOAD(q->shared.avail_event) - 1) < count;
}

static int split_take(struct pair *q) {
  struct driver *d = &q->driver;
  if (d->fault || d->closed) return -1;
  uint32_t count = (uint16_t)(LOAD(q->shared.used_index) - d->next_used), done = 0;
  if (count > held_by_device(d)) return d->fault = 1, -1;
  for (; done < count; done++) {
    struct used *u = &q->shared.used[d->next_used & MASK];
    if (d->batch_end < 0) {
      uint32_t id = ONCE(u->id), length = ONCE(u->length);
      if (returned_well(d, id, length) < 0) break;
      if (!d->in_order) {
        release(d, id);
        d->ids[done] = (uint16_t)id;
        d->lengths[done] = length;
        d->next_used++;
        continue;
      }
      if (d->serial[id] - d->serial[d->oldest] + 1 > count - done) { d->fault = 1; break; }
      d->batch_end = (int32_t)id;
      d->batch_length = length;
    }
    next_of_batch(d, (int)done);
    d->next_used++;
  }
  return (int)done;
}

static int split_pop(struct pair *q) {
  struct device *d = &q->device;
  if (!ready(d)) return -1;
  if (d->next == d->seen) {
    uint16_t index = LOAD(q->shared.avail_index);
    if ((uint16_t)(index - d->next) > SIZE) return violation(d);
    d->seen = index;
    if (index == d->next) return -1;
  }
  uint32_t head = ONCE(q->shared.avail[d->next & MASK]), at = head, steps = 0;
  if (head >= SIZE || d->held[head]) return violation(d);
  if (d->in_order && d->head_next >= 0 && head != (uint32_t)d->head_next) return violation(d);
  begin(&d->chain);
  for (;;) {
    struct descriptor *x = &q->shared.split[at];
    uint32_t flags = ONCE(x->flags), lo = ONCE(x->lo), hi = ONCE(x->hi), length = ONCE(x->length);
    if (++steps > SIZE) return violation(d);
    if (flags & INDIRECT) {
      if ((flags & NEXT) || add_table(d, lo, hi, length, 1) < 0) return violation(d);
      break;
    }
    if (add_part(d, lo, hi, length, flags) < 0) return violation(d);
    if (!(flags & NEXT)) break;
    uint32_t next = ONCE(x->next);
    if (next >= SIZE || (d->in_order && next != ((at + 1) & MASK))) return violation(d);
    at = next;
  }
  d->head_next = (int32_t)((at + 1) & MASK);
  d->next++;
  took(d, head, 1);
  return (int)head;
}

static int split_push(struct pair *q, uint32_t id, uint32_t length) {
  struct device *d = &q->device;
  if (give_up(d, id) == 0) return violation(d);
  q->shared.used[d->next_used++ & MASK] = (struct used){id, length};
  return 0;
}

static int split_return(struct pair *q) {
  struct device *d = &q->device;
  if (!ready(d) || d->next_used == d->published) return 0;
  PUBLISH(q->shared.used_index, d->next_used);
  d->published = d->next_used;
  uint16_t before = d->notified;
  d->notified = d->published;
  if (!q->event_index) {
    uint16_t flags = LOAD(q->shared.avail_flags);
    if (flags > 1) return violation(d);
    return (flags & 1) == 0;
  }
  return (uint16_t)(d->published - LOAD(q->shared.used_event) - 1) < (uint16_t)(d->published - before);
}

/* The device wants to be notified of the next chain. */
static void split_arm(struct pair *q) {
  struct device *d = &q->device;
  if (q->event_index) PUBLISH(q->shared.avail_event, d->next);
  else PUBLISH(q->shared.used_flags, 0);
  uint16_t index = LOAD(q->shared.avail_index);
  if ((uint16_t)(index - d->next) > SIZE) violation(d);
  else d->seen = index;
}

static int split_notified(struct pair *q) {
  uint16_t ahead = (uint16_t)((q->doorbell >> 16) - LOAD(q->shared.avail_index));
  return ahead == 0 || ahead > SIZE ? 0 : -1;
}

/* ---- packed ---- */

static int wanted(const struct pair *q, uint32_t events, uint32_t slot, uint32_t wrap, uint32_t count) {
  uint32_t flags = events >> 16 & 3;
  if (flags != EVENTS_AT || !q->event_index) return flags != EVENTS_OFF;
  uint32_t at = events & 0x7fff, at_wrap = events >> 15 & 1;
  uint32_t past = slot + (wrap == at_wrap ? 0 : SIZE) - at - 1;
  return past < count;
}

static void packed_head(struct pair *q, uint32_t slot, uint32_t id, uint32_t flags) {
  struct driver *d = &q->driver;
  q->shared.packed[slot].id = (uint16_t)id;
  if (d->head_slot < 0) d->head_slot = (int32_t)slot, d->head_flags = (uint16_t)flags;
  else q->shared.packed[slot].flags = (uint16_t)flags;
}

static int packed_offer(struct pair *q, int id) {
  struct driver *d = &q->driver;
  if (id < 0) return id;
  uint32_t in_table = d->in_table[id], taken = d->taken[id], record = (uint32_t)id;
  for (uint32_t left = taken; left > 0; left--) {
    struct packed_descriptor *x = &q->shared.packed[d->slot];
    const struct part *p = &d->parts[record];
    uint32_t flags = d->wrap ? AVAIL : USED;
    if (in_table != 0) {
      for (uint32_t at = 0; at < in_table; at++) {
        const struct part *of = &d->table_parts[id][at];
        memcpy(q->shared.tables[id][at], of, 12);
        q->shared.tables[id][at][3] = of->flags << 16;
      }
      uint64_t table = iova_of(q, q->shared.tables[id]);
      x->lo = (uint32_t)table, x->hi = (uint32_t)(table >> 32), x->length = 16 * in_table;
      flags |= INDIRECT;
    } else {
      x->lo = p->lo, x->hi = p->hi, x->length = p->length;
      flags |= p->flags | (left > 1 ? NEXT : 0);
    }
    if (left == taken) packed_head(q, d->slot, (uint32_t)id, flags);
    else x->id = (uint16_t)id, x->flags = (uint16_t)flags;
    if (++d->slot == SIZE) d->slot = 0, d->wrap ^= 1;
    record = d->link[record];
  }
  return id;
}

static int packed_publish(struct pair *q) {
  struct driver *d = &q->driver;
  uint32_t count = fresh(d);
  if (d->fault || d->closed || count == 0) return 0;
  uint32_t filled = d->slot > d->shown ? d->slot - d->shown : d->slot - d->shown + SIZE;
  d->shown = d->slot;
  q->doorbell = d->slot << 16 | d->wrap << 31;
  PUBLISH(q->shared.packed[d->head_slot].flags, d->head_flags);
  d->head_slot = -1;
  return wanted(q, LOAD(q->shared.device_events), d->slot, d->wrap, filled);
}

static int packed_take(struct pair *q) {
  struct driver *d = &q->driver;
  int done = 0;
  while (!d->fault && !d->closed && done < (int)SIZE) {
    uint32_t skip = 0;
    if (d->batch_end < 0) {
      struct packed_descriptor *x = &q->shared.packed[d->used_slot];
      uint32_t flags = LOAD(x->flags);
      if ((flags & BOTH) != (d->used_wrap ? BOTH : 0)) break;
      if (held_by_device(d) == 0) { d->fault = 1; break; }
      uint32_t id = ONCE(x->id), length = flags & WRITE ? ONCE(x->length) : 0;
      if (returned_well(d, id, length) < 0) break;
      if (d->in_order) {
        d->batch_end = (int32_t)id;
        d->batch_length = length;
      } else {
        skip = d->taken[id];
        release(d, id);
        d->ids[done] = (uint16_t)id;
        d->lengths[done] = length;
      }
    }
    if (d->batch_end >= 0) skip = next_of_batch(d, done);
    done++;
    if ((d->used_slot += skip) >= SIZE) d->used_slot -= SIZE, d->used_wrap ^= 1;
  }
  return d->fault ? -1 : done;
}

static int packed_pop(struct pair *q) {
  struct device *d = &q->device;
  if (!ready(d)) return -1;
  uint32_t at = d->slot, wrap = d->wrap, slots = 0, id;
  uint32_t flags = LOAD(q->shared.packed[at].flags);
  if ((flags & BOTH) != (wrap ? AVAIL : USED)) return -1;
  begin(&d->chain);
  for (;;) {
    struct packed_descriptor *x = &q->shared.packed[at];
    if (slots++ > 0) flags = ONCE(x->flags);
    if ((flags & BOTH) != (wrap ? AVAIL : USED) || slots > SIZE - d->outstanding) return violation(d);
    uint32_t lo = ONCE(x->lo), hi = ONCE(x->hi), length = ONCE(x->length);
    if (flags & INDIRECT) {
      if ((flags & NEXT) || slots > 1 || add_table(d, lo, hi, length, 0) < 0) return violation(d);
    } else if (add_part(d, lo, hi, length, flags) < 0) return violation(d);
    id = ONCE(x->id);
    if (++at == SIZE) at = 0, wrap ^= 1;
    if (!(flags & NEXT)) break;
  }
  if (id >= SIZE || d->held[id]) return violation(d);
  d->outstanding += slots;
  d->life += slots;
  d->slot = at;
  d->wrap = wrap;
  took(d, id, slots);
  return (int)id;
}

static int packed_push(struct pair *q, uint32_t id, uint32_t length) {
  struct device *d = &q->device;
  uint32_t slots = give_up(d, id);
  if (slots == 0) return violation(d);
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
  if (!ready(d) || d->first_slot < 0) return 0;
  PUBLISH(q->shared.packed[d->first_slot].flags, d->first_flags);
  d->first_slot = -1;
  uint32_t count = d->pushed, events = LOAD(q->shared.driver_events);
  d->outstanding -= count;
  d->pushed = 0;
  if (events >> 16 > EVENTS_AT || (events >> 16 == EVENTS_AT && (!q->event_index || (events & 0x7fff) >= SIZE))) return violation(d);
  return wanted(q, events, d->used_slot, d->used_wrap, count);
}

static int packed_available(const struct pair *q, uint32_t slot, uint32_t wrap) {
  return (LOAD(q->shared.packed[slot].flags) & BOTH) == (wrap ? AVAIL : USED);
}

static void packed_arm(struct pair *q) {
  const struct device *d = &q->device;
  if (q->event_index) PUBLISH(q->shared.device_events, d->slot | d->wrap << 15 | EVENTS_AT << 16);
  else PUBLISH(q->shared.device_events, EVENTS_ON << 16);
  packed_available(q, d->slot, d->wrap);
}

static int packed_notified(struct pair *q) {
  struct device *d = &q->device;
  uint64_t position = (q->doorbell >> 16 & 0x7fff) + (q->doorbell >> 31 ? 0 : SIZE);
  uint64_t least = d->noted + 1 < SIZE ? 0 : d->noted + 1 - SIZE;
  if (position < least) position += 2 * SIZE * ((least - position + 2 * SIZE - 1) / (2 * SIZE));
  uint32_t slot = d->slot, wrap = d->wrap;
  for (uint64_t at = d->life; at < position; at++) {
    if (at - d->life >= SIZE - d->outstanding || !packed_available(q, slot, wrap)) return -1;
    if (++slot == SIZE) slot = 0, wrap ^= 1;
  }
  if (position > d->noted) d->noted = position;
  return 0;
}

/* ---- what is called ---- */

/* Makes a ring new. */
int32_t ring_reset(uint32_t kind) {
  if (kind >= KINDS) return -4;
  struct pair *q = &pairs[kind];
  memset(q, 0, sizeof *q);
  q->event_index = (kind & EVENT_INDEX) != 0;
  q->driver.in_order = q->device.in_order = (kind & IN_ORDER) != 0;
  for (uint32_t i = 0; i < SIZE; i++) q->driver.link[i] = (uint16_t)((i + 1) & MASK);
  q->driver.free_count = SIZE;
  q->driver.batch_end = -1;
  q->driver.wrap = q->driver.used_wrap = q->device.wrap = q->device.used_wrap = 1;
  q->driver.head_slot = q->device.first_slot = -1;
  q->device.regions[0] = (struct region){BASE, sizeof q->shared, (uint8_t *)&q->shared, 1, 1};
  q->device.region_count = 1;
  /* Neither side wants to be notified, as when both poll; the device does before each burst, when the kind says so. */
  q->shared.avail_flags = q->shared.used_flags = q->event_index ? 0 : 1;
  q->shared.used_event = q->shared.avail_event = 0xffff;
  q->shared.driver_events = q->shared.device_events = EVENTS_OFF << 16;
  return 0;
}

#define TURN(offer, publish, arm, was_notified, pop, push, give_back, take)             \
  for (uint32_t done = 0; done < count; done += burst) {                                \
    if (armed) arm(q);                                                                  \
    if (parts == 1) {                                                                   \
      for (uint32_t i = 0; i < burst; i++) if (offer(q, hold(d, iova, 64, 0)) < 0) return -1; \
    } else {                                                                            \
      for (uint32_t i = 0; i < burst; i++) if (offer(q, hold_parts(d, iova, 16, parts)) < 0) return -1; \
    }                                                                                   \
    int wants = publish(q);                                                             \
    if (armed && (!wants || was_notified(q) < 0)) return -5;                            \
    notified += wants;                                                                  \
    for (uint32_t i = 0; i < burst; i++) {                                              \
      int id = pop(q);                                                                  \
      if (id < 0 || push(q, (uint32_t)id, 0) < 0) return -2;                            \
    }                                                                                   \
    notified += give_back(q);                                                           \
    if (take(q) != (int)burst) return -3;                                               \
  }

static volatile int kept;

/* Moves at least `count` chains of so many parts around, `burst` at a time. Gives 0, or a negative number when one is lost. */
int32_t ring_turn(uint32_t kind, uint32_t parts, uint32_t count, uint32_t burst) {
  if (kind >= KINDS || parts == 0 || burst == 0 || burst * (parts <= TABLE_PARTS ? 1 : parts) > SIZE) return -4;
  struct pair *q = &pairs[kind];
  struct driver *d = &q->driver;
  uint64_t iova = iova_of(q, q->shared.buffer);
  int notified = 0, armed = (kind & NOTIFIED) != 0;
  if (kind & PACKED) { TURN(packed_offer, packed_publish, packed_arm, packed_notified, packed_pop, packed_push, packed_return, packed_take) }
  else { TURN(split_offer, split_publish, split_arm, split_notified, split_pop, split_push, split_return, split_take) }
  kept = notified; /* so that the answers are worked out */
  return 0;
}
