/**
 * `ringside tvq FUNCTION features DEVICE`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { describeStatus, featureName } from "../../lib/virtio/mod.ts";
import { print, printJson, printTable } from "../output.ts";
import type { Of } from "../parser.ts";
import { deviceReport, deviceText, lookAt } from "./looking.ts";

/** Shows a device's features: asked for, offered, shown to a driver, accepted; and its status. */
export async function tvqFeatures(host: Host, options: Of<"tvq features">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { owner, device, asked, transport } = await lookAt(host, options, stack);
  const status = await device.status();
  const sets = {
    asked,
    offered: await device.features(),
    shown: transport.readDeviceFeatures(),
    accepted: await device.driverFeatures(),
  };
  const has = (set: bigint, bit: number) => (set >> BigInt(bit) & 1n) === 1n;
  const all = Object.values(sets).reduce((sum, one) => sum | one, 0n);
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => has(all, bit));
  const names = bits.map((bit) => ({ bit, name: featureName(bit, device.type, transport.profile) }));
  if (options.json) {
    const hex = Object.entries(sets).map(([name, set]) => [name, `0x${set.toString(16)}`]);
    return printJson({
      function: owner,
      ...deviceReport(device),
      status,
      statusNames: describeStatus(status),
      ...Object.fromEntries(hex),
      features: names,
    });
  }
  print(`${deviceText(device)}, status ${describeStatus(status)}`);
  const cells = (bit: number) => Object.values(sets).map((set) => has(set, bit) ? "yes" : "-");
  printTable(
    ["BIT", "FEATURE", "ASKED FOR", "OFFERED", "SHOWN", "ACCEPTED"],
    names.map(({ bit, name }) => [`${bit}`, name, ...cells(bit)]),
    { drop: [4], shrink: [1] },
  );
}
