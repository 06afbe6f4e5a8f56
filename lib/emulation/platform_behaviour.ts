/**
 * The seam between a platform device (interrupts, reset, the connection: the machine) and what stands behind its registers (the behaviour).
 *
 * A platform device has no configuration space and nothing to enumerate: one window of registers, which VFIO shows as region 0, an interrupt
 * line, and whatever firmware says of it.
 *
 * @module
 */
import type { DeviceBehaviour, DevicePort } from "./device_behaviour.ts";

/** What the machine offers to the behaviour of a platform device, from `connect` to `close`. */
export interface PlatformPort extends DevicePort {
  /** Where the window begins on the platform. */
  readonly windowAddress: bigint;
  /** Sets the level of the interrupt line. The machine masks and resends as VFIO's automasking asks for. */
  setLine(asserted: boolean): void;
  /** Messages that reach the interrupt controller are raised as vectors; one that nobody listens to is lost. */
  raiseMessage(vector: number): void;
}

/**
 * What stands behind the registers of a platform device. Accesses lie inside the window and never cross its end; width and alignment are the
 * client's and are not checked. A `RingsideError` thrown by an access becomes an error reply to the client.
 */
export interface PlatformBehaviour extends DeviceBehaviour {
  /** What firmware calls it: `virtio,mmio`. */
  readonly compatible: string;
  /** Virtio device id, for what the kernel's driver makes of it. */
  readonly deviceId: number;
  /** Bytes of the window. */
  readonly windowBytes: number;
  /** Interrupt messages that its driver can receive; 0: it sends none. */
  readonly messages: number;

  /** Called once. From now on it may own descriptors and take its place in a switch. */
  connect(port: PlatformPort): void;
  /** Fills `into` from the window. */
  readWindow(offset: number, into: Uint8Array): void;
  /** Takes `from`, which is only valid during the call, into the window. */
  writeWindow(offset: number, from: Uint8Array): void;
}
