/**
 * The seam `DeviceModel`: what a virtio device does, behind whatever front carries its registers.
 *
 * @module
 */
import type { DeviceQueue } from "./device_queue.ts";

/** Something that a driver did and that the standard forbids, or that a device model could not carry out. */
export interface Violation {
  readonly function: string;
  /** Virtqueue, when it concerns one. */
  readonly queue?: number;
  /** Rule id of the protocol reference, or a section of the standard. */
  readonly rule: string;
  readonly message: string;
}

/** What the front offers its model. */
export interface DeviceFront {
  /** PCI address of the function. */
  readonly name: string;
  /** Features that were negotiated; 0 before FEATURES_OK. */
  readonly negotiatedFeatures: bigint;
  /** True between DRIVER_OK and reset. */
  readonly live: boolean;
  /** The enabled queue, or undefined. */
  queue(index: number): DeviceQueue | undefined;
  /** The model changed its config space: bump the generation, raise the config interrupt. */
  configChanged(): void;
  /** Reports, sets DEVICE_NEEDS_RESET and stops the device. */
  violation(rule: string, message: string, queue?: number): void;
}

/** A virtio device's behaviour. */
export interface DeviceModel {
  /** Virtio device id. */
  readonly deviceId: number;
  /** Feature bits of the device type (0–23, 50–63) that it offers; the front adds ring and transport bits. */
  readonly features: bigint;
  /** Number of queues, and the largest size of each. */
  readonly queueSizes: readonly number[];
  readonly configSizeBytes: number;
  /** Class code of the PCI function that carries it. */
  readonly classCode: number;

  /** Called once, before anything else. */
  connect(front: DeviceFront): void;
  readConfig(offset: number, into: Uint8Array): void;
  /** Ignored by devices without writable fields. */
  writeConfig(offset: number, from: Uint8Array): void;
  /** DRIVER_OK was set: queues and features are final. */
  start(): void;
  /** Device reset or client gone: forget everything of the driver. */
  reset(): void;
  /** The driver notified this queue. Work is done in `poll`. */
  notified(queue: number): void;
  /** Does pending work of all queues, at most `budget` buffers. @returns how many were moved; 0 means idle. */
  poll(budget: number): number;
  /** Before sleeping: ask for notifications on every queue. @returns true when work arrived meanwhile. */
  arm(): boolean;
}
