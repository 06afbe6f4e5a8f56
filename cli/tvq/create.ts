/**
 * `ringside tvq FUNCTION create` and `destroy`
 *
 * @module
 */
import type { ManagementResources } from "../../drivers/management/virtio_management.ts";
import type { Host } from "../../lib/host/mod.ts";
import { interrupted, interruption } from "../interruption.ts";
import { countText, print, printJson, printTable, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { deviceReport, deviceText, makeDevices } from "./looking.ts";
import { resourcesText } from "./resources.ts";

/** Creates devices, and keeps them if that is asked for. */
export async function tvqCreate(host: Host, options: Of<"tvq create">): Promise<void> {
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const { management: { name, driver }, made } = await makeDevices(host, options, stack, options.devices);
  const resources = await driver.resources();
  if (options.json) {
    printJson({ function: name, devices: made.map(({ device }) => deviceReport(device)), resources });
  } else {
    for (const { device } of made) print(deviceText(device));
    print(resourcesText(resources));
  }
  if (!options.hold) {
    return remark(`they end with this command: a closed function is reset; --hold keeps them`);
  }
  remark(`${countText(made.length, "device")} held until interrupted`);
  await interrupted(stop, () => driver.resources());
}

/** Creates devices and destroys them one by one: what they took is there again. */
export async function tvqDestroy(host: Host, options: Of<"tvq destroy">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { management: { name, driver }, made } = await makeDevices(host, options, stack, options.devices);
  const created = await driver.resources();
  const left: ManagementResources[] = [];
  for (const { device } of made) {
    await driver.destroy(device.id);
    left.push(await driver.resources());
  }
  if (options.json) {
    const destroyed = made.map(({ device }, at) => ({ ...deviceReport(device), resources: left[at] }));
    return printJson({ function: name, resources: created, destroyed });
  }
  const row = (what: string, { queues, devices }: typeof created) => [what, `${queues}`, `${devices}`];
  printTable(
    ["AFTER", "VIRTQUEUES LEFT", "DEVICES LEFT"],
    [
      row(`create ${options.devices.join(" ")}`, created),
      ...made.map(({ device }, at) => row(`destroy ${device.name}`, left[at]!)),
    ],
    { drop: [], shrink: [0] },
  );
}
