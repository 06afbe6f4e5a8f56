/**
 * `ringside tvq FUNCTION queues DEVICE` and `notify-area DEVICE`
 *
 * @module
 */
import type { MsiSettings, NotifyArea } from "../../drivers/management/virtio_management.ts";
import type { Host } from "../../lib/host/mod.ts";
import { type BaseAddress, decodeBaseAddresses } from "../../lib/pci/base_address.ts";
import { print, printJson, printTable } from "../output.ts";
import type { Of } from "../parser.ts";
import { deviceReport, deviceText, lookAt, type MadeDevice } from "./looking.ts";

/** A queue, by the commands that are about it. */
export interface QueueReport {
  readonly queue: number;
  /** The most that it can have, or that it has. */
  readonly size: number;
  readonly enabled: boolean;
  /** What its interrupt is, as the driver has set it: no command reads it. */
  readonly msi: { readonly address: string } & Omit<MsiSettings, "address">;
}

/** Shows a device's queues. */
export async function tvqQueues(host: Host, options: Of<"tvq queues">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const made = await lookAt(host, options, stack);
  const queues = await readQueues(made);
  const { configMsi } = made.device;
  if (options.json) {
    return printJson({
      function: made.owner,
      ...deviceReport(made.device),
      queues,
      configMsi: msiReport(configMsi),
    });
  }
  print(`${deviceText(made.device)}, interrupt of the configuration ${msiText(configMsi)}`);
  printQueues(queues);
}

/** As a table. */
export function printQueues(queues: readonly QueueReport[]): void {
  printTable(
    ["QUEUE", "SIZE", "ENABLED", "INTERRUPT"],
    queues.map(({ queue, size, enabled, msi: { address, ...msi } }) => [
      `${queue}`,
      `${size}`,
      enabled ? "yes" : "no",
      msiText({ address: BigInt(address), ...msi }),
    ]),
    { drop: [], shrink: [3] },
  );
}

/** Asks for all of them. */
export async function readQueues({ device, transport: { queueCount } }: MadeDevice): Promise<QueueReport[]> {
  const queues: QueueReport[] = [];
  for (let queue = 0; queue < queueCount; queue++) {
    const [size, enabled] = [await device.queueSize(queue), await device.queueEnabled(queue)];
    queues.push({ queue, size, enabled, msi: msiReport(device.queueMsi(queue)) });
  }
  return queues;
}

function msiReport({ address, ...rest }: MsiSettings): QueueReport["msi"] {
  return { address: `0x${address.toString(16)}`, ...rest };
}

function msiText({ address, data, enabled, masked }: MsiSettings): string {
  if (!enabled) return "disabled";
  return `message ${data} to 0x${address.toString(16)}${masked ? ", masked" : ""}`;
}

/** Shows where a device's queues are notified. */
export async function tvqNotifyArea(host: Host, options: Of<"tvq notify-area">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { owner, device, transport: { queueCount } } = await lookAt(host, options, stack);
  const bars = barsOf(host, owner);
  const areas = [];
  for (let queue = 0; queue < queueCount; queue++) {
    const area = await device.notifyArea(queue);
    areas.push({
      queue,
      address: `0x${area.address.toString(16)}`,
      bytes: area.sizeBytes,
      ...placeOf(area, bars),
    });
  }
  if (options.json) return printJson({ function: owner, ...deviceReport(device), areas });
  print(`${deviceText(device)}; a notification is 16 bits, the queue's number`);
  printTable(
    ["QUEUE", "ADDRESS", "BYTES", "BAR", "OFFSET"],
    areas.map(({ queue, address, bytes, bar, offset }) => [
      `${queue}`,
      address,
      `${bytes}`,
      bar === null ? "none of the function's" : `${bar}`,
      offset ?? "",
    ]),
    { drop: [], shrink: [] },
  );
}

const BAR0_OFFSET = 0x10;
const BARS = 6;

function barsOf(host: Host, address: string): BaseAddress[] {
  const config = new DataView(host.readConfig(address).buffer);
  return decodeBaseAddresses((at) => config.getUint32(at, true), BAR0_OFFSET, BARS, host.barSizes(address));
}

function placeOf(
  { address }: NotifyArea,
  bars: readonly BaseAddress[],
): { bar: number | null; offset: string | null } {
  const bar = bars.find(({ space, address: from, sizeBytes }) =>
    space === "memory" && address >= from && address < from + BigInt(sizeBytes)
  );
  if (bar === undefined) return { bar: null, offset: null };
  return { bar: bar.index, offset: `0x${(address - bar.address).toString(16)}` };
}
