/**
 * Managed devices that a command makes, looks at, and lets end.
 *
 * @module
 */
import { VirtioBlk } from "../../drivers/blk/virtio_blk.ts";
import type { ManagedDevice } from "../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../drivers/rng/virtio_rng.ts";
import type { Host } from "../../lib/host/mod.ts";
import { DEVICE_ID, deviceTypeName, type VirtioTransport } from "../../lib/virtio/mod.ts";
import type { Of } from "../parser.ts";
import { type DeviceText, parseDevice } from "./device_text.ts";
import { type Management, type OpeningManagement, openManagement } from "./management.ts";

/** Options of commands that make devices. */
export type MakingDevices = OpeningManagement & Pick<Of<"tvq create">, "function" | "interrupts">;

/** A device that was made. */
export interface MadeDevice {
  /** PCI address of its management function. */
  readonly owner: string;
  readonly device: ManagedDevice;
  /** Features that CREATE asked for. */
  readonly asked: bigint;
  /** Where it goes on: for its driver, if it has one, and for looking at it. */
  readonly transport: VirtioTransport;
}

/** Makes devices; `stack` ends them. */
export async function makeDevices(
  host: Host,
  options: MakingDevices,
  stack: AsyncDisposableStack,
  texts: readonly string[],
): Promise<{ readonly management: Management; readonly made: readonly MadeDevice[] }> {
  // What cannot be read changes nothing.
  const wanted: DeviceText[] = texts.map(parseDevice);
  const { address } = host.describe(options.function);
  const management = await openManagement(host, options, stack, address);
  const made: MadeDevice[] = [];
  for (const one of wanted) {
    const device = await management.create(one);
    const transport = stack.use(management.transport(device, one));
    made.push({ owner: address, device, asked: management.asked(one), transport });
  }
  return { management, made };
}

/** Options of commands that look at one device. */
export type LookingAtDevice = MakingDevices & Pick<Of<"tvq show">, "device" | "drive">;

/** Makes one device, and brings it up if that is asked for; `stack` ends it. */
export async function lookAt(
  host: Host,
  options: LookingAtDevice,
  stack: AsyncDisposableStack,
): Promise<MadeDevice> {
  const { made: [one] } = await makeDevices(host, options, stack, [options.device]);
  if (options.drive) await drive(one!, options, stack);
  return one!;
}

/** Opens the driver of a device's type; `stack` closes it. */
export async function drive(
  { device, transport }: MadeDevice,
  { interrupts }: Pick<MakingDevices, "interrupts">,
  stack: AsyncDisposableStack,
): Promise<void> {
  switch (device.type) {
    case DEVICE_ID.net:
      return void stack.use(await VirtioNet.open(transport, { interrupts }));
    case DEVICE_ID.block:
      return void stack.use(await VirtioBlk.open(transport, { interrupts }));
    case DEVICE_ID.entropy:
      return void stack.use(VirtioRng.open(transport, { interrupts }));
  }
}

/** Which device, in JSON. */
export function deviceReport({ name, id, type }: ManagedDevice): Record<string, unknown> {
  return { device: name, id, type, typeName: deviceTypeName(type) };
}

/** `0000:05:00.0/1: network device`. */
export function deviceText({ name, type }: ManagedDevice): string {
  return `${name}: ${deviceTypeName(type)}`;
}
