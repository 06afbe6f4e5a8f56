/**
 * A virtio-ism device (device 44 of the draft's version 3; reference 5): memory that functions of a communication domain share.
 *
 * @module
 */
import { DEVICE_ID } from "../../../virtio/spec/device_id.ts";
import { ISM_CONFIG, ISM_EVENTS, ISM_FEATURE, ISM_QUEUE } from "../../../virtio/spec/ism.ts";
import type { ModelOptions } from "../../device_kind.ts";
import type { DeviceCore, DeviceModel } from "../../device_model.ts";
import { Chain } from "../queue/chain.ts";
import { IsmAreas } from "./area.ts";
import { IsmControl } from "./control.ts";
import type { IsmDomain, IsmDomains } from "./domain.ts";
import type { IsmEvent } from "./events.ts";
import { ISM_FAMILY, type IsmLie } from "../lies/ism.ts";
import { Occasions, parseLie } from "../lies/lie.ts";
import type { IsmMember } from "./region.ts";

/** Own fields of a virtio-ism function. What is not there has the model's default. */
export interface IsmFields {
  /** Name of its communication domain. Default `d0`. */
  readonly domain?: string;
  /** Bytes of a chunk, a power of two from 4096 on. Default 65536. */
  readonly chunkSize?: number;
  /** Chunks of its area, 1 to 65536. Default 4096. */
  readonly chunks?: number;
  /** Bytes of a notify address, 1 to 4096. Default 4. */
  readonly notifySize?: number;
  /** Bytes of memory for the regions of its domain. Default 1 GiB. */
  readonly memory?: number;
}

/** What a virtio-ism device is made from. */
export type IsmModelOptions = IsmFields & ModelOptions;

/** Defaults of a device. */
export const ISM_DEFAULTS: Required<IsmFields> = {
  domain: "d0",
  chunkSize: 65536,
  chunks: 4096,
  notifySize: 4,
  memory: 1 << 30,
} as const;

/** Vectors that a driver can bind to regions, beside those of its queues. */
const REGION_VECTORS = 32;
/** One event buffer takes so many bytes of events at most. */
const EVENT_BUFFER_BYTES = 4096;
const UNKNOWN_EVENT = 3n;
const SHORT_BY = 8;

/** The device. */
export class IsmModel implements DeviceModel {
  readonly deviceId: number = DEVICE_ID.ism;
  readonly features: bigint;
  readonly configSizeBytes: number = ISM_CONFIG.sizeBytes;
  /** Memory controller, other. */
  readonly classCode = 0x058000;
  readonly queueSizes: readonly number[];
  readonly extraVectors: number = REGION_VECTORS;
  readonly keepsDmaFiles = true;
  readonly sharedMemory: IsmAreas;
  readonly #domains: IsmDomains;
  readonly #options: Required<IsmFields>;
  readonly #lies: Occasions<IsmLie> | undefined;
  readonly #chain: Chain;
  readonly #scratch = new Uint8Array(EVENT_BUFFER_BYTES);
  #domain: IsmDomain | null = null;
  #control: IsmControl | null = null;

