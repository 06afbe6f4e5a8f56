/**
 * A queue whose device is the front end itself, in the driver's process: few commands, none of them in a hurry.
 *
 * @module
 */
import { DeviceError } from "../../../errors/mod.ts";
import type { QueueState } from "../../spec/queue_state.ts";
import { initialQueueState } from "../../spec/queue_state.ts";
import { DESC_FLAG, USED_OFFSET } from "../../spec/ring.ts";
import {
  decodeRing,
  type ImageChain,
  type RingAreas,
  ringBytes,
  ringEvents,
  type RingShape,
} from "../../view/ring_image.ts";
import type { QueueAddresses } from "../transport.ts";

const DESCRIPTOR_BYTES = 16;

/** Where a queue and its commands are. */
export interface OwnQueueSite {
  /** For messages: the function and the number of the queue. */
  readonly function: string;
  /** See `function`. */
  readonly queue: number;
  /** The memory at an IOVA. @throws UsageError when there is none */
  memory(iova: bigint, lengthBytes: number): Uint8Array;
  /** Carries a command out. @returns its acknowledgement */
  answer(command: Uint8Array): number;
}

/** See the module's text. */
export class OwnQueue {
  readonly #shape: RingShape;
  readonly #site: OwnQueueSite;
  readonly #areas: RingAreas;
  #state: QueueState;

  constructor(shape: RingShape, addresses: QueueAddresses, site: OwnQueueSite) {
    this.#shape = shape;
    this.#site = site;
    const bytes = ringBytes(shape);
    this.#areas = {
      descriptorArea: site.memory(addresses.descriptorArea, bytes.descriptorArea),
      driverArea: site.memory(addresses.driverArea, bytes.driverArea),
      deviceArea: site.memory(addresses.deviceArea, bytes.deviceArea),
    };
    this.#state = initialQueueState(shape.layout);
  }

  /** Carries out all that is available. @returns whether there was any, and the driver wants to be told @throws DeviceError for a ring that cannot be */
  serve(): boolean {
    let any = false;
    for (;;) {
      const { chains: [chain], problem } = decodeRing(this.#shape, this.#areas, this.#state, 1);
      const wrong = problem ?? chain?.problem;
      if (wrong !== undefined) {
        const { queue } = this.#site;
        throw new DeviceError(wrong, { function: this.#site.function, queue, field: "ring" });
      }
      if (chain === undefined) break;
      this.#carryOut(chain);
      this.#give(chain);
      any = true;
    }
    return any && ringEvents(this.#shape, this.#areas).driverEvent !== "never";
  }

  #carryOut({ indirect, parts }: ImageChain): void {
    const command: number[] = [];
    let acknowledgement: Uint8Array | undefined;
    const take = (iova: bigint, lengthBytes: number, deviceWrites: boolean) => {
      const bytes = this.#site.memory(iova, lengthBytes);
      if (deviceWrites) acknowledgement ??= bytes;
      else command.push(...bytes);
    };
    for (const { iova, lengthBytes, deviceWrites } of parts) {
      if (!indirect) {
        take(BigInt(iova), lengthBytes, deviceWrites);
        continue;
      }
      const table = this.#site.memory(BigInt(iova), lengthBytes);
      const view = new DataView(table.buffer, table.byteOffset, lengthBytes);
      // The driver of this library has the entries of a table one behind the other.
      for (let at = 0; at < lengthBytes; at += DESCRIPTOR_BYTES) {
        const flags = view.getUint16(at + (this.#shape.layout === "split" ? 12 : 14), true);
        take(view.getBigUint64(at, true), view.getUint32(at + 8, true), (flags & DESC_FLAG.write) !== 0);
      }
    }
    const answer = this.#site.answer(Uint8Array.from(command));
    if (acknowledgement !== undefined) acknowledgement[0] = answer;
  }

  /** Returns a chain, with one byte written. */
  #give({ id, slot, parts }: ImageChain): void {
    const state = this.#state;
    const { descriptorArea, deviceArea } = this.#areas;
    if (state.layout === "split") {
      const used = new DataView(deviceArea.buffer, deviceArea.byteOffset, deviceArea.byteLength);
      const index = used.getUint16(USED_OFFSET.idx, true);
      const element = USED_OFFSET.ring + USED_OFFSET.elementBytes * (index % this.#shape.size);
      used.setUint32(element, id, true);
      used.setUint32(element + 4, 1, true);
      used.setUint16(USED_OFFSET.idx, index + 1 & 0xffff, true);
      const next = state.availableIndex + 1 & 0xffff;
      // Every command is to be told of.
      const event = USED_OFFSET.ring + USED_OFFSET.elementBytes * this.#shape.size;
      if (this.#shape.eventIndex) used.setUint16(event, next, true);
      this.#state = { layout: "split", availableIndex: next };
      return;
    }
    const ring = new DataView(descriptorArea.buffer, descriptorArea.byteOffset, descriptorArea.byteLength);
    const at = slot * DESCRIPTOR_BYTES;
    const both = state.usedWrap === 1 ? DESC_FLAG.avail | DESC_FLAG.used : 0;
    ring.setUint32(at + 8, 1, true);
    ring.setUint16(at + 12, id, true);
    ring.setUint16(at + 14, both | DESC_FLAG.write, true);
    let next = slot + parts.length, wrap = state.usedWrap;
    if (next >= this.#shape.size) {
      next -= this.#shape.size;
      wrap = wrap === 1 ? 0 : 1;
    }
    this.#state = {
      layout: "packed",
      availableSlot: next,
      availableWrap: wrap,
      usedSlot: next,
      usedWrap: wrap,
    };
  }
}
