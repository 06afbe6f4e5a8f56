/**
 * The devices that a command works on: functions, and managed devices that are made for the command.
 *
 * @module
 */
import type { Host } from "../lib/host/mod.ts";
import { openTransport, type VirtioTransport } from "../lib/virtio/mod.ts";
import { openOptions, transportOptions } from "./opening.ts";
import type { Of } from "./parser.ts";
import { parseDevice } from "./tvq/device_text.ts";
import { type Management, type OpeningManagement, openManagement } from "./tvq/management.ts";

/** Options of every command that reaches a virtio device. */
export type Reaching = OpeningManagement & Pick<Of<"rng">, "function">;

/** Whether a name is that of a managed device: `05:00.0/net`. */
export function isManaged(name: string): boolean {
  return name.includes("/");
}

/** Reaches the virtio device of a name; `stack` closes it with all below it. */
export async function reach(
  host: Host,
  options: Reaching,
  stack: AsyncDisposableStack,
  name: string = options.function,
): Promise<VirtioTransport> {
  const [transport] = await reachAll(host, options, stack, [name]);
  return transport!;
}

/** As `reach`, of several: managed devices of one function are made by one management device. */
export async function reachAll(
  host: Host,
  options: Reaching,
  stack: AsyncDisposableStack,
  names: readonly string[],
): Promise<VirtioTransport[]> {
  // A name that is none changes nothing.
  const wanted = names.map((name) => {
    const slash = name.indexOf("/");
    if (slash < 0) return { function: name };
    return { function: name.slice(0, slash), device: parseDevice(name.slice(slash + 1)) };
  });
  const managements = new Map<string, Management>();
  const reached: VirtioTransport[] = [];
  for (const { function: name, device } of wanted) {
    if (device === undefined) {
      const how = openOptions(options);
      const opened = stack.use(host.openVhostUser?.(name, how) ?? host.open(name, how));
      reached.push(stack.use(openTransport(opened, transportOptions(opened, options))));
      continue;
    }
    const { address } = host.describe(name);
    let management = managements.get(address);
    if (management === undefined) {
      management = await openManagement(host, options, stack, address);
      managements.set(address, management);
    }
    reached.push(stack.use(management.transport(await management.create(device), device)));
  }
  return reached;
}
