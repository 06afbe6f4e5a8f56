/**
 * `ringside tvq FUNCTION list`
 *
 * @module
 */
import type { ManagedDeviceState } from "../../lib/emulation/mod.ts";
import { UnsupportedError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { describeStatus, deviceTypeName } from "../../lib/virtio/mod.ts";
import { hostRecords } from "../host_report.ts";
import { print, printJson, printTable } from "../output.ts";
import type { Of } from "../parser.ts";
import { drive, type MadeDevice, makeDevices } from "./looking.ts";

/** Lists devices: those that it makes, or those that another process of this emulated host has. */
export async function tvqList(host: Host, options: Of<"tvq list">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  if (options.devices.length === 0) {
    const { address } = host.describe(options.function);
    return tell(options, address, devicesOfHost(host, address), "host");
  }
  const { management, made } = await makeDevices(host, options, stack, options.devices);
  if (options.drive) { for (const one of made) await drive(one, options, stack); }
  const states = [];
  for (const one of made) states.push(await stateOf(management.name, one));
  tell(options, management.name, states, "function");
}

function tell(
  options: Of<"tvq list">,
  name: string,
  devices: readonly ManagedDeviceState[],
  source: string,
): void {
  if (options.json) return printJson({ function: name, source, devices });
  if (devices.length === 0) {
    print(`${name}: no managed devices`);
    return;
  }
  printTable(
    ["DEVICE", "TYPE", "STATUS", "FEATURES", "QUEUES", "ENABLED"],
    devices.map(({ id, deviceId, status, features, queues, enabled }) => [
      `${name}/${id}`,
      deviceTypeName(deviceId),
      describeStatus(status),
      features,
      `${queues}`,
      `${enabled}`,
    ]),
    { drop: [3], shrink: [2] },
  );
}

/** @throws UnsupportedError on a host that does not tell */
function devicesOfHost(host: Host, address: string): ManagedDeviceState[] {
  const devices = hostRecords<ManagedDeviceState>(host, "managed");
  if (devices !== undefined) return devices.filter((one) => one.function === address);
  throw new UnsupportedError(`only the process that drives ${address} knows of its managed devices`, {
    hint: "name devices, and they are made, listed, and ended",
  });
}

/** By commands, as the host tells it. */
async function stateOf(
  name: string,
  { device, transport: { queueCount: queues } }: MadeDevice,
): Promise<ManagedDeviceState> {
  let enabled = 0;
  for (let queue = 0; queue < queues; queue++) if (await device.queueEnabled(queue)) enabled++;
  return {
    function: name,
    id: `${device.id}`,
    deviceId: device.type,
    status: await device.status(),
    features: `0x${(await device.driverFeatures()).toString(16)}`,
    queues,
    enabled,
  };
}
