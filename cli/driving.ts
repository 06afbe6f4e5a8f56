/**
 * What the `net` commands share: functions opened and driven.
 *
 * @module
 */
import type { NetDevice } from "../drivers/net/api/net_device.ts";
import type { IgbNet } from "../drivers/net/igb/igb_net.ts";
import { UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { type OwnDriver, ownDriver } from "./driver_tables.ts";
import { openOptions } from "./opening.ts";
import { remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { isManaged, reachAll, type Reaching } from "./reaching.ts";

type Driving = Reaching & Pick<Of<"net send">, "interrupts" | "queueSize">;

/** How long a link that is negotiated is waited for. */
const LINK_MS = 5000;

/** Opens the function that a command is about, by the driver of its vendor and device; `stack` closes it with all below it. */
export async function openNet(
  host: Host,
  options: Driving,
  stack: AsyncDisposableStack,
): Promise<NetDevice> {
  const [net] = await openNets(host, options, stack, [options.function]);
  return net!;
}

/** As `openNet`, of several. */
export async function openNets(
  host: Host,
  options: Driving,
  stack: AsyncDisposableStack,
  names: readonly string[],
): Promise<NetDevice[]> {
  const { interrupts, queueSize } = options;
  const drivers = names.map((name) =>
    host.openVhostUser !== undefined || isManaged(name) ? undefined : driverOf(host, name)
  );
  const opened = new Map<string, NetDevice>();
  // VFs are served by their PF, which comes first.
  for (const driver of ["igb", "igbvf"] as const) {
    for (const name of names.filter((_, at) => drivers[at] === driver)) {
      opened.set(name, await openIgb(host, options, stack, name, driver));
    }
  }
  const others = names.filter((_, at) => drivers[at] === undefined);
  if (others.length > 0) {
    const { VirtioNet } = await import("../drivers/net/virtio_net.ts");
    for (const [at, transport] of (await reachAll(host, options, stack, others)).entries()) {
      opened.set(others[at]!, stack.use(await VirtioNet.open(transport, { interrupts, queueSize })));
    }
  }
  return names.map((name) => opened.get(name)!);
}

function driverOf(host: Host, name: string): OwnDriver | undefined {
  const about = host.describe(name);
  return about.bus === "pci" ? ownDriver(about) : undefined;
}

/** Opens a function of the 82576; a PF serves the VFs that it has. */
async function openIgb(
  host: Host,
  options: Driving,
  stack: AsyncDisposableStack,
  name: string,
  driver: OwnDriver,
): Promise<NetDevice> {
  const { interrupts, queueSize } = options;
  if (interrupts !== "auto" && interrupts !== "msix" && interrupts !== "none") {
    throw new UsageError(`${name} cannot be driven by ${interrupts}`, { hint: "--interrupts msix or none" });
  }
  const how = { queueSize, interrupts: interrupts === "none" ? interrupts : "msix" } as const;
  const device = stack.use(host.open(name, openOptions(options)));
  let net: IgbNet;
  if (driver === "igbvf") {
    const { IgbVf } = await import("../drivers/net/igb/igbvf.ts");
    net = stack.use(await IgbVf.open(device, how));
  } else {
    const { Igb } = await import("../drivers/net/igb/igb.ts");
    const vfs = host.describe(name).sriov?.numVfs ?? 0;
    const pf = net = stack.use(await Igb.open(device, { ...how, vfs }));
    const serving = vfs === 0 ? undefined : pf.serveVfs();
    // What goes wrong with it is told when the command ends.
    serving?.catch(() => {});
    stack.defer(() => {
      pf.close();
      return serving;
    });
  }
  if (!(await net.waitLink(LINK_MS))) remark(`${net.name}: its link is down`);
  return net;
}
