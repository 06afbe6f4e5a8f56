/**
 * Migration as a server carries it out: DEVICE_FEATURE 1 and 2, MIG_DATA_READ and MIG_DATA_WRITE. States and what leads from one to
 * the other are those of the kernel's migration protocol, version 2; PRE_COPY and the P2P states are not offered.
 *
 * @module
 */
import { deviceFeature, FEATURE_FLAG } from "../../../vfio/kernel/abi.ts";
import { LIMIT, MIGRATION_FLAG, MIGRATION_STATE, migrationData, migrationState } from "../protocol.ts";
import { decodeRequest, RequestRefused } from "./refusal.ts";
import type { ServedMigration } from "./served_device.ts";

const FEATURE = { migration: 1, deviceState: 2 } as const;
const { error, stop, running, stopCopy, resuming } = MIGRATION_STATE;
const NO_FD = 0xffff_ffff;
const NOTHING = new Uint8Array(0);

/** Of one connection. */
export class ServerMigration {
  readonly #device: ServedMigration | undefined;
  #state: number = running;
  /** STOP_COPY: the state, and how much of it was read. RESUMING: what has been written up to the position, and room for more. */
  #data: Uint8Array = NOTHING;
  #position = 0;

  /** For a device that runs. @param device undefined when it cannot be moved */
  constructor(device: ServedMigration | undefined) {
    this.#device = device;
  }

  /** The device was reset: it runs. */
  reset(): void {
    this.#enter(running, NOTHING);
  }

  #enter(state: number, data: Uint8Array): void {
    this.#state = state;
    this.#data = data;
    this.#position = 0;
  }

  /** One DEVICE_FEATURE message. @returns the reply's payload @throws RequestRefused */
  feature(payload: Uint8Array): Uint8Array<ArrayBuffer> {
    const { argsz, flags } = decodeRequest(deviceFeature, payload, "DEVICE_FEATURE");
    const feature = flags & 0xffff;
    // No other feature of the kernel's list has a meaning here; ENOTTY is what the kernel says of one that a device lacks.
    if (this.#device === undefined || (feature !== FEATURE.migration && feature !== FEATURE.deviceState)) {
      throw new RequestRefused("ENOTTY", `DEVICE_FEATURE: feature ${feature} is not there`);
    }
    const [get, set, probe] = [FEATURE_FLAG.get, FEATURE_FLAG.set, FEATURE_FLAG.probe].map((bit) =>
      (flags & bit) !== 0
    );
    if ((set && feature === FEATURE.migration) || (!get && !set && !probe) || (get && set && !probe)) {
      throw refuse("EINVAL", `flags 0x${flags.toString(16)}`);
    }
    if (probe) return deviceFeature.encode({ argsz, flags });
    const size = deviceFeature.sizeBytes + 8;
    if (argsz < size) throw refuse("EINVAL", `argsz ${argsz} of ${size}`);
    const reply = deviceFeature.encode({ argsz: size, flags }, 8);
    if (feature === FEATURE.migration) {
      reply[deviceFeature.sizeBytes] = MIGRATION_FLAG.stopCopy;
      return reply;
    }
    if (set) {
      if (payload.byteLength < size) throw refuse("EINVAL", `${payload.byteLength} of ${size} bytes`);
      this.#go(migrationState.decode(payload.subarray(deviceFeature.sizeBytes)).deviceState);
    }
    migrationState.encodeInto(reply, deviceFeature.sizeBytes, { deviceState: this.#state, dataFd: NO_FD });
    return reply;
  }

  /** From state to state, by way of STOP where there is no shorter one. */
  #go(to: number): void {
    if (![stop, running, stopCopy, resuming].some((one) => one === to)) {
      throw refuse("EINVAL", `device_state ${to} is not offered`);
    }
    if (this.#state === error) throw refuse("EIO", "the device is in its error state: reset it");
    if (this.#state === to) return;
    if (this.#state !== stop) this.#toStop();
    const device = this.#moved();
    if (to === running) {
      device.setStopped(false);
      this.#enter(running, NOTHING);
    } else if (to === stopCopy) this.#enter(stopCopy, device.save());
    else if (to === resuming) this.#enter(resuming, NOTHING);
  }

  #moved(): ServedMigration {
    if (this.#device === undefined) throw refuse("ENOTSUP", "the device cannot be moved");
    return this.#device;
  }

  #header(payload: Uint8Array): { argsz: number; size: number } {
    this.#moved();
    if (payload.byteLength < migrationData.sizeBytes) throw refuse("EINVAL", `${payload.byteLength} bytes`);
    return migrationData.decode(payload);
  }

  #toStop(): void {
    if (this.#state === running) this.#moved().setStopped(true);
    const [was, data] = [this.#state, this.#data.subarray(0, this.#position)];
    this.#enter(stop, NOTHING);
    if (was !== resuming) return;
    try {
      this.#moved().load(data);
    } catch (failure) {
      // A device that got half of what it needs must not run.
      this.#state = error;
      throw failure;
    }
  }

  /** MIG_DATA_READ. @returns the reply's payload, without data at the end of the state @throws RequestRefused */
  read(payload: Uint8Array, mostBytes: number): Uint8Array<ArrayBuffer> {
    const { argsz, size } = this.#header(payload);
    if (this.#state !== stopCopy) throw refuse("EINVAL", "the device is not in STOP_COPY");
    if (size > mostBytes || argsz < migrationData.sizeBytes + size) {
      throw refuse("EINVAL", `size ${size}, argsz ${argsz}`);
    }
    const data = this.#data.subarray(this.#position, this.#position + size);
    this.#position += data.byteLength;
    const values = { argsz: migrationData.sizeBytes + data.byteLength, size: data.byteLength };
    return migrationData.encode(values, data);
  }

  /** MIG_DATA_WRITE. @throws RequestRefused */
  write(payload: Uint8Array): void {
    const { size } = this.#header(payload);
    if (this.#state !== resuming) throw refuse("EINVAL", "the device is not in RESUMING");
    const data = payload.subarray(migrationData.sizeBytes);
    if (data.byteLength !== size) throw refuse("EINVAL", `${data.byteLength} bytes with size ${size}`);
    const end = this.#position + size;
    if (end > LIMIT.migrationBytes) {
      throw refuse("ENOSPC", `more than ${LIMIT.migrationBytes} bytes of state`);
    }
    // Doubled: a client that writes byte by byte must not make this copy all of it each time.
    if (end > this.#data.byteLength) {
      const larger = new Uint8Array(Math.max(2 * this.#data.byteLength, end));
      larger.set(this.#data);
      this.#data = larger;
    }
    this.#data.set(data, this.#position);
    this.#position = end;
  }
}

function refuse(code: string, text: string): RequestRefused {
  return new RequestRefused(code, `migration: ${text}`);
}
