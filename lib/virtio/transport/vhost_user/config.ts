/**
 * The configuration of a device behind vhost-user: GET_CONFIG as a whole, and what is known without it.
 *
 * @module
 */
import type { FrontEndChannel } from "../../../sockets/vhost_user/client/channel.ts";
import type { VhostUserDevice } from "../../../sockets/vhost_user/client/device.ts";
import {
  CONFIG_FLAG,
  configMessage,
  LIMIT,
  PROTOCOL_FEATURE,
  REQUEST,
} from "../../../sockets/vhost_user/protocol.ts";
import { FIELD_BYTES } from "../../../wire/mod.ts";
import { DEVICE_ID } from "../../spec/device_id.ts";
import { deviceType } from "../../spec/device_types.ts";
import { NET_CONFIG, NET_STATUS } from "../../spec/net.ts";

const { mac0, status, max_virtqueue_pairs } = NET_CONFIG.fields;

/** The bytes as they were read last. The back end tells of changes, or the driver looks for them by the generation. */
export class VhostUserConfig {
  readonly #device: VhostUserDevice;
  readonly #pairs: number;
  #bytes: Uint8Array<ArrayBuffer>;
  #generation = 0;
  /** What was written, by offset: for a back end that comes back. */
  readonly #written = new Map<number, Uint8Array<ArrayBuffer>>();

  /** Reads it. @param pairs of a network device, where nothing else says it @throws as `VhostUserDevice.use` */
  constructor(device: VhostUserDevice, pairs: number) {
    this.#device = device;
    this.#pairs = pairs;
    this.#bytes = this.#find();
  }

  /** 0 where nothing is known of it. */
  get sizeBytes(): number {
    return this.#bytes.length;
  }

  /** The back end's own, by messages. */
  get #served(): boolean {
    return this.#device.has(PROTOCOL_FEATURE.CONFIG);
  }

  /** Reads it anew, unless the back end is lost. @returns a number that is another one when something has changed @throws as `VhostUserDevice.use` */
  generation(): number {
    if (this.#served && this.sizeBytes > 0) {
      const now = this.#get(this.sizeBytes, false);
      if (now !== undefined && now.some((byte, at) => byte !== this.#bytes[at])) {
        this.#bytes = now;
        this.#generation = (this.#generation + 1) & 0xff;
      }
    }
    return this.#generation;
  }

  /** A field, as it was read last. */
  read(offset: number, width: 1 | 2 | 4): number {
    const view = new DataView(this.#bytes.buffer);
    if (width === 1) return view.getUint8(offset);
    return width === 2 ? view.getUint16(offset, true) : view.getUint32(offset, true);
  }

  /** @throws as `VhostUserDevice.use`, DeviceError when the back end refuses it */
  write(offset: number, width: 1 | 2 | 4, value: number): void {
    const bytes = new Uint8Array(width);
    const view = new DataView(bytes.buffer);
    if (width === 1) view.setUint8(0, value);
    else if (width === 2) view.setUint16(0, value, true);
    else view.setUint32(0, value, true);
    if (this.#served) this.#put(offset, bytes);
    this.#written.set(offset, bytes);
    this.#bytes.set(bytes, offset);
  }

  /** What the driver wrote is void: the device is reset. */
  forget(): void {
    this.#written.clear();
  }

  /** Writes again what was written. @throws as `write` */
  repeat(): void {
    if (this.#served) { for (const [offset, bytes] of this.#written) this.#put(offset, bytes); }
  }

  #put(offset: number, data: Uint8Array): void {
    const head = configMessage.encode({ offset, sizeBytes: data.length, flags: CONFIG_FLAG.writable });
    this.#device.use((channel) => channel.tell(REQUEST.setConfig, head, { data }));
  }

  /** The longest configuration that the back end gives: nothing says how long it is, and some refuse to give what they have not. */
  #find(): Uint8Array<ArrayBuffer> {
    const { deviceId, mac } = this.#device;
    if (!this.#served) return this.#madeUp();
    const ends = Object.values(deviceType(deviceId)?.config ?? {})
      .map(({ offset, type }) => offset + FIELD_BYTES[type])
      .filter((end) => end <= LIMIT.configBytes);
    for (const sizeBytes of [...new Set(ends)].sort((a, b) => b - a)) {
      const bytes = this.#get(sizeBytes);
      if (bytes === undefined) continue;
      if (deviceId === DEVICE_ID.net && mac !== undefined) bytes.set(mac, mac0.offset);
      return bytes;
    }
    return this.#madeUp();
  }

  /** Of a network device address, link and queue pairs are enough. */
  #madeUp(): Uint8Array<ArrayBuffer> {
    const { deviceId, mac } = this.#device;
    if (deviceId !== DEVICE_ID.net) return new Uint8Array(0);
    const bytes = new Uint8Array(max_virtqueue_pairs.offset + 2);
    const view = new DataView(bytes.buffer);
    if (mac !== undefined) bytes.set(mac, mac0.offset);
    view.setUint16(status.offset, NET_STATUS.linkUp, true);
    view.setUint16(max_virtqueue_pairs.offset, this.#pairs, true);
    return bytes;
  }

  /** @param waits for a back end that is lost @returns undefined when it refuses, or gives less, or is not waited for */
  #get(sizeBytes: number, waits = true): Uint8Array<ArrayBuffer> | undefined {
    const request = configMessage.encode({ offset: 0, sizeBytes, flags: CONFIG_FLAG.writable }, sizeBytes);
    const ask = (channel: FrontEndChannel): Uint8Array<ArrayBuffer> | undefined => {
      const reply = channel.ask(REQUEST.getConfig, request);
      // Refusals have a head of zeroes, or nothing at all.
      if (reply.length !== configMessage.sizeBytes + sizeBytes) return undefined;
      const head = configMessage.decode(reply);
      if (head.sizeBytes === 0) return undefined;
      if (head.offset !== 0 || head.sizeBytes !== sizeBytes) {
        throw channel.malformed(
          `reply to GET_CONFIG: it is about ${head.sizeBytes} bytes from ${head.offset} on, ${sizeBytes} from 0 on were asked for`,
        );
      }
      return reply.slice(configMessage.sizeBytes);
    };
    return waits ? this.#device.use(ask) : this.#device.useIfThere(ask);
  }
}
