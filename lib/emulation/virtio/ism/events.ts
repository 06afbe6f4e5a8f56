/**
 * Events of a virtio-ism function that its driver has no buffer for yet (reference 5.4).
 *
 * @module
 */
/** An event: which of `ISM_EVENTS`, and the fields that go into the driver's buffer. */
export type IsmEvent =
  | { readonly type: "update"; readonly offset: bigint; readonly devid: bigint }
  | {
    readonly type: "attach" | "detach";
    readonly offset: bigint;
    readonly devid: bigint;
    readonly peers: bigint;
  }
  | { readonly type: "buffer-free"; readonly buffer: bigint };

/** From here on peers that come and go unseen leave one trace, not many. */
const CROWDED = 1024;

/**
 * Oldest first. An update that waits already is not added again: it says that something changed, not how often. Attaches and detaches are all
 * kept, until more than a thousand events wait: then a peer that attaches and detaches once more, where its detaching waits already, adds
 * nothing. So the list grows with peers and regions, and not with time.
 */
export class EventBacklog {
  readonly #events = new Set<IsmEvent>();
  readonly #updates = new Map<string, IsmEvent>();
  #bufferFrees = 0;

  /** How many wait. */
  get size(): number {
    return this.#events.size;
  }

  /** How many of them are BUFFER_FREE. */
  get bufferFrees(): number {
    return this.#bufferFrees;
  }

  /** Adds one, or finds that it adds nothing. */
  add(event: IsmEvent): void {
    if (event.type === "update") {
      const key = `${event.offset} ${event.devid}`;
      if (this.#updates.has(key)) return;
      this.#updates.set(key, event);
    } else if (event.type === "detach" && this.#events.size >= CROWDED && this.#cancel(event)) return;
    else if (event.type === "buffer-free") this.#bufferFrees++;
    this.#events.add(event);
  }

  /** Takes the attach back that this detach ends, when an older detach of the same peer tells the driver as much. */
  #cancel({ offset, devid }: { readonly offset: bigint; readonly devid: bigint }): boolean {
    let older = false;
    let attach: IsmEvent | undefined;
    for (const one of this.#events) {
      if (one.type !== "attach" && one.type !== "detach") continue;
      if (one.offset !== offset || one.devid !== devid) continue;
      if (one.type === "detach") older = true;
      else attach = older ? one : undefined;
    }
    return attach !== undefined && this.#events.delete(attach);
  }

  /** The oldest; undefined when none waits. */
  first(): IsmEvent | undefined {
    for (const event of this.#events) return event;
    return undefined;
  }

  /** Takes one out. */
  remove(event: IsmEvent): void {
    if (!this.#events.delete(event)) return;
    if (event.type === "update") this.#updates.delete(`${event.offset} ${event.devid}`);
    if (event.type === "buffer-free") this.#bufferFrees--;
  }

  /** Takes out what is about the region at `offset`, which the driver no longer has; updates alone with `only`. */
  forget(offset: bigint, only?: "update"): void {
    for (const event of this.#events) {
      if (event.type === "buffer-free" || event.offset !== offset) continue;
      if (only === undefined || event.type === only) this.remove(event);
    }
  }

  /** Forgets all. */
  clear(): void {
    this.#events.clear();
    this.#updates.clear();
    this.#bufferFrees = 0;
  }
}