  /** A device that joins its domain with `connect`. @throws UsageError for options that cannot be */
  constructor(domains: IsmDomains, options: IsmModelOptions = {}) {
    this.#domains = domains;
    const { queueSize = 64, featuresOff = 0n } = options;
    const { domain, chunkSize, chunks, notifySize, memory } = { ...ISM_DEFAULTS, ...options };
    this.#options = { domain, chunkSize, chunks, notifySize, memory };
    this.#lies = options.lie === undefined
      ? undefined
      : new Occasions(parseLie(options.lie, ISM_FAMILY, options.told));
    this.features = ISM_FEATURE.DEV_MEM & ~featuresOff;
    this.queueSizes = [queueSize, queueSize];
    this.#chain = new Chain(queueSize);
    this.sharedMemory = new IsmAreas(chunks, chunkSize, notifySize, this.#lies?.lie === "ism-no-shm");
  }

  /** Its domain, from `connect` on. */
  get domain(): IsmDomain | null {
    return this.#domain;
  }

  /** Its place in the domain, from `connect` on. */
  get member(): IsmMember | null {
    return this.sharedMemory.member;
  }

  /** Joins its domain. @throws UsageError when the domain's devices have other settings */
  connect(core: DeviceCore): void {
    const { domain: name, chunkSize, chunks, memory } = this.#options;
    const domain = this.#domains.domain(name, { chunkSizeBytes: chunkSize, memoryBytes: memory });
    const member = domain.join(core, chunks, this.sharedMemory.stride);
    this.#domain = domain;
    this.#control = new IsmControl(domain, member, this.#lies);
    this.sharedMemory.member = member;
  }

  /** Leaves the domain: its regions live on with those that refer to them. May be called again. */
  close(): void {
    if (this.member !== null) this.#domain?.leave(this.member);
    this.sharedMemory.member = null;
  }

  /** `struct virtio_ism_config`. */
  config(): Uint8Array {
    const { chunkSize, notifySize } = this.#options;
    const bytes = ISM_CONFIG.encode({
      devid: this.member?.devid ?? 0n,
      chunk_size: BigInt(this.#lies?.lie === "ism-chunk-size" ? 3 * chunkSize : chunkSize),
      notify_size: BigInt(notifySize),
    });
    if (this.#domain !== null) bytes.set(this.#domain.cdid);
    return bytes;
  }

  /** There is nothing to write. */
  writeConfig(_offset: number, _from: Uint8Array): void {
    this.member?.core.report("5.1", "the configuration space was written: all of it is for reading");
  }

  /** References to regions go; whoever shared them hears of it. */
  reset(): void {
    if (this.member !== null) this.#domain!.reset(this.member);
  }

  /** Carries out commands, and gives events to buffers, at most `budget` of both. @returns how many were moved */
  poll(budget: number): number {
    const done = this.#commands(budget);
    return done + this.#events(budget - done);
  }

  /** Asks for notifications: of commands, and of event buffers while events wait. @returns true when work is there already */
  arm(): boolean {
    const { member } = this;
    if (member === null) return false;
    const { core, events } = member;
    const commands = core.queue(ISM_QUEUE.control)?.arm() ?? false;
    return events.size > 0 && core.queue(ISM_QUEUE.event)?.arm() === true || commands;
  }

  #commands(budget: number): number {
    const queue = this.member?.core.queue(ISM_QUEUE.control);
    if (queue === undefined) return 0;
    let moved = 0;
    while (moved < budget) {
      const id = queue.pop(this.#chain);
      if (id < 0) break;
      queue.pushUsed(id, this.#control!.run(this.#chain));
      moved++;
    }
    if (moved > 0) queue.publish();
    return moved;
  }

  #events(budget: number): number {
    const { member } = this;
    if (member === null || member.events.size === 0 || budget <= 0) return 0;
    const { core, events } = member;
    const queue = core.queue(ISM_QUEUE.event);
    if (queue === undefined) return 0;
    let moved = 0;
    while (moved < budget && events.size > 0) {
      const id = queue.pop(this.#chain);
      if (id < 0) break;
      if (this.#chain.readableCount > 0) {
        core.violation("5.4", "an event buffer is device-readable", queue.index);
        break;
      }
      queue.pushUsed(id, this.#fill(this.#chain, member));
      moved++;
    }
    if (moved > 0) queue.publish();
    else queue.suppress();
    return moved;
  }

  /** Fills one buffer with as many events as fit. @returns the used length */
  #fill(chain: Chain, { core, events }: IsmMember): number {
    const room = Math.min(chain.writableBytes, EVENT_BUFFER_BYTES);
    let length = 0;
    for (let event = events.first(); event !== undefined; event = events.first()) {
      const bytes = ISM_EVENTS[event.type].layout.sizeBytes;
      if (length + bytes > room) break;
      this.#encode(event, length);
      events.remove(event);
      length += bytes;
    }
    if (length === 0) {
      const most = ISM_EVENTS.attach.layout.sizeBytes;
      core.report(
        "5.4",
        `an event buffer of ${chain.writableBytes} bytes, the largest event has ${most}`,
        ISM_QUEUE.event,
      );
    }
    chain.write(this.#scratch.subarray(0, length));
    return length > 0 && this.#lies?.take("ism-short-event") ? length - SHORT_BY : length;
  }

  #encode({ type, ...fields }: IsmEvent, at: number): void {
    const { code, layout } = ISM_EVENTS[type];
    const ev_type = this.#lies?.take("ism-unknown-event") ? UNKNOWN_EVENT : code;
    layout.encodeInto(this.#scratch, at, { ev_type, ...fields });
  }
}
